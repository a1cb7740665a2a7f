"""What files say of a picture in words: XMP data, and the texts of PNG and JPEG; put right for another size."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, PngImagePlugin

from rgt_arch.data.images import PNG_SIGNATURE

COMMENT = "Comment"
"""Key of a JPEG's comment among the texts."""
XMP_IN_JPEG = 65533 - 29  # bytes in one marker, but for its name
XMP_IN_TIFF = 700  # the tag
_XMP_IN_PNG = "XML:com.adobe.xmp"
_NO_TEXTS = (_XMP_IN_PNG, "Raw profile type exif", "Raw profile type xmp")  # data that PNG keeps as text
# gAMA and cHRM of sRGB (PNG specification, 11.3.2)
_SRGB = {
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
}
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
    if image.format not in ("JPEG", "MPO") or not comment:
        return {}
    try:
        return {COMMENT: comment.decode()}
    except UnicodeDecodeError:  # the format does not say; each byte is a sign in Latin-1
        return {COMMENT: comment.decode("latin-1")}


def colour_chunks(png: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Type and content of the chunks by which a PNG says that its colours are not those of sRGB.

    Of cICP, and of gAMA and cHRM where no profile or sRGB takes their place (PNG specification, 4.3).
    """
    found: dict[bytes, bytes] = {}
    at = len(PNG_SIGNATURE)
    while at + 8 <= len(png) and (kind := png[at + 4 : at + 8]) != b"IDAT":
        length = int.from_bytes(png[at : at + 4], "big")
        found[kind] = png[at + 8 : at + 8 + length]
        at += 12 + length
    if found.keys() & {b"iCCP", b"sRGB"} or all(found.get(kind, srgb) == srgb for kind, srgb in _SRGB.items()):
        found = {kind: content for kind, content in found.items() if kind not in _SRGB}
    return tuple((kind, content) for kind, content in found.items() if kind in (b"cICP", *_SRGB))


def png_info(
    texts: Mapping[str, str], xmp: bytes | None, colours: Sequence[tuple[bytes, bytes]]
) -> PngImagePlugin.PngInfo:
    """The chunks of a PNG that hold these."""
    info = PngImagePlugin.PngInfo()
    for kind, content in colours:
        info.add(kind, content)
    for key, text in texts.items():
        info.add_text(key, text)
    if xmp:
        info.add_itxt(_XMP_IN_PNG, xmp)
    return info
