"""Metadata of picture files, read and written with Pillow: EXIF, XMP, texts, resolution."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

EXIF_PREFIX = b"Exif\0\0"
COMMENT = "Comment"
"""Key of a JPEG's comment among the texts."""
XMP_IN_PNG = "XML:com.adobe.xmp"
_NO_TEXTS = (XMP_IN_PNG, "Raw profile type exif", "Raw profile type xmp")  # data that PNG keeps as text
_PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")  # JPEG includes MPO
_INNER = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_POINTERS = {*_INNER, 0xA005}  # the last: interoperability, of no use in a new file
_ORIENTATION, _DESCRIPTION = 0x112, 0x10E
_KIND, _REDUCED, _MASK, _EXTRA_SAMPLES = 0xFE, 1, 4, 0x152  # of a TIFF's page
_PHOTOMETRIC, _CAMERA, _SAMPLES, _PLANAR, _SEPARATE_PLANES = 0x106, 32803, 0x115, 0x11C, 2
_SIZES = {0xA002: 1, 0xA003: 0}  # tags of width and height, and their places in (height, width)
# Tags of a TIFF's own directory that say what the picture shows: description, make, model, software, date, artist,
# computer, rating, copyright, and Windows' title, comment, author, keywords, subject.
_DESCRIPTIVE = {0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x13C, 0x4746, 0x8298, *range(0x9C9B, 0x9CA0)}
_LAYOUTS = ('{"shape"', "ImageJ=", "<?xml")  # descriptions of pixels that would be wrong for another size
_XMP_ORIENTATION = re.compile(rb"(\btiff:Orientation(?:\s*=\s*[\"']|>\s*))\d")
# Panorama sizes count pixels of the source; gain maps and motion clips are not in the result.
_XMP_OF_THE_SOURCE = re.compile(rb"\b(GPano|hdrgm|GCamera|GDepth|Container):")


@dataclass
class Metadata:
    """What one file says beside its pixels, colour profile and XMP data; the same fields as in `Picture`."""

    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    frames: int = 1
    page: int = 0
    """Of a TIFF: the first page that is not a preview or a mask."""
    alpha_is_marked: bool = True
    """False for a TIFF whose extra channel is something else than transparency."""
    refusal: str | None = None
    """Why the pixels cannot be read, and what to do, where libvips would give wrong ones."""
    notices: list[str] = field(default_factory=list)


def read_metadata(content: bytes, kind: str) -> Metadata:
    """Metadata of a file; damaged parts are left out with a notice. kind: as in libvips, such as "png"."""
    found = Metadata()
    if kind == "tiff":
        _read_tiff(content, found)
        return found
    with open_with_pillow(content, _PILLOW_FORMATS) as image:
        found.frames = getattr(image, "n_frames", 1)
        # for PNG, `getexif` and `text` decode: EXIF data and texts may follow the pixels
        raw = bool(image.info.get("exif"))
        found.exif = _checked_exif(image.getexif, found, raw=raw)
        dpi = image.info.get("dpi")
        found.dpi = _plausible(*dpi) if isinstance(dpi, tuple) else None
        if image.format == "PNG":
            texts: dict[str, Any] = getattr(image, "text", {})
            found.texts = {key: str(text) for key, text in texts.items() if key not in _NO_TEXTS}
            gamma = image.info.get("gamma", 0.45455)
            if abs(gamma - 0.45455) > 1e-3 and not image.info.keys() & {"icc_profile", "srgb"}:
                found.notices.append(f"its gamma ({gamma:g}) is left out; the result may look different")
        elif comment := image.info.get("comment") if kind == "jpeg" else None:
            found.texts = {COMMENT: comment.decode("utf-8" if _is_utf8(comment) else "latin-1")}
        tag = b"cICP" if kind == "png" else b"nclx" if kind == "heif" else None
        if tag and (at := content.find(tag, 0, 4096)) >= 0 and not _is_srgb(content[at + 4 :], tag):
            found.notices.append(f"its colour tags ({tag.decode()}) are left out; the result may look different")
        if image.info.get("photoshop"):
            found.notices.append("its IPTC data (captions, keywords) is left out")
    return found


def _read_tiff(content: bytes, found: Metadata) -> None:
    """From the directories alone: Pillow opens fewer kinds of TIFF than libvips."""
    file = io.BytesIO(content)
    directories: list[dict[int, Any]] = []
    directory = ImageFileDirectory_v2(content[: 16 if content[2] == 43 or content[3] == 43 else 8])
    start = directory.next
    while start and len(directories) < 1000:
        file.seek(start)
        directory.load(file)
        directories.append(dict(directory))
        start = directory.next
    full = [number for number, tags in enumerate(directories) if not int(tags.get(_KIND, 0)) & (_REDUCED | _MASK)]
    found.page, found.frames = (full or [0])[0], max(1, len(full))
    tags = directories[found.page]
    extra = tags.get(_EXTRA_SAMPLES, ())
    found.alpha_is_marked = not extra or any(kind in (1, 2, 999) for kind in extra)
    if tags.get(_PHOTOMETRIC) == _CAMERA:
        found.refusal = "holds undeveloped camera data; develop it to 16-bit TIFF or PNG first"
    if tags.get(_SAMPLES) == 2 and tags.get(_PLANAR) == _SEPARATE_PLANES:
        found.refusal = "has grey and alpha in separate planes; save it with interleaved channels"
    unit = {2: 1.0, 3: 2.54}.get(tags.get(0x128, 2), 0)
    found.dpi = _plausible(*(float(tags.get(tag, 0)) * unit for tag in (0x11A, 0x11B)))

    def load() -> Image.Exif:
        exif = Image.Exif()
        exif.load(content)
        return exif

    found.exif = _checked_exif(load, found, tags=_DESCRIPTIVE) if content[2:4] in (b"*\0", b"\0*") else None


def checked_xmp(xmp: bytes | None, notices: list[str]) -> bytes | None:
    """XMP data as it is, except for the orientation, which becomes 1; None if it describes more than the result has."""
    if xmp and (match := _XMP_OF_THE_SOURCE.search(xmp)):
        notices.append(f"its XMP data describes what the result does not have ({match[1].decode()}) and is left out")
        return None
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp) if xmp else None


def _plausible(x: float, y: float) -> tuple[float, float] | None:
    """Dots per inch that every format can hold (JPEG has 16 bits for them); 1 stands for unknown."""
    return (float(x), float(y)) if all(1 < value <= 65535 for value in (x, y)) else None


def _is_srgb(primaries_and_transfer: bytes, tag: bytes) -> bool:
    """By the numbers of ITU-T H.273, which take one byte each in a PNG and two in AVIF; 2 is unspecified."""
    step = 1 if tag == b"cICP" else 2
    return primaries_and_transfer[step - 1] in (1, 2) and primaries_and_transfer[2 * step - 1] in (1, 2, 6, 13)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _checked_exif(
    load: Callable[[], Image.Exif], found: Metadata, *, raw: bool = False, tags: Set[int] | None = None
) -> bytes | None:
    """EXIF data of an upright picture, without the thumbnail. raw: whether the file has some; tags: the only ones."""
    try:
        source, kept = load(), Image.Exif()
        kept.endian = source.endian
        for tag in (set(source) if tags is None else tags & set(source)) - _POINTERS:
            if not (tag == _DESCRIPTION and str(source[tag]).startswith(_LAYOUTS)):
                kept[tag] = 1 if tag == _ORIENTATION else source[tag]
        for ifd in _INNER:
            if values := {tag: value for tag, value in source.get_ifd(ifd).items() if tag not in _POINTERS}:
                kept[ifd] = values
        if len(kept):
            return kept.tobytes()
    except Exception:  # Pillow's reader trips over damage in many ways: KeyError, TypeError, struct.error, …
        raw = True
    if raw:
        found.notices.append("its EXIF data is damaged and is left out")
    return None


def resized_exif(exif: bytes, size: tuple[int, int]) -> bytes:
    """EXIF data that gives this (height, width) in pixels where it gives any."""
    data = Image.Exif()
    data.load(exif)
    inner = data.get_ifd(ExifTags.IFD.Exif)
    for tag in _SIZES.keys() & inner.keys():
        inner[tag] = size[_SIZES[tag]]
    return data.tobytes()


def open_with_pillow(content: bytes, formats: tuple[str, ...]) -> Image.Image:
    """An image, opened but not decoded. Only the named formats are tried (EPS would start Ghostscript)."""
    Image.init()
    return Image.open(io.BytesIO(content), formats=[name for name in formats if name in Image.OPEN])
