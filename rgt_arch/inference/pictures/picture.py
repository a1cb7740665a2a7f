"""`Picture`: pixels with straight alpha, and the file's metadata for the result."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray
from PIL import ExifTags, Image, JpegImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from rgt_arch.errors import UserError

PROFILE, EXIF, XMP, DPI, TEXT = "colour profile", "EXIF data", "XMP data", "resolution", "text "
COMMENT = f"{TEXT}Comment"  # of a JPEG
UNMARKED = "channels that are not marked as transparency"
YCBCR = "YCbCr outside of JPEG"  # of a TIFF, which libvips reads as if it were RGB
XMP_IN_PNG = "XML:com.adobe.xmp"
_NOT_TEXTS = (XMP_IN_PNG, "Raw profile type exif", "Raw profile type xmp")  # data that PNG keeps as text
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")  # JPEG includes MPO; EPS would start Ghostscript
_ORIENTATION, _DESCRIPTION = 0x112, 0x10E
_EXTRA_SAMPLES, _PHOTOMETRIC, _CAMERA, _RESOLUTION_UNIT, _SAMPLES, _PLANES = 0x152, 0x106, 32803, 0x128, 0x115, 0x11C
_KIND, _BITS, _INK_SET, _COMPRESSION = 0xFE, 0x102, 0x14C, 0x103
_SEPARATED, _YCBCR, _LAB, _JPEG = 5, 6, 8, 7  # three colour codings of a TIFF, and a compression
# EXIF tags that count pixels: width and height, and points and sizes (x, y, …) in the picture.
_SIZES = {0x100: 1, 0x101: 0, 0xA002: 1, 0xA003: 0, 0x1001: 1, 0x1002: 0}  # places in (height, width)
_POINTS = (0x9214, 0xA214)
_DENSITIES = {0xA20E: 1, 0xA20F: 0}  # pixels per length of the sensor
# Tags of a TIFF's own directory that describe what the picture shows: description, make, model, software, date, artist,
# computer, rating, copyright, Windows' title, comment, author, keywords, subject, and the directories of EXIF and GPS.
_DESCRIPTIVE = {0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x13C, 0x4746, 0x8298, *range(0x9C9B, 0x9CA0), 0x8769, 0x8825}
_LAYOUTS = ('{"shape"', "ImageJ=", "<?xml")  # descriptions of pixels that would be wrong for another size
_XMP_ORIENTATION = re.compile(rb"(\btiff:Orientation(?:\s*=\s*[\"']|>\s*))\d")
# Names of XMP data that count pixels, and their values.
_XMP_PIXELS = re.compile(
    rb"\b((?:exif:Pixel[XY]Dimension|tiff:Image(?:Width|Length)|GPano:\w+Pixels|GPano:LargestValid\w+"
    rb"|stDim:[wh]|Iptc4xmpExt:rb[XYWH])"
    rb"(?:\s*=\s*[\"']|>\s*))(\d+(?:\.\d+)?)"
)
# Namespaces of XMP data about other pictures, clips and sound in the file, which are not in the result.
_XMP_OF_PARTS = re.compile(
    rb"ns\.\w+\.com/photos/(?!1\.0/panorama/)[^\"']*?(\w+)/[\"']|ns\.\w+\.com/(hdr-?gain-?map)", re.I
)
_XMP_EXTENDED = re.compile(  # refers to the extended XMP data of a JPEG, which a result does not carry
    rb"\s*xmpNote:HasExtendedXMP\s*=\s*(?:\"[^\"]*\"|'[^']*')|<xmpNote:HasExtendedXMP>.*?</xmpNote:HasExtendedXMP>"
)
_XMP_OF_PLACES = re.compile(rb"photos/1\.0/(panorama)/|schemas/(regions)/|/(RegionInfo)")  # wrong after a turn
# What JPEG segments begin with: those that are carried or describe only the file, and names for others.
_SEGMENTS = ("JFIF", "JFXX", "Exif", "http://ns.adobe.com/xap/1.0/", "ICC_PROFILE", "MPF", "Adobe", "Ducky")
_SEGMENT_NAMES = {"http://ns.adobe.com/xmp/extension/": "extended XMP data", "urn:iso:std:iso:ts:21496:-1": "gain map"}
_CHUNKS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ICCP", b"EXIF", b"XMP ")  # of a WebP, like the segments
_CANVAS = (b"vpAg", b"caNv")  # chunks of a PNG: sizes of the paper
_IPTC, _PHOTOSHOP = "IPTC data (captions, keywords)", "Photoshop data"
_PRIVATE_TAGS = {  # of a TIFF, from 32768
    **dict.fromkeys((33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113), "GeoTIFF data"),
    **{33723: _IPTC, 34377: _PHOTOSHOP, 37724: "Photoshop layers"},
}
_CARRIED_TAGS = (34675, 32995, 32996, 32997)  # the colour profile, and descriptions of the pixels
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # that ends a JPEG's coded pixels
_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # of sRGB
_H273 = {b"cICP": 1, b"nclx": 2}  # tags that hold numbers of ITU-T H.273, and the bytes of each number
_DAMAGED_EXIF: dict[str, bytes | None] = {f"{EXIF}, which is damaged": None}


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright.

    pixels: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGBA; uint8 or uint16; alpha is straight.
    metadata: by the names in notices: PROFILE, EXIF (begins with "Exif\\0\\0", upright, without a thumbnail) and XMP as
    bytes, DPI (x, y), and TEXT with a key for a PNG's texts and a JPEG's comment. Entries with other names are not
    written, only reported as lost.
    notices: lines for the user about the pixels, without the file's name. lossless: whether it is a lossless WebP.
    bits: per sample of the file, if fewer than those of the dtype, as in AVIF.
    """

    pixels: NDArray[Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    lossless: bool = False
    bits: int | None = None

    @property
    def channels(self) -> int:
        return 1 if self.pixels.ndim == 2 else self.pixels.shape[2]

    @property
    def has_alpha(self) -> bool:
        return self.channels in (2, 4)

    def enlarged(self, pixels: NDArray[Any]) -> Picture:
        """Return the picture with other pixels. EXIF and XMP data that count pixels are multiplied."""
        size, before, metadata = pixels.shape[:2], self.pixels.shape[:2], dict(self.metadata)
        for name, enlarge in ((EXIF, _enlarged_exif), (XMP, _enlarged_xmp)):
            if name in metadata:
                metadata[name] = enlarge(metadata[name], size, (size[0] / before[0], size[1] / before[1]))
        return replace(self, pixels=pixels, metadata=metadata)


def read_metadata(content: bytes, kind: str) -> dict[str, Any]:
    """Read the metadata of a file, as in `Picture`. kind: libvips's name of the format, such as "png".

    Raises UserError for animations, and for TIFFs whose pixels libvips would misread.
    """
    if kind == "tiff":
        return _read_tiff(content)
    found: dict[str, Any] = {}
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with Image.open(io.BytesIO(content), formats=formats) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and kind != "jpeg":
            raise UserError(f"is an animation of {frames} frames; save one as a picture, or all as a video")
        if frames > 1:  # depth map, gain map, the other eye's view
            found[f"pictures after the first ({frames - 1})"] = None
        # getexif decodes a PNG, whose EXIF data and texts may follow the pixels
        exif = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
        has_entries = exif[8:].strip(b"\0") or exif[:2] not in (b"II", b"MM", b"")  # Pillow may write none
        found |= _upright(image.getexif) or (_DAMAGED_EXIF if has_entries else {})
        found |= _plausible(*image.info.get("dpi", (0, 0)))
        if comment := image.info.get("comment"):
            found[COMMENT] = comment.decode("latin-1")
            with suppress(UnicodeDecodeError):
                found[COMMENT] = comment.decode()
        if kind == "png":
            found |= _texts_and_chunks(image)
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            found |= _segments(image)
            tail = content[_end_of_jpeg(content) :]
            if tail.strip(b"\0\r\n ") and (frames == 1 or b"ftyp" in tail):
                found[f"{'a clip' if b'ftyp' in tail else 'data'} after the picture ({len(tail)} bytes)"] = None
    if kind == "webp":
        found |= {f"chunk {name.decode('latin-1')}": None for name in webp_chunks(content) if name not in _CHUNKS}
    pixels_at = content.find({"png": b"IDAT", "heif": b"mdat"}.get(kind, b""))
    names = {"png": (b"cICP", b"mDCV", b"cLLI"), "heif": (b"nclx", b"mdcv", b"clli")}.get(kind, ())
    tags = [(name, content[at + 4 :]) for name in names if (at := content.find(name, 0, pixels_at)) >= 0]
    if named := [name.decode() for name, value in tags if name not in _H273 or not _is_srgb(value, _H273[name])]:
        found[f"colour tags ({', '.join(named)})"] = None
    if kind == "heif" and b"tmap" in content[:pixels_at]:
        found["gain map"] = None
    return found


def _texts_and_chunks(image: Any) -> dict[str, Any]:
    """Texts of a PNG, and the names of chunks that a result does not carry."""
    found: dict[str, Any] = {f"{TEXT}{key}": str(text) for key, text in image.text.items() if key not in _NOT_TEXTS}
    found |= {f"chunk {name.decode('latin-1')}": None for name, *_ in image.private_chunks if name not in _CANVAS}
    if not image.info.keys() & {"icc_profile", "srgb"}:
        gamma = image.info.get("gamma", 0.45455)
        primaries = image.info.get("chromaticity", _PRIMARIES)
        if abs(gamma - 0.45455) > 1e-3:
            found[f"gamma ({gamma:g})"] = None
        if any(abs(one - other) > 1e-3 for one, other in zip(primaries, _PRIMARIES, strict=False)):
            found["primaries (cHRM)"] = None
    return found


def _segments(image: JpegImagePlugin.JpegImageFile) -> dict[str, Any]:
    """Names of a JPEG's application segments that a result does not carry."""
    found: dict[str, Any] = {}
    for marker, data in image.applist:
        start = re.match(rb"[ -~]*", data)[0].decode()  # type: ignore[index]
        if marker == "COM" or start.startswith(_SEGMENTS):
            continue
        if start.startswith("Photoshop"):
            found[_IPTC if 0x404 in image.info.get("photoshop", ()) else _PHOTOSHOP] = None
        else:
            found[_SEGMENT_NAMES.get(start, f"{marker} data" + f" ({start})" * bool(start))] = None
    return found


def _end_of_jpeg(content: bytes) -> int:
    """Where the end mark of a JPEG's first picture ends."""
    at = 2
    while (marker := content[at : at + 2]) not in (b"", b"\xff\xd9"):
        if marker == b"\xff\xff":  # fill byte
            at += 1
            continue
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == b"\xff\xda":
            at = match.start() if (match := _MARKER.search(content, at)) else len(content)
    return at + 2


def webp_chunks(content: bytes) -> list[bytes]:
    """Return the names of a WebP's chunks."""
    names, at = [], 12
    while at + 8 <= len(content):
        names.append(content[at : at + 4])
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return names


def _read_tiff(content: bytes) -> dict[str, Any]:
    """Read only the first directory, not the image: Pillow opens fewer kinds of TIFF than libvips."""
    is_large = b"+" in content[2:4]  # BigTIFF, whose descriptions Pillow does not read
    tags = ImageFileDirectory_v2(content[: 16 if is_large else 8])
    file = io.BytesIO(content)
    file.seek(tags.next)
    tags.load(file)
    colours = tags.get(_PHOTOMETRIC)
    if colours == _CAMERA or tags.get(_KIND, 0) & 1 or (tags.get(_SAMPLES), tags.get(_PLANES)) == (2, 2):
        raise UserError("holds undeveloped camera data, or grey and alpha in separate planes; save it as PNG first")
    if colours == _LAB and 8 in tags.get(_BITS, ()):  # libvips 8.18 refuses its own too
        raise UserError("has Lab colours in 8 bits, which are not read; save it as RGB")
    unit = {2: 1.0, 3: 2.54}.get(tags.get(_RESOLUTION_UNIT, 2), 0)
    found: dict[str, Any] = _plausible(*(float(tags.get(tag, 0)) * unit for tag in (0x11A, 0x11B)))
    if colours == _YCBCR and tags.get(_COMPRESSION) != _JPEG:
        found[YCBCR] = None
    has_unmarked = colours == _SEPARATED and tags.get(_SAMPLES, 1) > 4
    extra = tags.get(_EXTRA_SAMPLES, (0,) if has_unmarked else (2,))
    if extra[0] not in (1, 2, 999):
        found[UNMARKED] = None
    elif len(extra) > 1:
        found["channels after the transparency"] = None
    if colours == _SEPARATED:
        if tags.get(_INK_SET, 1) != 1:
            raise UserError("has inks other than CMYK; save it as RGB")
        if extra[0] == 1 and 16 in tags.get(_BITS, ()):  # libvips divides by alpha as if it had 8 bits
            raise UserError("is CMYK of 16 bits with premultiplied transparency; save it as RGB")
    private = sorted(tag for tag in tags if tag >= 0x8000 and tag not in (*_DESCRIPTIVE, *_CARRIED_TAGS))
    found |= {_PRIVATE_TAGS.get(tag, f"tag {tag}"): None for tag in private}
    return found if is_large else found | _upright(lambda: _descriptions(content))


def _descriptions(content: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(content)
    for tag in set(exif):
        if tag not in _DESCRIPTIVE or (tag == _DESCRIPTION and str(exif[tag]).startswith(_LAYOUTS)):
            del exif[tag]
    return exif


def named_xmp(xmp: bytes, *, turned: bool = False) -> dict[str, bytes]:
    """Return XMP data, if any, with orientation 1; named as lost if it describes things that a result does not have."""
    match = _XMP_OF_PARTS.search(xmp) or (_XMP_OF_PLACES.search(xmp) if turned else None)
    name = f"{XMP} about parts that the result lacks ({match[match.lastindex or 0].decode()})" if match else XMP
    xmp = _XMP_EXTENDED.sub(b"", xmp)
    return {} if not xmp else {name: _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)}


def _plausible(x: float, y: float) -> dict[str, tuple[float, float]]:
    """The DPI if every format can hold it (JPEG has 16 bits for it); 1 means unknown."""
    return {DPI: (float(x), float(y))} if all(1 < value <= 65535 for value in (x, y)) else {}


def _is_srgb(primaries_and_transfer: bytes, step: int) -> bool:
    """Compare with sRGB by the numbers of ITU-T H.273, of `step` bytes each; 2 is unspecified."""
    return primaries_and_transfer[step - 1] in (1, 2) and primaries_and_transfer[2 * step - 1] in (1, 2, 6, 13)


def _upright(load: Callable[[], Image.Exif]) -> dict[str, bytes | None]:
    """EXIF data with orientation 1 and without a thumbnail; empty if there is none."""
    try:
        exif = load()
        found: dict[str, bytes | None] = {}
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        if exif.get(_ORIENTATION, 1) != 1:
            exif[_ORIENTATION] = 1
            if [inner.pop(tag) for tag in _POINTS if tag in inner]:
                found["subject area"] = None
        if len(exif):
            found[EXIF] = _enlarged_exif(exif.tobytes(), (1, 1), (1, 1))  # raises now for what is damaged
            found[EXIF] = exif.tobytes()
        return found
    except Exception:  # Pillow raises many kinds of errors for damaged data: KeyError, TypeError, struct.error, …
        return _DAMAGED_EXIF


def exif_with_resolution(exif: bytes, x: float, y: float) -> bytes:
    """Return EXIF data, which may be empty, with a resolution in pixels per inch."""
    data = Image.Exif()
    data.load(exif)
    data[0x11A], data[0x11B], data[_RESOLUTION_UNIT] = x, y, 2
    return data.tobytes()


def _enlarged_exif(exif: bytes, size: tuple[int, int], factors: tuple[float, float]) -> bytes:
    data = Image.Exif()
    data.load(exif)
    for tags in (data, data.get_ifd(ExifTags.IFD.Exif), data.get_ifd(ExifTags.IFD.Interop)):
        for tag in _SIZES.keys() & tags.keys():
            tags[tag] = size[_SIZES[tag]]
        for tag in _DENSITIES.keys() & tags.keys():
            if math.isfinite(float(tags[tag])):
                tags[tag] = float(tags[tag]) * factors[_DENSITIES[tag]]
        for tag in tags.keys() & _POINTS:
            tags[tag] = tuple(
                round(value * factor) for value, factor in zip(tags[tag], factors[::-1] * 2, strict=False)
            )
    return data.tobytes()


def _enlarged_xmp(xmp: bytes, size: tuple[int, int], factors: tuple[float, float]) -> bytes:
    def enlarge(match: re.Match[bytes]) -> bytes:
        across = int(re.search(rb"lX|bX|Width|Left|:w|bW", match[1]) is not None)
        unit = {b"stDi": b"AppliedToDimensions", b"Iptc": b"pixel"}.get(match[1][:4], b"")
        if unit not in xmp:  # the size of a page, or parts of the picture's size
            return match[0]
        is_size = match[1].startswith((b"exif", b"tiff"))
        return match[1] + b"%d" % (size[across] if is_size else round(float(match[2]) * factors[across]))

    return _XMP_PIXELS.sub(enlarge, xmp)
