"""Picture files are read exactly, other programs read the written ones, and lost data are reported."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import pyvips
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin, features
from PIL.TiffImagePlugin import IFDRational

from rgt_arch.errors import UsageError, UserError
from rgt_arch.inference.pictures.picture import DPI, EXIF, PROFILE, TEXT, XMP, Picture
from rgt_arch.inference.pictures.reading import picture_pixels, read_picture
from rgt_arch.inference.pictures.writing import check_writable, write_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_ICC = SRGB[:16] + b"GRAY" + SRGB[20:]  # enough of a profile where it is only copied
CMYK_ICC = SRGB[:16] + b"CMYK" + SRGB[20:]
DTYPES = {"8": np.uint8, "16": np.uint16}
GAMMA_1 = (b"gAMA", struct.pack(">I", 100000))


def noise(channels: int, dtype: Any, height: int = 9, width: int = 13) -> NDArray[Any]:
    """Random samples, so that swapped channels, rows or bytes are detected."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(channels).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def smooth(channels: int, dtype: Any = np.uint8) -> NDArray[Any]:
    rows, columns = np.mgrid[0:64, 0:80]
    planes = [rows * 2 + 40, columns * 2 + 20, 200 - rows - columns, rows + columns + 60][:channels]
    pixels = np.stack(planes, -1) * (257 if dtype == np.uint16 else 1)
    return (pixels[..., 0] if channels == 1 else pixels).astype(dtype)


def png(pixels: NDArray[Any], colour_type: int, *chunks: tuple[bytes, bytes], depth: int = 16) -> bytes:
    """A PNG written without a library: pixels are (H, W, C) samples or, already packed, (H, bytes) rows."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packed = pixels.astype(">u2") if depth == 16 else pixels
    width = pixels.shape[1] * (8 // depth if depth < 8 else 1)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", width, len(pixels), depth, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *(chunk(*c) for c in chunks), chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def some_exif(orientation: int = 1, endian: str = "<") -> Image.Exif:
    exif = Image.Exif()
    exif.endian = endian
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.ImageDescription] = "a description that is longer than four bytes"
    exif[ExifTags.Base.Orientation] = orientation
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.ExifImageWidth] = 13
    inner[ExifTags.Base.ExifImageHeight] = 9
    inner[ExifTags.Base.ExposureTime] = (1, 250)
    inner[ExifTags.Base.MakerNote] = b"a maker's own notes, byte for byte"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[2] = (47.0, 22.0, 8.5)
    return exif


def with_thumbnail(exif: bytes, thumbnail: bytes) -> bytes:
    """EXIF data as from a camera: a second directory, with a JPEG, follows the first."""
    tiff = bytearray(exif.removeprefix(b"Exif\0\0"))
    assert tiff.startswith(b"II")
    (first,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, first)
    struct.pack_into("<I", tiff, first + 2 + 12 * count, len(tiff))
    directory = struct.pack("<HHHIIHHIII", 2, 0x201, 4, 1, len(tiff) + 30, 0x202, 4, 1, len(thumbnail), 0)
    return b"Exif\0\0" + bytes(tiff) + directory + thumbnail


def tags(exif: bytes | None) -> dict[str, Any]:
    assert exif is not None
    parsed = Image.Exif()
    parsed.load(exif)
    found = {f"{tag}": parsed[tag] for tag in parsed if tag not in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)}
    for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        found |= {f"{ifd.name}.{tag}": value for tag, value in parsed.get_ifd(ifd).items()}
    return found


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def texts(picture: Picture) -> dict[str, str]:
    items = picture.metadata.items()
    return {name.removeprefix(TEXT): value for name, value in items if name.startswith(TEXT)}


def save(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


# Reading


def _tiff(pixels: NDArray[Any], **options: Any) -> Callable[[Path], object]:
    """A writer of a TIFF by tifffile, in planes if `planarconfig` is "separate"."""
    stored = np.moveaxis(pixels, -1, 0) if options.get("planarconfig") == "separate" else pixels
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    extra = {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
    colours = "rgb" if channels > 2 else "minisblack"
    return lambda path: tifffile.imwrite(path, stored, **{"photometric": colours, **extra, **options})


def _palette(name: str, **options: Any) -> Callable[[Path], object]:
    image = Image.fromarray(INDICES).convert("P")
    image.putdata(list(INDICES.ravel()))
    image.putpalette(COLOURS.tobytes())
    return lambda path: image.save(path, name, **options)


def _with_alpha(*alpha: int) -> NDArray[Any]:
    return np.dstack([COLOURS[INDICES], np.array(alpha, np.uint8)[INDICES]])


INDICES = (np.arange(12, dtype=np.uint8) % 3).reshape(3, 4)
COLOURS = np.array([[250, 10, 20], [30, 240, 40], [50, 60, 230]], np.uint8)
BITS = noise(1, np.uint8) > 127
PLANES = {"planarconfig": "separate"}
DEFLATE = {"compression": "zlib", "predictor": True}
# The writer of each file, and the pixels that must be read from it.
FILES: dict[str, tuple[Callable[[Path], object], NDArray[Any]]] = {
    **{f"8 bits, {c}{s}": (partial(save, pixels=noise(c, np.uint8)), noise(c, np.uint8))
       for c in (1, 2, 3, 4) for s in (".png", ".tif")},
    **{f"16 bits, {c}.png": (partial(_write, content=png(noise(c, np.uint16).reshape(9, 13, c), kind, GAMMA_1)),
                             noise(c, np.uint16)) for kind, c in ((0, 1), (4, 2), (2, 3), (6, 4))},
    **{f"{c} in {order}{number}.tif": (_tiff(noise(c, np.uint16), byteorder=order, **more), noise(c, np.uint16))
       for c in (1, 2, 3, 4) for order in "<>" for number, more in enumerate(({}, DEFLATE))},
    **{f"planes of {c}.tif": (_tiff(noise(c, np.uint16), **PLANES), noise(c, np.uint16)) for c in (3, 4)},
    **{f"white is 0, {np.dtype(d)}.tif": (_tiff(noise(1, d), photometric="miniswhite"), np.iinfo(d).max - noise(1, d))
       for d in (np.uint8, np.uint16)},
    "two colours.png": (partial(save, pixels=BITS), BITS * np.uint8(255)),
    "two colours.tif": (partial(save, pixels=BITS, compression="group4"), BITS * np.uint8(255)),
    "palette.png": (_palette("PNG"), COLOURS[INDICES]),
    "palette.tif": (_palette("TIFF"), COLOURS[INDICES]),
    "palette, alpha.png": (_palette("PNG", transparency=bytes([0, 100, 255])), _with_alpha(0, 100, 255)),
    "palette, transparent.png": (_palette("PNG", transparency=2), _with_alpha(255, 255, 0)),
    "palette, transparent.gif": (_palette("GIF", transparency=1), _with_alpha(255, 0, 255)),
    "windows.bmp": (partial(save, pixels=noise(3, np.uint8)), noise(3, np.uint8)),
    "lossless.webp": (partial(save, pixels=noise(4, np.uint8), lossless=True, exact=True), noise(4, np.uint8)),
    "16 bits.ppm": (lambda path: cv2.imwrite(str(path), noise(3, np.uint16)[..., ::-1]), noise(3, np.uint16)),
    "ünï çode 写真.png": (partial(save, pixels=noise(3, np.uint8)), noise(3, np.uint8)),
    "two.dots .TIFF": (partial(save, pixels=noise(3, np.uint8)), noise(3, np.uint8)),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_programs_are_read_exactly(tmp_path: Path, name: str) -> None:
    write, expected = FILES[name]
    write(tmp_path / name)
    picture = read_picture(tmp_path / name)
    assert picture.pixels.dtype == expected.dtype
    seen = slice(None) if picture.channels < 4 or "palette" not in name else expected[..., 3] > 0
    assert np.array_equal(picture.pixels[seen], expected[seen])
    if picture.has_alpha:
        assert np.array_equal(picture.pixels[..., -1], expected[..., -1])
    assert picture_pixels(tmp_path / name) == expected.shape[0] * expected.shape[1]
    assert b"shape" not in (picture.metadata.get(EXIF) or b"")  # tifffile's description would be wrong for another size


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".avif"])
@pytest.mark.parametrize("bits", DTYPES)
def test_names_that_are_not_utf_8_are_read_and_written(tmp_path: Path, bits: str, suffix: str) -> None:
    path = tmp_path / os.fsdecode(b"\xff" + suffix.encode())
    assert write_picture(path, Picture(noise(3, DTYPES[bits]))) == []
    assert read_picture(path).pixels.shape == (9, 13, 3)
    assert picture_pixels(path) == (1 if suffix == ".avif" else 9 * 13)  # libvips cannot open it


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a8.png", "a16.png", "a8.tif", "a16.tif"])
def test_pictures_are_turned_upright(tmp_path: Path, name: str, orientation: int) -> None:
    path = tmp_path / name
    exif = some_exif(orientation)
    deep = "16" in name
    pixels = smooth(3, np.uint16 if deep else np.uint8)
    if name == "a16.png":
        path.write_bytes(png(pixels, 2, (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))))
    elif name == "a16.tif":
        tifffile.imwrite(path, pixels, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    else:
        Image.fromarray(pixels).save(path, exif=exif, **({"quality": 100} if name == "a.jpg" else {}))
    picture = read_picture(path)
    planes = [Image.fromarray((pixels[..., c] >> (8 if deep else 0)).astype(np.uint8)) for c in range(3)]
    wanted = Image.merge("RGB", planes)
    wanted.getexif()[ExifTags.Base.Orientation] = orientation
    expected = np.array(ImageOps.exif_transpose(wanted)).astype(int)
    got = (picture.pixels >> (8 if deep else 0)).astype(int)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= (6 if name == "a.jpg" else 0)
    if picture.metadata.get(EXIF):
        assert tags(picture.metadata.get(EXIF)).get(str(int(ExifTags.Base.Orientation)), 1) == 1


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_tall_pictures_are_turned_too(tmp_path: Path, suffix: str) -> None:
    """Decoders that return rows only in order would fail."""
    path = save(tmp_path / f"a{suffix}", np.zeros((3000, 40, 3), np.uint8), exif=some_exif(3))
    assert read_picture(path).pixels.shape == (3000, 40, 3)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_without_end_marker_is_read_and_jpeg_without_all_pixels_is_not(tmp_path: Path, progressive: bool) -> None:
    path = save(tmp_path / "a.jpg", noise(3, np.uint8, 64, 80), quality=95, progressive=progressive)
    whole, pixels = path.read_bytes(), read_picture(path).pixels
    path.write_bytes(whole[:-2])
    picture = read_picture(path)
    assert picture.notices == ("its end mark is missing, but all pixels are there",)
    np.testing.assert_array_equal(picture.pixels, pixels)
    for missing in (4, 10, 100, 2000):
        path.write_bytes(whole[:-missing])
        with pytest.raises(UserError, match="is truncated"):
            read_picture(path)


@pytest.mark.parametrize("bits", DTYPES)
def test_png_without_end_chunk_is_read_and_png_without_all_pixels_is_not(tmp_path: Path, bits: str) -> None:
    pixels = noise(3, DTYPES[bits])
    whole = png(pixels, 2, depth=int(bits))
    for missing in (12, 8, 4):  # 4: the checksum alone
        (tmp_path / "a.png").write_bytes(whole[:-missing])
        picture = read_picture(tmp_path / "a.png")
        np.testing.assert_array_equal(picture.pixels, pixels)
        assert ("its end mark is missing, but all pixels are there" in picture.notices) == (missing > 4)
    (tmp_path / "a.png").write_bytes(whole[:-30])
    with pytest.raises(UserError, match="is truncated"):
        read_picture(tmp_path / "a.png")


def test_cmyk_jpeg_of_adobe_becomes_rgb(tmp_path: Path) -> None:
    cmyk = Image.fromarray(smooth(3)).convert("CMYK")
    cmyk.save(tmp_path / "a.jpg", quality=100)  # Pillow writes the Adobe marker and inverted inks
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.metadata.get(PROFILE) is None
    assert "guess" in picture.notices[0]
    assert np.corrcoef(picture.pixels.ravel(), smooth(3).ravel())[0, 1] > 0.8


def cmyk_profile() -> bytes:
    """A small ICC profile: cyan ink prints orange, any other ink prints black, paper is white."""
    corners = np.zeros((2, 2, 2, 2, 3), np.uint8)  # indexed by C, M, Y, K; 8-bit Lab
    corners[..., :] = (0, 128, 128)
    corners[0, 0, 0, 0] = (255, 128, 128)
    corners[1, 0, 0, 0] = (178, 168, 198)
    line = bytes(range(256))
    unity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1" + struct.pack(">4xBBBx", 4, 3, 2) + unity + line * 4 + corners.tobytes() + line * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    table += b"\0" * (-len(table) % 4)
    tags_at = 128 + 4 + 2 * 12
    directory = struct.pack(">I4sII4sII", 2, b"A2B0", tags_at, len(table), b"wtpt", tags_at + len(table), len(white))
    size = tags_at + len(table) + len(white)
    header = struct.pack(">I4sI4s4s4s12x4s", size, b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp")
    header += b"\0" * (68 - len(header)) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + directory + table + white


@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_cmyk_is_converted_with_its_own_profile(tmp_path: Path, suffix: str) -> None:
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, 16:, 0] = 255
    path = tmp_path / f"a{suffix}"
    Image.fromarray(inks, mode="CMYK").save(path, icc_profile=cmyk_profile())
    picture = read_picture(path)
    assert picture.metadata.get(PROFILE) is None
    assert picture.notices == ()
    assert picture.pixels[8, 4].min() > 250
    red, green, blue = picture.pixels[8, 28]
    assert red > 200 > green > 100 > blue  # orange, not the (0, 255, 255) of a naive conversion


@pytest.mark.parametrize("profile", [True, False])
@pytest.mark.parametrize("layout", ["contig", "separate"])
@pytest.mark.parametrize("bits", DTYPES)
def test_channels_beside_cmyk_are_alpha_only_if_marked(tmp_path: Path, bits: str, layout: str, profile: bool) -> None:
    path, top = tmp_path / "a.tif", np.iinfo(DTYPES[bits]).max
    inks = np.zeros((4, 6, 5), DTYPES[bits])
    inks[:, 3:, 0], inks[..., 4] = top, top // 3
    options = {"photometric": "separated", "planarconfig": layout, "iccprofile": cmyk_profile() if profile else None}
    for extra, channels in ((["unassalpha"], 4), (["unspecified"], 3), (None, 3)):
        _tiff(inks, extrasamples=extra, **options)(path)
        picture = read_picture(path)
        assert picture.channels == channels
        assert picture.pixels.dtype == DTYPES[bits]
        assert picture.pixels[0, 0, :3].min() > top * 0.98
        assert picture.pixels[0, 4, :3].max() > 2 * picture.pixels[0, 4, :3].min()
        assert (channels < 4) == ("channels that are not marked as transparency" in picture.metadata)
        if channels == 4:
            assert (picture.pixels[..., 3] == top // 3).all()
    _tiff(inks[..., :4], **options)(path)  # the four inks are not reported as unmarked
    assert read_picture(path).metadata.keys() <= {EXIF, DPI}
    if bits == "16":
        _tiff(inks, extrasamples=["assocalpha"], **options)(path)
        with pytest.raises(UserError, match="save it as RGB"):
            read_picture(path)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg"])
def test_ycbcr_tiff_becomes_rgb(tmp_path: Path, compression: str) -> None:
    """libvips reads it as if it were RGB, unless it is JPEG."""
    for orientation, shown in ((1, smooth(3)), (6, np.rot90(smooth(3), -1))):
        image, path = Image.fromarray(smooth(3)).convert("YCbCr"), tmp_path / "a.tif"
        image.save(path, compression=compression, tiffinfo={274: orientation})
        picture = read_picture(path)
        np.testing.assert_allclose(picture.pixels.astype(int), shown, atol=12)  # JPEG of quality 75
        assert picture.metadata.keys() <= {EXIF}
    path.write_bytes((content := path.read_bytes())[: len(content) * 3 // 4])
    with pytest.raises(UserError, match=r"a\.tif: is truncated"):
        read_picture(path)


@pytest.mark.parametrize("space", ["lab", "labs"])
def test_lab_keeps_16_bits(tmp_path: Path, space: str) -> None:
    pixels = smooth(3, np.uint16) + np.uint16(77)
    pyvips.Image.new_from_array(pixels, interpretation="rgb16").colourspace(space).tiffsave(str(tmp_path / "a.tif"))
    got = read_picture(tmp_path / "a.tif").pixels
    assert got.dtype == np.uint16
    assert np.abs(got.astype(int) - pixels).max() < 129  # half a level of 8 bits


@pytest.mark.parametrize("bits", DTYPES)
def test_only_the_first_channel_after_the_colours_can_be_alpha(tmp_path: Path, bits: str) -> None:
    pixels = noise(5, DTYPES[bits])
    for extra, channels, name in (
        (["unassalpha", "unspecified"], 4, "channels after the transparency"),
        (["unspecified", "unassalpha"], 3, "channels that are not marked as transparency"),
    ):
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig="contig", extrasamples=extra)
        picture = read_picture(tmp_path / "a.tif")
        np.testing.assert_array_equal(picture.pixels, pixels[..., :channels])
        assert name in picture.metadata


@pytest.mark.parametrize("bits", DTYPES)
@pytest.mark.parametrize("channels", [2, 4])
def test_premultiplied_alpha_is_divided_out_of_the_colours(tmp_path: Path, channels: int, bits: str) -> None:
    top = np.iinfo(DTYPES[bits]).max
    straight = smooth(channels, DTYPES[bits]).astype(np.int64)
    straight[..., -1] = np.linspace(top // 3, top, 80).astype(np.int64)
    straight[0, 0] = 0
    multiplied = straight.copy()
    multiplied[..., :-1] = (straight[..., :-1] * straight[..., -1:] + top // 2) // top
    tifffile.imwrite(
        tmp_path / "a.tif",
        multiplied.astype(DTYPES[bits]),
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig",
        extrasamples=["assocalpha"],
    )
    assert np.abs(read_picture(tmp_path / "a.tif").pixels - straight).max() <= 3


def test_jpeg_2000_and_avif_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jp2"
    cv2.imwrite(str(path), smooth(3, np.uint16)[..., ::-1], [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    picture = read_picture(path)
    assert picture.pixels.dtype == np.uint16
    assert np.abs(picture.pixels.astype(int) - smooth(3, np.uint16)).max() < 600
    if features.check("avif"):
        save(tmp_path / "a.avif", smooth(3), quality=100, exif=some_exif(6))
        assert read_picture(tmp_path / "a.avif").pixels.shape == (80, 64, 3)


def test_pictures_above_pillows_limit_are_read_and_the_limit_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png", noise(3, np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    assert np.array_equal(read_picture(path).pixels, noise(3, np.uint8))
    assert Image.MAX_IMAGE_PIXELS == 20


# Unreadable files


def _bad_files(folder: Path) -> dict[str, str]:
    """Write unreadable files; return a part of the expected message by file name."""
    reasons = {}
    for suffix in (".png", ".jpg", ".tif", ".webp", ".gif", ".bmp"):
        whole = save(folder / f"whole{suffix}", noise(3, np.uint8, 60, 70)).read_bytes()
        (folder / f"cut{suffix}").write_bytes(whole[: len(whole) * 2 // 3])
        (folder / f"stub{suffix}").write_bytes(whole[:12])
        reasons |= {f"cut{suffix}": "truncated", f"stub{suffix}": "truncated"}
    frames = [Image.fromarray(noise(3, np.uint8)), Image.fromarray(smooth(3)[:9, :13].copy())]
    for suffix in (".gif", ".webp", ".png"):
        frames[0].save(folder / f"moving{suffix}", save_all=True, append_images=frames[1:])
        reasons[f"moving{suffix}"] = "animation of 2 frames"
    whole_png = png(smooth(3), 2, depth=8)
    damaged = bytearray((folder / "whole.png").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    lzw = save(folder / "lzw.tif", noise(3, np.uint8, 60, 70), compression="tiff_lzw").read_bytes()
    contents = {
        "damaged.png": (bytes(damaged), "damaged"),
        "damagedlzw.tif": (lzw[:3000] + b"\xff" * 900 + lzw[3900:], "damaged"),
        "cut16.png": (png(noise(3, np.uint16, 60, 70), 2)[:9000], "truncated"),
        "empty.png": (b"", "is empty"),
        "text.png": (b"hello", "not a picture"),
        "bad header.png": (bytes(whole_png[:30] + b"\0" + whole_png[31:]), "damaged"),
        "document.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        "a.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 50, "HEIC is not read"),
        "bomb.png": (_with_size(100_000, 100_000), "too many"),
    }
    for name, (content, reason) in contents.items():
        (folder / name).write_bytes(content)
        reasons[name] = reason
    tifffile.imwrite(folder / "float.tif", np.zeros((4, 4), np.float32))
    tifffile.imwrite(folder / "signed.tif", np.zeros((4, 4), np.int16))
    tifffile.imwrite(folder / "cfa.tif", np.zeros((4, 4), np.uint16), photometric=32803, extratags=[
        (33421, "H", 2, (2, 2), True), (33422, "B", 4, (0, 1, 1, 2), True)])  # fmt: skip
    tifffile.imwrite(
        folder / "planes.tif", np.zeros((2, 4, 4), np.uint8), photometric="minisblack", planarconfig="separate"
    )
    for name, options in BANDS.items():
        tifffile.imwrite(folder / name, np.zeros((4, 6, 4), np.uint8), **{"photometric": "minisblack", **options})
    tifffile.imwrite(folder / "raw.tif", smooth(3), photometric="rgb", subfiletype=1)
    Image.fromarray(smooth(3)).convert("RGB").convert("LAB").save(folder / "lab.tif")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    return reasons | {
        "folder.png": "not a regular file",
        "pipe.png": "not a regular file",
        "missing.png": "no such file",
        "float.tif": "32-bit samples of type float",
        "signed.tif": "16-bit samples of type short",
        "cfa.tif": "camera",
        "planes.tif": "grey and alpha in separate planes",
        "raw.tif": "camera",
        "inks.tif": "inks other than CMYK; save it as RGB",
        "lab.tif": "Lab colours in 8 bits",
        **{name: "has 4 channels that are not marked as RGB or CMYK; save it as" for name in BANDS if "bands" in name},
    }


BANDS: dict[str, dict[str, Any]] = {
    "bands.tif": {"planarconfig": "contig"},
    "bands, alpha.tif": {"planarconfig": "contig", "extrasamples": ["unspecified", "unspecified", "unassalpha"]},
    "inks.tif": {"photometric": "separated", "planarconfig": "contig", "extratags": [(332, "H", 1, 2, True)]},
}


def _with_size(width: int, height: int) -> bytes:
    content = bytearray(png(np.zeros((2, 2, 3), np.uint8), 2, depth=8))
    struct.pack_into(">II", content, 16, width, height)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    return bytes(content)


def test_unreadable_files_end_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name, reason in _bad_files(tmp_path).items():
        with pytest.raises(UserError) as caught:
            read_picture(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / name}: "), message
        assert reason in message
        assert "\n" not in message
        assert "object at" not in message
    output = capfd.readouterr()
    assert not caplog.records
    assert output.err == output.out == ""  # not even from libtiff or libpng


# Writing


@pytest.mark.parametrize("bits", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_other_programs_read_written_files_exactly(tmp_path: Path, channels: int, bits: str, suffix: str) -> None:
    pixels = noise(channels, DTYPES[bits], 300, 40)  # more rows than are compressed at once
    icc = GREY_ICC if channels < 3 else SRGB
    path = tmp_path / f"a{suffix}"
    assert write_picture(path, Picture(pixels, {PROFILE: icc, DPI: (300.0, 200.0)})) == []
    if suffix == ".tif":
        other = tifffile.imread(path)
    else:
        other = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        other = other if channels == 1 else other[..., [0, 3] if channels == 2 else [2, 1, 0, 3][:channels]]
    assert other.dtype == pixels.dtype
    assert np.array_equal(other, pixels)
    again = read_picture(path)
    assert np.array_equal(again.pixels, pixels)
    assert again.metadata.get(PROFILE) == icc
    assert again.metadata.get(DPI) == pytest.approx((300, 200), abs=0.1)
    assert again.notices == ()


XMP_DATA = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" exif:PixelXDimension="13" '
    b'xmp:Rating="5"><exif:PixelYDimension>9</exif:PixelYDimension></rdf:Description></x:xmpmeta>'
)
THUMBNAIL = b"\xff\xd8 the picture as it was \xff\xd9"


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("source", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.webp", "b.tif", "b.avif", "b.bmp", "b16.png", "b16.tif"])
def test_metadata_is_carried_through_every_format(tmp_path: Path, source: str, target: str, endian: str) -> None:
    exif = some_exif(6, endian)
    if source == "a.tif":
        extra = [
            (700, "B", len(XMP_DATA), XMP_DATA, True),
            (34675, "B", len(SRGB), SRGB, True),
            (271, "s", 5, "Maker", True),
        ]
        tifffile.imwrite(tmp_path / source, noise(3, np.uint8), photometric="rgb", extratags=extra, byteorder=endian)
    else:
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP_DATA)
        more = {"pnginfo": info} if source == "a.png" else {"xmp": XMP_DATA}
        data = with_thumbnail(exif.tobytes(), THUMBNAIL) if endian == "<" else exif.tobytes()
        Image.fromarray(noise(3, np.uint8)).save(tmp_path / source, icc_profile=SRGB, exif=data, **more)
    picture = read_picture(tmp_path / source)
    assert picture.notices == ()
    larger = picture.enlarged(noise(3, np.uint16 if "16" in target else np.uint8, 40, 20))
    notices = write_picture(tmp_path / target, larger)
    again = read_picture(tmp_path / target)
    if target == "b.bmp":
        assert notices == ["not kept in this BMP: EXIF data, XMP data, colour profile"]
        assert (again.metadata.get(PROFILE), again.metadata.get(XMP)) == (None, None)
        return
    xmp = XMP_DATA.replace(b'"6"', b'"1"').replace(b'"13"', b'"20"').replace(b">9<", b">40<")
    assert (again.metadata.get(PROFILE), again.metadata.get(XMP)) == (SRGB, xmp)
    if target.endswith(".tif"):
        assert notices == ["not kept in this TIFF: EXIF data"]
        return
    assert notices == []
    assert THUMBNAIL not in (tmp_path / target).read_bytes()
    expected, got = tags(exif.tobytes()) | {"Exif.40962": 20, "Exif.40963": 40}, tags(again.metadata.get(EXIF))
    assert (expected.pop("274"), got.pop("274", 1)) == (6, 1)
    if source == "a.tif":
        expected = {"271": "Maker"}
    assert {key: got[key] for key in expected} == expected


def test_exif_after_the_pixels_of_a_png_is_carried(tmp_path: Path) -> None:
    content = png(smooth(3), 2, depth=8)
    late = png(smooth(3), 2, (b"eXIf", some_exif().tobytes().removeprefix(b"Exif\0\0")), depth=8)[
        33 : len(content[33:]) * -1
    ]
    (tmp_path / "a.png").write_bytes(content[:-12] + late + content[-12:])
    assert tags(read_picture(tmp_path / "a.png").metadata[EXIF])["271"] == "Maker"


WHOLE = some_exif().tobytes()
DAMAGED = [b"Exif\0\0II*\0", WHOLE[:40], b"Exif\0\0nonsense", WHOLE[:14] + b"\xff" * 60]


@pytest.mark.parametrize("exif", [*DAMAGED, None], ids=["stub", "cut", "nonsense", "overwritten", "in a TIFF"])
def test_picture_with_damaged_exif_is_read(tmp_path: Path, exif: bytes | None) -> None:
    if exif:
        save(tmp_path / "a", smooth(3), exif=exif, format="PNG")
    else:
        date = (ExifTags.Base.DateTime, "d", 1, 2.5, True)  # should be text
        tifffile.imwrite(tmp_path / "a", smooth(3), photometric="rgb", extratags=[date])
    picture = read_picture(tmp_path / "a")
    np.testing.assert_array_equal(picture.pixels, smooth(3))
    assert picture.metadata.get(EXIF) is None
    assert write_picture(tmp_path / "b.png", picture) == ["not kept in this PNG: EXIF data, which is damaged"]


@pytest.mark.parametrize("dpi", [4e9, 70000])
def test_implausible_resolution_is_left_out(tmp_path: Path, dpi: float) -> None:
    tifffile.imwrite(tmp_path / "a.tif", smooth(3), photometric="rgb", resolution=(dpi, dpi), resolutionunit="inch")
    picture = read_picture(tmp_path / "a.tif")
    assert picture.metadata.get(DPI) is None
    for name in ("a.png", "a.jpg", "a.bmp", "b.tif"):
        write_picture(tmp_path / name, picture)


def _jpeg_with(segment: bytes = b"") -> bytes:
    """A progressive JPEG, with an APP13 segment if there is something in it."""
    file = io.BytesIO()
    Image.fromarray(smooth(3)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    return content[:2] + (b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment if segment else b"") + content[2:]


def _with_chunk(content: bytes) -> bytes:
    return content[:4] + struct.pack("<I", len(content) + 4) + content[8:] + b"C2PA\3\0\0\0abc\0"


WIDE = (31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)  # primaries of BT.2020


PANORAMA = (
    b'<x:xmpmeta xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" GPano:FullPanoWidthPixels="64" '
    b'GPano:CroppedAreaTopPixels="4" GPano:PoseHeadingDegrees="64" tiff:ImageWidth="1" mwg-rs:AppliedToDimensions="" '
    b'Iptc4xmpExt:rbUnit="pixel" Iptc4xmpExt:rbY="2" Iptc4xmpExt:rbW="5" '
    b'stDim:w="13.0" stArea:x="0.5" '
    b'xmpNote:HasExtendedXMP="0A"><exif:PixelYDimension>9</exif:PixelYDimension>'
    b"</x:xmpmeta>"
)
NO_ENTRIES = b"Exif\0\0" + Image.Exif().tobytes().removeprefix(b"Exif\0\0")
SUBJECT_AREA = some_exif(6)
SUBJECT_AREA.get_ifd(ExifTags.IFD.Exif)[0x9214] = (6, 4)
HDR = (b"cICP", bytes([9, 16, 0, 1]))
GAMMA_OF_SRGB = (b"gAMA", struct.pack(">I", 45455))
# Files with data that a result does not carry, and the name of the data in the notice.
LEFT_OUT: dict[str, tuple[Callable[[Path], object], str]] = {
    "gamma": (partial(_write, content=png(noise(3, np.uint8), 2, GAMMA_1, depth=8)), "gamma (1)"),
    "HDR": (partial(_write, content=png(noise(3, np.uint8), 2, HDR, depth=8)), "colour tags (cICP)"),
    "sRGB": (partial(_write, content=png(noise(3, np.uint8), 2, GAMMA_OF_SRGB, depth=8)), ""),
    "profile": (partial(save, pixels=smooth(3), format="JPEG", icc_profile=CMYK_ICC), "colour profile"),
    "pages": (
        lambda path: tifffile.imwrite(path, np.stack([smooth(3)] * 2), photometric="rgb"),
        "pages after the first (1)",
    ),
    "unmarked channel": (
        lambda path: tifffile.imwrite(
            path, noise(4, np.uint8), photometric="rgb", extrasamples=["unspecified"], metadata=None, software=False
        ),
        "channels that are not marked as transparency",
    ),
    "unmarked channel of a BigTIFF": (
        lambda path: tifffile.imwrite(
            path, noise(4, np.uint8), photometric="rgb", extrasamples=["unspecified"], bigtiff=True
        ),
        "channels that are not marked as transparency",
    ),
    "pictures": (
        partial(save, pixels=smooth(3), format="MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))]),
        "pictures after the first (1)",
    ),
    **{
        name: (
            partial(save, pixels=smooth(3), format="JPEG", xmp=XMP_DATA.replace(b"adobe:ns:meta/", name.encode())),
            f"XMP data about parts that the result lacks ({part})",
        )
        for name, part in (
            ("http://ns.google.com/photos/1.0/camera/", "camera"),
            ("http://ns.xiaomi.com/photos/1.0/camera/", "camera"),
            ("http://ns.google.com/photos/1.0/container/item/", "item"),
            ("http://ns.adobe.com/hdr-gain-map/1.0/", "hdr-gain-map"),
            ("http://ns.apple.com/HDRGainMap/1.0/", "HDRGainMap"),
        )
    },
    **{
        name: (lambda path, data=data: _write(path, _jpeg_with(data)), name)
        for name, data in (
            ("IPTC data (captions, keywords)", b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\0\5\x1c\2\5\0\0\0"),
            ("Photoshop data", b"Photoshop 3.0\x008BIM\7\xd0\0\0\0\0\0\2ab"),
            ("extended XMP data", b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 40),
            ("gain map", b"urn:iso:std:iso:ts:21496:-1\0\0"),
            ("APP13 data (Somebody's)", b"Somebody's\0data"),
            ("APP13 data", b"\1\2"),
        )
    },
    "clip": (lambda path: _write(path, _jpeg_with() + b"\0\0\0\x18ftypmp42"), "a clip after the picture (12 bytes)"),
    "trailer": (lambda path: _write(path, _jpeg_with() + b"SEFT\0"), "data after the picture (5 bytes)"),
    "padding": (lambda path: _write(path, _jpeg_with() + b"\0\r\n"), ""),
    "private tags": (
        lambda path: tifffile.imwrite(
            path, smooth(3), photometric="rgb", metadata=None, software=False, extratags=[
                (33550, "d", 3, (1.0, 1.0, 0.0), True), (42113, "s", 3, "-9", True), (33723, "B", 4, b"abcd", True),
                (50000, "H", 1, 7, True)]),
        "GeoTIFF data, IPTC data (captions, keywords), tag 50000",
    ),
    **{f"no entries in {form}": (partial(save, pixels=smooth(3), format=form, exif=NO_ENTRIES), "")
       for form in ("JPEG", "PNG", "WEBP", "AVIF")},
    "chunk of a PNG": (partial(_write, content=png(noise(3, np.uint8), 2, (b"caBX", b"x"), depth=8)), "chunk caBX"),
    "HDR behind a profile": (
        partial(_write, content=png(noise(3, np.uint8), 2, (b"iCCP", b"x\0\0" + b"\1" * 5000), HDR, depth=8)),
        "colour tags (cICP)",
    ),
    "primaries": (
        partial(_write, content=png(noise(3, np.uint8), 2, (b"cHRM", struct.pack(">8I", *WIDE)), depth=8)),
        "primaries (cHRM)",
    ),
    "chunk of a WebP": (
        lambda path: _write(path, _with_chunk(save(path, smooth(3), format="WEBP").read_bytes())), "chunk C2PA"),
}  # fmt: skip


@pytest.mark.parametrize("what", LEFT_OUT)
def test_data_that_a_result_does_not_carry_are_reported(tmp_path: Path, what: str) -> None:
    write, name = LEFT_OUT[what]
    write(tmp_path / "a")
    notices = write_picture(tmp_path / "b.png", read_picture(tmp_path / "a"))
    assert notices == ([f"not kept in this PNG: {name}"] if name else [])
    assert read_picture(tmp_path / "b.png").metadata.keys() <= {DPI, EXIF}


def test_positions_in_a_picture_that_is_turned_are_reported(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", noise(3, np.uint8), xmp=PANORAMA, exif=SUBJECT_AREA)
    notices = write_picture(tmp_path / "b.jpg", read_picture(tmp_path / "a.jpg"))
    lost = "subject area, XMP data about parts that the result lacks (panorama)"
    assert notices == [f"not kept in this JPEG: {lost}"]


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png"])
def test_metadata_that_counts_pixels_is_multiplied(tmp_path: Path, suffix: str) -> None:
    exif = some_exif()
    exif[ExifTags.Base.ImageWidth] = 13
    exif.get_ifd(ExifTags.IFD.Exif).update({0x9214: (6, 4, 2, 3), 0xA20E: 1000.5, 0xA20F: IFDRational(0, 0)})
    save(tmp_path / "a.jpg", noise(3, np.uint8), xmp=PANORAMA, exif=exif)
    picture = read_picture(tmp_path / "a.jpg")
    assert write_picture(tmp_path / f"b{suffix}", picture.enlarged(noise(3, np.uint8, 18, 39))) == []
    again = read_picture(tmp_path / f"b{suffix}").metadata
    for old, new in ((b'Pixels="64', b'Pixels="192'), (b'Pixels="4', b'Pixels="8'), (b'Width="1"', b'Width="39"')):
        assert new in again[XMP], again[XMP]
        assert old not in again[XMP]
    for part in (b'rbY="4"', b'rbW="15"', b'stDim:w="39"', b'Degrees="64"', b'stArea:x="0.5"><', b">18<"):
        assert part in again[XMP], again[XMP]
    got = tags(again[EXIF])
    assert [got[key] for key in ("256", "Exif.40962", "Exif.40963")] == [39, 39, 18]
    assert got["Exif.37396"] == (18, 8, 6, 6)
    assert float(got["Exif.41486"]) == pytest.approx(3001.5)


@pytest.mark.parametrize("bits", DTYPES)
@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_formats_without_a_resolution_keep_it_as_exif_data(tmp_path: Path, suffix: str, bits: str) -> None:
    for metadata in ({}, {EXIF: some_exif().tobytes()}):
        picture = Picture(noise(3, DTYPES[bits]), {DPI: (300.0, 200.0), **metadata})
        assert write_picture(tmp_path / f"a{suffix}", picture) == []
        got = tags(read_picture(tmp_path / f"a{suffix}").metadata[EXIF])
        assert (got["282"], got["283"], got["296"]) == (300, 200, 2)
    write_picture(tmp_path / f"a{suffix}", Picture(noise(3, DTYPES[bits])))
    assert EXIF not in read_picture(tmp_path / f"a{suffix}").metadata


@pytest.mark.parametrize("kind", [b"tEXt", b"pHYs", b"zTXt", b"eXIf", b"tIME"])
def test_a_png_with_a_wrong_checksum_of_metadata_is_read_with_a_notice(tmp_path: Path, kind: bytes) -> None:
    content = png(smooth(3), 2, (kind, b"Title\0\0a fish"), (b"tEXt", b"Author\0K"), depth=8)
    at = content.index(kind) + 5
    (tmp_path / "a.png").write_bytes(content[:at] + b"B" + content[at + 1 :])
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels, smooth(3))
    assert picture.notices == ("some of its metadata is damaged or above 64 MB: it may be wrong or missing",)
    assert texts(picture)["Author"] == "K"


HUGE = zlib.compress(b"a" * (65 << 20))


@pytest.mark.parametrize(
    "chunk",
    [
        *((b"zTXt", b"Title\0\0" + HUGE), (b"iTXt", b"Title\0\1\0\0\0" + HUGE), (b"iCCP", b"Title\0\0" + HUGE)),
        *((b"pHYs", b"abc"), (b"gAMA", b"ab"), (b"cHRM", b"abc")),
    ],
    ids=lambda chunk: chunk[0].decode(),
)
def test_metadata_that_pillow_refuses_does_not_refuse_the_picture(tmp_path: Path, chunk: tuple[bytes, bytes]) -> None:
    (tmp_path / "a.png").write_bytes(png(smooth(3), 2, chunk, (b"tEXt", b"Author\0K"), depth=8))
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels, smooth(3))
    assert "metadata" in picture.notices[0]
    assert write_picture(tmp_path / "b.png", picture) == []


@pytest.mark.parametrize("bits", DTYPES)
def test_texts_are_kept_in_png_and_reported_as_lost_elsewhere(tmp_path: Path, bits: str) -> None:
    pixels = noise(3, DTYPES[bits])
    content = png(pixels, 2, (b"tEXt", b"Author\0K\xe4the"), (b"tEXt", b"Title\0cat"), depth=int(bits))
    (tmp_path / "a.png").write_bytes(content)
    picture = read_picture(tmp_path / "a.png")
    assert texts(picture) == {"Author": "Käthe", "Title": "cat"}
    lost = ["not kept in this PNG: text Author"] if bits == "16" else []  # libvips writes only ASCII
    assert write_picture(tmp_path / "b.png", picture) == lost
    again = read_picture(tmp_path / "b.png")
    assert texts(again) == ({"Title": "cat"} if lost else texts(picture))
    np.testing.assert_array_equal(again.pixels, pixels)
    assert write_picture(tmp_path / "b.tif", picture) == ["not kept in this TIFF: text Author, text Title"]


def test_the_comment_of_a_jpeg_is_kept(tmp_path: Path) -> None:
    picture = read_picture(save(tmp_path / "a.jpg", noise(3, np.uint8), comment="sehr schön"))
    for name in ("b.jpg", "b.png"):
        assert write_picture(tmp_path / name, picture) == []
        assert texts(read_picture(tmp_path / name)) == {"Comment": "sehr schön"}


def test_jpeg_has_high_quality_and_full_colour_resolution(tmp_path: Path) -> None:
    chequered = np.zeros((64, 64, 3), np.uint8)
    chequered[::2, ::2] = chequered[1::2, 1::2] = (255, 0, 0)
    write_picture(tmp_path / "a.jpg", Picture(chequered))
    read = cv2.imread(str(tmp_path / "a.jpg"))[..., ::-1].astype(int)
    assert np.abs(read - chequered).mean() < 5  # far above 5 with 4:2:0 subsampling


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_transparent_pixels_become_white_in_formats_without_alpha(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = np.zeros((16, 32, channels), np.uint8)
    pixels[:, 16:, -1] = 255
    path = tmp_path / f"a{suffix}"
    assert any("white" in notice for notice in check_writable(path, (16, 32), channels, np.uint8))
    write_picture(path, Picture(pixels))
    assert read_picture(path).pixels[:, :8].min() > 250
    assert read_picture(path).pixels[:, 24:].max() < 5


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".webp"])
def test_16_bits_are_rounded_in_formats_with_8(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    assert any("8 bits" in notice for notice in check_writable(path, (16, 16), 3, np.uint16))
    write_picture(path, Picture(np.full((16, 16, 3), 10 * 257 - 100, np.uint16)), quality=100)
    assert np.abs(read_picture(path).pixels.astype(int) - 10).max() <= (0 if suffix == ".bmp" else 1)


@pytest.mark.parametrize("bits", [10, 12])
def test_avif_of_10_and_12_bits_becomes_16_bits_with_full_white(tmp_path: Path, bits: int) -> None:
    levels = np.arange(2**bits).reshape(-1, 64).astype(np.uint32)
    image = pyvips.Image.new_from_array((levels << (16 - bits)).astype(np.uint16), interpretation="grey16")
    image.heifsave(str(tmp_path / "a.avif"), compression="av1", bitdepth=bits, lossless=True)
    picture = read_picture(tmp_path / "a.avif")
    np.testing.assert_allclose(picture.pixels[..., 0], levels * 65535 / (2**bits - 1), atol=1)
    size, dtype = picture.pixels.shape[:2], picture.pixels.dtype
    assert check_writable(tmp_path / "b.avif", size, 3, dtype, bits=picture.bits) == []  # nothing is rounded
    (notice,) = check_writable(tmp_path / "b.jpg", size, 3, dtype, bits=picture.bits)
    assert "8 bits" in notice


@pytest.mark.parametrize("bits", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_avif_keeps_colours_alpha_and_more_than_8_bits(tmp_path: Path, channels: int, bits: str) -> None:
    pixels, top = smooth(channels, DTYPES[bits]), np.iinfo(DTYPES[bits]).max
    told = check_writable(tmp_path / "a.avif", (64, 80), channels, DTYPES[bits])
    assert any("12 bits" in notice for notice in told) == (bits == "16")
    profile = {PROFILE: SRGB} if channels > 2 else {}
    picture = Picture(pixels, {**profile, EXIF: some_exif().tobytes()})
    assert write_picture(tmp_path / "a.avif", picture, quality=100) == []
    if channels == 1:
        grey = Picture(pixels, {PROFILE: GREY_ICC})
        assert write_picture(tmp_path / "b.avif", grey) == ["not kept in this AVIF: colour profile"]
    again = read_picture(tmp_path / "a.avif")
    assert again.pixels.dtype == DTYPES[bits]
    assert again.metadata.get(PROFILE) == picture.metadata.get(PROFILE)
    assert tags(again.metadata.get(EXIF))["271"] == "Maker"
    shown = pixels[..., None].repeat(3, 2) if channels == 1 else pixels  # AVIF has no grey
    assert np.abs(again.pixels.astype(int) - shown).max() <= top * 0.02


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".webp", ".avif", ".png", ".tif"])
def test_lossless_keeps_all_pixels(tmp_path: Path, suffix: str, channels: int) -> None:
    path, pixels = tmp_path / f"a{suffix}", noise(channels, np.uint8)
    write_picture(path, Picture(pixels, {XMP: XMP_DATA, EXIF: some_exif().tobytes()}), quality="lossless")
    again = read_picture(path)
    in_colour = np.asarray(Image.fromarray(pixels).convert("RGBA" if channels in (2, 4) else "RGB"))
    expected = pixels if suffix in (".png", ".tif") else in_colour  # WebP and AVIF have no grey
    np.testing.assert_array_equal(again.pixels, expected)
    assert XMP in again.metadata


@pytest.mark.parametrize("more", [{}, {"exif": some_exif(), "icc_profile": SRGB, "xmp": XMP_DATA}])
def test_a_lossless_webp_stays_lossless_unless_a_quality_is_given(tmp_path: Path, more: dict[str, Any]) -> None:
    path, target = tmp_path / "a.webp", tmp_path / "b.webp"
    for lossless in (True, False):
        save(path, noise(4, np.uint8), lossless=lossless, exact=True, **more)
        picture = read_picture(path).enlarged(noise(4, np.uint8, 18, 26))
        write_picture(target, picture)
        assert np.array_equal(read_picture(target).pixels, picture.pixels) == lossless
        write_picture(target, picture, quality=95)
        assert not np.array_equal(read_picture(target).pixels, picture.pixels)


def test_limits_of_formats_are_checked_before_upscaling(tmp_path: Path) -> None:
    for name, size in (("a.webp", (5, 16384)), ("a.jpg", (65501, 5)), ("a.bmp", (40000, 40000))):
        with pytest.raises(UserError, match="are too large for"):
            check_writable(tmp_path / name, size, 3, np.uint8)
    for name in ("a.gif", "a", "a.eps", "a.png "):
        with pytest.raises(UsageError, match="suffix"):
            check_writable(tmp_path / name, (5, 5), 3, np.uint8)
    with pytest.raises(UserError, match="JPEG is always lossy; take --ext png, webp or avif"):
        check_writable(tmp_path / "a.jpg", (5, 5), 3, np.uint8, quality="lossless")
    assert check_writable(tmp_path / "a.png", (100_000, 100_000), 4, np.uint16) == []
    with pytest.raises(UserError, match="are too large for WebP"):
        write_picture(tmp_path / "a.webp", Picture(np.zeros((2, 16384), np.uint8)))
    write_picture(tmp_path / "a.webp", Picture(np.zeros((2, 16383), np.uint8)))  # the limits are the encoders' own
    write_picture(tmp_path / "a.jpg", Picture(np.zeros((65500, 2), np.uint8)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "a.webp"]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.webp", "a.bmp"])
def test_failed_write_keeps_the_existing_file(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / name, Picture(smooth(3)))
    before = (tmp_path / name).read_bytes()
    (tmp_path / f".a.{os.getpid()}.part{Path(name).suffix}").mkdir()  # blocks every writer, root's too
    with pytest.raises(UserError, match="cannot be written"):
        write_picture(tmp_path / name, Picture(smooth(4)))
    assert (tmp_path / name).read_bytes() == before


def test_large_tiff_is_written_as_bigtiff_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rgt_arch.inference.pictures.writing._SMALL_TIFF", 100)
    write_picture(tmp_path / "a.tif", Picture(noise(4, np.uint16), {PROFILE: SRGB}))
    assert (tmp_path / "a.tif").read_bytes().startswith(b"II+\0")
    picture = read_picture(tmp_path / "a.tif")
    assert np.array_equal(picture.pixels, noise(4, np.uint16))
    assert picture.metadata.get(PROFILE) == SRGB
