"""What a picture is here: pixels with straight alpha, and the metadata of its file that goes into the result."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from rgt_arch.errors import UserError

COMMENT = "Comment"
"""Key of a JPEG's comment among the texts."""
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
_ICC_SPACES = {b"GRAY": (1, 2), b"RGB ": (3, 4)}  # the colour space of a profile, and the channels it can describe


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright.

    pixels: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGBA; uint8 or uint16; alpha is straight.
    icc_profile: of these pixels; None where the file had none, or its colours were converted to sRGB.
    exif: starts with "Exif\\0\\0"; the orientation in it is 1 and there is no thumbnail. xmp: opaque.
    dpi: (x, y) dots per inch, if the file says. texts: by key, of a PNG, or the comment of a JPEG.
    notices: what of the file is not in here, in one line each, without the file's name.
    Raises ValueError for pixels of another shape or type.
    """

    pixels: NDArray[Any]
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    notices: tuple[str, ...] = field(default=(), compare=False)
    xmp: bytes | None = None
    texts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pixels.ndim not in (2, 3) or self.channels not in (1, 2, 3, 4) or 0 in self.pixels.shape:
            raise ValueError(f"pixels must be (H, W) or (H, W, 2 to 4), not {self.pixels.shape}")
        if self.pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"pixels must be uint8 or uint16, not {self.pixels.dtype}")

    @property
    def channels(self) -> int:
        return 1 if self.pixels.ndim == 2 else self.pixels.shape[2]

    @property
    def has_alpha(self) -> bool:
        return self.channels in (2, 4)

    def replace_pixels(self, pixels: NDArray[Any]) -> Picture:
        """The same picture with other pixels, perhaps of another size, and without notices."""
        return replace(self, pixels=pixels, notices=())


def icc_fits(profile: bytes, channels: int) -> bool:
    """Whether an ICC profile describes pixels of so many channels: a profile for RGB in a grey file is a fault."""
    return channels in _ICC_SPACES.get(profile[16:20], ())


@dataclass
class Metadata:
    """What one file says beside its pixels, colour profile and XMP data; the same fields as in `Picture`."""

    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    frames: int = 1
    alpha_is_marked: bool = True
    """False for a TIFF whose extra channel is something else than transparency."""
    notices: list[str] = field(default_factory=list)


def read_metadata(content: bytes, kind: str) -> Metadata:
    """Metadata of a file; damaged parts are left out with a notice. kind: as in libvips, such as "png"."""
    found = Metadata()
    if kind == "tiff":
        _read_tiff(content, found)
        return found
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with Image.open(io.BytesIO(content), formats=formats) as image:
        found.frames = getattr(image, "n_frames", 1)
        try:
            found.exif = _upright(image.getexif())  # decodes a PNG, whose EXIF data and texts may follow the pixels
        except Exception:  # Pillow's reader trips over damage in many ways: KeyError, TypeError, struct.error, …
            found.exif = None
        if image.info.get("exif") and not found.exif:
            found.notices.append("its EXIF data is damaged and is left out")
        dpi = image.info.get("dpi")
        found.dpi = _plausible(*dpi) if isinstance(dpi, tuple) else None
        if kind == "png":
            texts: dict[str, Any] = getattr(image, "text", {})
            found.texts = {key: str(text) for key, text in texts.items() if key not in _NOT_TEXTS}
            gamma = image.info.get("gamma", 0.45455)
            if abs(gamma - 0.45455) > 1e-3 and not image.info.keys() & {"icc_profile", "srgb"}:
                found.notices.append(f"its gamma ({gamma:g}) is left out; the result may look different")
        elif comment := image.info.get("comment") if kind == "jpeg" else None:
            try:
                found.texts = {COMMENT: comment.decode()}
            except UnicodeDecodeError:
                found.texts = {COMMENT: comment.decode("latin-1")}
        tag = {"png": b"cICP", "heif": b"nclx"}.get(kind)
        if tag and (at := content.find(tag, 0, 4096)) >= 0 and not _is_srgb(content[at + 4 :], tag):
            found.notices.append(f"its colour tags ({tag.decode()}) are left out; the result may look different")
        if image.info.get("photoshop"):
            found.notices.append("its IPTC data (captions, keywords) is left out")
    return found


def _read_tiff(content: bytes, found: Metadata) -> None:
    """From the first directory alone: Pillow opens fewer kinds of TIFF than libvips. Not for BigTIFF."""
    if content[2:4] not in (b"*\0", b"\0*"):
        return
    tags = Image.Exif()
    tags.load(content)
    extra = tags.get(_EXTRA_SAMPLES)
    found.alpha_is_marked = extra is None or not {1, 2, 999}.isdisjoint(extra if isinstance(extra, tuple) else [extra])
    if tags.get(_PHOTOMETRIC) == _CAMERA or (tags.get(_SAMPLES), tags.get(_PLANES)) == (2, 2):
        raise UserError("holds undeveloped camera data, or grey and alpha in separate planes; save it as PNG first")
    unit = {2: 1.0, 3: 2.54}.get(tags.get(_RESOLUTION_UNIT, 2), 0)
    found.dpi = _plausible(*(float(tags.get(tag, 0)) * unit for tag in (0x11A, 0x11B)))
    for tag in set(tags):
        if tag not in _DESCRIPTIVE or (tag == _DESCRIPTION and str(tags[tag]).startswith(_LAYOUTS)):
            del tags[tag]
    try:
        found.exif = _upright(tags)
    except Exception:  # as above
        found.notices.append("its EXIF data is damaged and is left out")


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


def _upright(exif: Image.Exif) -> bytes | None:
    """EXIF data of an upright picture, without the thumbnail; None if there is none."""
    if _ORIENTATION in exif:
        exif[_ORIENTATION] = 1
    return exif.tobytes() if len(exif) else None


def resized_exif(exif: bytes, size: tuple[int, int]) -> bytes:
    """EXIF data that gives this (height, width) in pixels where it gives any."""
    data = Image.Exif()
    data.load(exif)
    inner = data.get_ifd(ExifTags.IFD.Exif)
    for tag in _SIZES.keys() & inner.keys():
        inner[tag] = size[_SIZES[tag]]
    return data.tobytes()
