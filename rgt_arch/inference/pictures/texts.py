"""What files say of a picture in words: XMP data, and the texts of PNG and JPEG; put right for another size."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from PIL import Image, PngImagePlugin

COMMENT = "Comment"
"""Key of a JPEG's comment among the texts."""
XMP_IN_JPEG = 65533 - 29  # bytes in one marker, but for its name
XMP_IN_TIFF = 700  # the tag
_XMP_IN_PNG = "XML:com.adobe.xmp"
_NO_TEXTS = (_XMP_IN_PNG, "Raw profile type exif", "Raw profile type xmp")  # data that PNG keeps as text
_SRGB_GAMMA = 1 / 2.2
# XMP specification part 2, 1.2 and 1.5; as an attribute or an element
_ORIENTATION = re.compile(rb"(\btiff:Orientation(?:\s*=\s*[\"']|>\s*))\d+")
_WIDTH = re.compile(rb"(\b(?:tiff:ImageWidth|exif:PixelXDimension)(?:\s*=\s*[\"']|>\s*))\d+")
_HEIGHT = re.compile(rb"(\b(?:tiff:ImageLength|exif:PixelYDimension)(?:\s*=\s*[\"']|>\s*))\d+")


def xmp_of(image: Image.Image) -> bytes | None:
    """The XMP data of a decoded file."""
    xmp = image.info.get("xmp")
    return xmp.encode() if isinstance(xmp, str) else xmp if isinstance(xmp, bytes) else None


def resized_xmp(xmp: bytes, height: int, width: int) -> bytes:
    """XMP data of an upright picture that gives these sizes in pixels where it gives any."""
    for pattern, value in ((_ORIENTATION, 1), (_WIDTH, width), (_HEIGHT, height)):
        xmp = pattern.sub(rb"\g<1>%d" % value, xmp)
    return xmp


def texts_of(image: Image.Image) -> dict[str, str]:
    """By key, what a decoded PNG or JPEG says: author, description, comment."""
    if image.format == "PNG":
        texts: Mapping[str, Any] = getattr(image, "text", {})
        return {key: text for key, text in texts.items() if key not in _NO_TEXTS}
    comment = image.info.get("comment")
    return {COMMENT: comment.decode("utf-8", "replace")} if image.format == "JPEG" and comment else {}


def gamma_of(image: Image.Image) -> float | None:
    """The gamma that a PNG's viewers are told to apply; None where it is that of sRGB, or something else counts."""
    gamma = image.info.get("gamma")
    if not gamma or "srgb" in image.info or "icc_profile" in image.info or abs(gamma - _SRGB_GAMMA) < 0.001:
        return None
    return float(gamma)


def png_info(texts: Mapping[str, str], xmp: bytes | None, gamma: float | None) -> PngImagePlugin.PngInfo:
    """The chunks of a PNG that hold these."""
    info = PngImagePlugin.PngInfo()
    if gamma:
        info.add(b"gAMA", round(gamma * 100000).to_bytes(4, "big"))
    for key, text in texts.items():
        info.add_text(key, text)
    if xmp:
        info.add_itxt(_XMP_IN_PNG, xmp)
    return info
