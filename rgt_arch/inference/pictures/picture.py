"""`Picture`: pixels with straight alpha, and the file's metadata for the result."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from rgt_arch.errors import UserError

PROFILE, EXIF, XMP, DPI, TEXT = "colour profile", "EXIF data", "XMP data", "resolution", "text "
COMMENT = f"{TEXT}Comment"  # of a JPEG
UNMARKED = "channels that are not marked as transparency"
XMP_IN_PNG = "XML:com.adobe.xmp"
_NOT_TEXTS = (XMP_IN_PNG, "Raw profile type exif", "Raw profile type xmp")  # data that PNG keeps as text
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")  # JPEG includes MPO; EPS would start Ghostscript
_ORIENTATION, _DESCRIPTION = 0x112, 0x10E
_EXTRA_SAMPLES, _PHOTOMETRIC, _CAMERA, _RESOLUTION_UNIT, _SAMPLES, _PLANES = 0x152, 0x106, 32803, 0x128, 0x115, 0x11C
_SIZES = {0xA002: 1, 0xA003: 0}  # tags of width and height, and their places in (height, width)
# Tags of a TIFF's own directory that describe what the picture shows: description, make, model, software, date, artist,
# computer, rating, copyright, Windows' title, comment, author, keywords, subject, and the directories of EXIF and GPS.
_DESCRIPTIVE = {0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x13C, 0x4746, 0x8298, *range(0x9C9B, 0x9CA0), 0x8769, 0x8825}
_LAYOUTS = ('{"shape"', "ImageJ=", "<?xml")  # descriptions of pixels that would be wrong for another size
_XMP_ORIENTATION = re.compile(rb"(\btiff:Orientation(?:\s*=\s*[\"']|>\s*))\d")
# Panorama sizes count pixels of the source; gain maps and motion clips are not in the result.
_XMP_OF_THE_SOURCE = re.compile(rb"\b(GPano|hdrgm|GCamera|GDepth|Container):")
_DAMAGED_EXIF: dict[str, bytes | None] = {f"{EXIF}, which is damaged": None}


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright.

    pixels: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGBA; uint8 or uint16; alpha is straight.
    metadata: by the names in notices: PROFILE, EXIF (begins with "Exif\\0\\0", upright, without a thumbnail) and XMP as
    bytes, DPI (x, y), and TEXT with a key for a PNG's texts and a JPEG's comment. Entries with other names are not
    written, only reported as lost.
    notices: lines for the user about the pixels, without the file's name.
    """

    pixels: NDArray[Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        return 1 if self.pixels.ndim == 2 else self.pixels.shape[2]

    @property
    def has_alpha(self) -> bool:
        return self.channels in (2, 4)


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
        found |= _upright(image.getexif) or (_DAMAGED_EXIF if image.info.get("exif") else {})
        found |= _plausible(*image.info.get("dpi", (0, 0)))
        if kind == "png":
            texts: dict[str, Any] = getattr(image, "text", {})
            found |= {f"{TEXT}{key}": str(text) for key, text in texts.items() if key not in _NOT_TEXTS}
            gamma = image.info.get("gamma", 0.45455)
            if abs(gamma - 0.45455) > 1e-3 and not image.info.keys() & {"icc_profile", "srgb"}:
                found[f"gamma ({gamma:g})"] = None
        elif comment := image.info.get("comment") if kind == "jpeg" else None:
            found[COMMENT] = comment.decode("latin-1")
            with suppress(UnicodeDecodeError):
                found[COMMENT] = comment.decode()
        tag = {"png": b"cICP", "heif": b"nclx"}.get(kind)
        if tag and (at := content.find(tag, 0, 4096)) >= 0 and not _is_srgb(content[at + 4 :], tag):
            found[f"colour tags ({tag.decode()})"] = None
        if image.info.get("photoshop"):
            found["IPTC data (captions, keywords)"] = None
    return found


def _read_tiff(content: bytes) -> dict[str, Any]:
    """Read only the first directory, not the image: Pillow opens fewer kinds of TIFF than libvips."""
    is_large = b"+" in content[2:4]  # BigTIFF, whose descriptions Pillow does not read
    tags = ImageFileDirectory_v2(content[: 16 if is_large else 8])
    file = io.BytesIO(content)
    file.seek(tags.next)
    tags.load(file)
    if tags.get(_PHOTOMETRIC) == _CAMERA or (tags.get(_SAMPLES), tags.get(_PLANES)) == (2, 2):
        raise UserError("holds undeveloped camera data, or grey and alpha in separate planes; save it as PNG first")
    unit = {2: 1.0, 3: 2.54}.get(tags.get(_RESOLUTION_UNIT, 2), 0)
    found: dict[str, Any] = _plausible(*(float(tags.get(tag, 0)) * unit for tag in (0x11A, 0x11B)))
    if {1, 2, 999}.isdisjoint(tags.get(_EXTRA_SAMPLES, (2,))):
        found[UNMARKED] = None
    return found if is_large else found | _upright(lambda: _descriptions(content))


def _descriptions(content: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(content)
    for tag in set(exif):
        if tag not in _DESCRIPTIVE or (tag == _DESCRIPTION and str(exif[tag]).startswith(_LAYOUTS)):
            del exif[tag]
    return exif


def named_xmp(xmp: bytes) -> dict[str, bytes]:
    """Return XMP data, if any, with orientation 1; named as lost if it describes things that a result does not have."""
    match = _XMP_OF_THE_SOURCE.search(xmp)
    name = f"{XMP} about parts that the result lacks ({match[1].decode()})" if match else XMP
    return {} if not xmp else {name: _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)}


def _plausible(x: float, y: float) -> dict[str, tuple[float, float]]:
    """The DPI if every format can hold it (JPEG has 16 bits for it); 1 means unknown."""
    return {DPI: (float(x), float(y))} if all(1 < value <= 65535 for value in (x, y)) else {}


def _is_srgb(primaries_and_transfer: bytes, tag: bytes) -> bool:
    """Compare with sRGB by the numbers of ITU-T H.273: one byte each in a PNG, two in AVIF; 2 is unspecified."""
    step = 1 if tag == b"cICP" else 2
    return primaries_and_transfer[step - 1] in (1, 2) and primaries_and_transfer[2 * step - 1] in (1, 2, 6, 13)


def _upright(load: Callable[[], Image.Exif]) -> dict[str, bytes | None]:
    """EXIF data with orientation 1 and without a thumbnail; empty if there is none."""
    try:
        exif = load()
        if _ORIENTATION in exif:
            exif[_ORIENTATION] = 1
        return {EXIF: exif.tobytes()} if len(exif) else {}
    except Exception:  # Pillow raises many kinds of errors for damaged data: KeyError, TypeError, struct.error, …
        return _DAMAGED_EXIF


def resized_exif(exif: bytes, size: tuple[int, int]) -> bytes:
    """Return EXIF data whose pixel sizes, if any, are this (height, width)."""
    data = Image.Exif()
    data.load(exif)
    inner = data.get_ifd(ExifTags.IFD.Exif)
    for tag in _SIZES.keys() & inner.keys():
        inner[tag] = size[_SIZES[tag]]
    return data.tobytes()
