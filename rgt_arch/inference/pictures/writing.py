"""Picture files written whole: 8 bits by Pillow, 16 bits and TIFF by libvips; what a format cannot hold is reported."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import DTypeLike, NDArray
from PIL import Image, PngImagePlugin

from rgt_arch.errors import UsageError, UserError
from rgt_arch.files import written_whole
from rgt_arch.inference.pictures.picture import COMMENT, XMP_IN_PNG, Picture, icc_fits, resized_exif


@dataclass(frozen=True)
class _Format:
    """What a kind of file can hold.

    side: of the largest picture, a limit of the encoder. holds: fields of `Picture`. longest: EXIF or XMP in bytes.
    """

    name: str
    side: int = 2**31 - 1
    bits: int = 16
    has_alpha: bool = True
    holds: frozenset[str] = frozenset({"icc_profile", "exif", "xmp"})
    longest: int = 2**31 - 1


# One marker of a JPEG has 65,533 bytes, in which a name of 29 comes before XMP. BMP ends at 4 GiB.
_JPEG = _Format("JPEG", 65500, 8, False, longest=65533 - 29)
_SUFFIXES = {
    ".png": _Format("PNG"),
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), _JPEG),
    ".webp": _Format("WebP", 16383, 8),
    ".avif": _Format("AVIF", 16384, 12),
    **dict.fromkeys((".tif", ".tiff"), _Format("TIFF", holds=frozenset({"icc_profile", "xmp"}))),
    ".bmp": _Format("BMP", 37000, 8, False, frozenset()),
}
WRITABLE_SUFFIXES = tuple(_SUFFIXES)
_SMALL_TIFF = 2**32 - 2**25  # bytes of pixels in a TIFF with 32-bit offsets; the rest is for tags


def check_writable(path: str | os.PathLike[str], size: tuple[int, int], channels: int, dtype: DTypeLike) -> list[str]:
    """Whether a file of this name can hold a picture: asked before any work is done for it.

    size: (height, width); channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; dtype: uint8 or uint16.
    Returns one line for each thing that will be lost, without the file's name. Raises UsageError for an unknown suffix,
    UserError for a picture that is too large for the format.
    """
    form = _SUFFIXES.get(Path(path).suffix.lower())
    if form is None:
        known = ", ".join(WRITABLE_SUFFIXES)
        raise UsageError(f"{path}: the suffix says the format, and must be one of {known}")
    if max(size) > form.side:
        raise UserError(
            f"{path}: {size[1]}×{size[0]} pixels do not fit into {form.name}, which ends at {form.side} pixels in "
            "width and height; use PNG or TIFF"
        )
    notices = []
    if form.bits < 16 and np.dtype(dtype) == np.uint16:
        notices.append(f"{form.name} has {form.bits} bits per sample; the 16 are rounded (PNG and TIFF keep them)")
    if channels in (2, 4) and not form.has_alpha:
        notices.append(f"{form.name} has no transparency; the picture is put on white (PNG, TIFF and WebP keep it)")
    return notices


def write_picture(path: str | os.PathLike[str], picture: Picture, *, quality: int = 95) -> list[str]:
    """Write a picture in the format of the suffix, whole or not at all.

    quality: of JPEG and AVIF (4:4:4) and WebP, 1 to 100; PNG, TIFF and BMP are always lossless.
    Returns one line about the metadata that the format cannot hold; for pixels see `check_writable`.
    Raises what that raises, and UserError if the disk or the encoder refuses.
    """
    path = Path(path)
    check_writable(path, picture.pixels.shape[:2], picture.channels, picture.pixels.dtype)
    form = _SUFFIXES[path.suffix.lower()]
    by_vips = form.name == "TIFF" or (form.bits > 8 and picture.pixels.dtype == np.uint16)
    picture, notices = _fitting(picture, form, by_vips)
    try:
        with written_whole(path) as beside:
            if by_vips:
                _write_by_vips(beside, picture, form.name, quality)
            else:
                _write_by_pillow(beside, picture, form, quality)
    except MemoryError:
        raise UserError(f"{path}: does not fit into memory when written as {form.name}") from None
    except (ValueError, struct.error, pyvips.Error) as error:
        raise UserError(f"{path}: cannot be written as {form.name} ({' '.join(str(error).split())})") from error
    return notices


def _fitting(picture: Picture, form: _Format, by_vips: bool) -> tuple[Picture, list[str]]:
    """The picture with the metadata that the format holds, and a notice that names the rest."""
    lost: list[str] = []
    channels = 3 if form.name in ("WebP", "AVIF") else picture.channels  # which have no grey
    for name, what in (("icc_profile", "colour profile"), ("exif", "EXIF data"), ("xmp", "XMP data")):
        value = getattr(picture, name)
        if value and not (
            name in form.holds and (icc_fits(value, channels) if name == "icc_profile" else len(value) <= form.longest)
        ):
            picture = replace(picture, **{name: None})  # type: ignore[arg-type]
            lost.append(what)
    if picture.exif:
        picture = replace(picture, exif=resized_exif(picture.exif, picture.pixels.shape[:2]))
    texts = {
        key: text
        for key, text in picture.texts.items()
        if (form.name == "PNG" and (text.isascii() or not by_vips)) or (form.name == "JPEG" and key == COMMENT)
    }
    lost += [f"text {key!r}" for key in picture.texts if key not in texts]
    return replace(picture, texts=texts), [f"this {form.name} has no place for its {', '.join(lost)}"] if lost else []


def _write_by_vips(path: Path, picture: Picture, kind: str, quality: int) -> None:
    pixels = np.ascontiguousarray(picture.pixels)
    colours = {1: ("b-w", "grey16"), 3: ("srgb", "rgb16")}[3 if picture.channels > 2 else 1][pixels.itemsize - 1]
    x, y = picture.dpi or (72.0, 72.0)
    image = pyvips.Image.new_from_array(pixels, interpretation=colours).copy(xres=x / 25.4, yres=y / 25.4)
    for name, value in (("icc-profile", picture.icc_profile), ("exif", picture.exif), ("xmp", picture.xmp)):
        if value:
            image.set_type(pyvips.GValue.blob_type, f"{name}-data", value)
    for number, (key, text) in enumerate(picture.texts.items()):
        image.set_type(pyvips.GValue.gstr_type, f"png-comment-{number}-{key}", text)
    if kind == "PNG":
        keep = "icc:xmp:other" + (":exif" if picture.exif else "")  # libvips would write some EXIF data of its own
        image.pngsave(str(path), filter="all", keep=keep)
    elif kind == "AVIF":
        image.heifsave(str(path), compression="av1", bitdepth=12, Q=quality, subsample_mode="off")
    else:
        options = {"bigtiff": pixels.nbytes > _SMALL_TIFF, "resunit": "inch"}
        image.tiffsave(str(path), compression="deflate", predictor="horizontal", **options)


def _write_by_pillow(path: Path, picture: Picture, form: _Format, quality: int) -> None:
    pixels = rounded(picture.pixels)
    if picture.has_alpha and not form.has_alpha:
        pixels = on_white(pixels)
    options: dict[str, Any] = {
        "dpi": picture.dpi,
        "icc_profile": picture.icc_profile,
        "exif": picture.exif,
        "xmp": picture.xmp,
        "quality": quality,
        "subsampling": "4:4:4",
        "comment": picture.texts.get(COMMENT),
    }
    if form.name == "PNG":
        info = options["pnginfo"] = PngImagePlugin.PngInfo()
        for key, text in picture.texts.items():
            info.add_text(key, text)
        if picture.xmp:
            info.add_itxt(XMP_IN_PNG, picture.xmp)
    given = {name: value for name, value in options.items() if value is not None}
    Image.fromarray(pixels).save(path, form.name, **given)  # which takes from them what the format has


def rounded(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """16 bits as 8: 65535 = 255 · 257."""
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def on_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey or RGB of a picture with alpha, seen before white."""
    colour, opacity = pixels[..., :-1].astype(np.uint16), pixels[..., -1:].astype(np.uint16)
    seen = ((colour * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)
    return seen[..., 0] if seen.shape[2] == 1 else seen
