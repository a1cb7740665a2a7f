"""Read picture files without loss, upright: pixels by libvips in 8 or 16 bits, metadata by Pillow."""

from __future__ import annotations

import logging
import math
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyvips
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin

from rgt_arch.data.images import decode, image_size, read_bytes
from rgt_arch.errors import UserError
from rgt_arch.inference.pictures.picture import (
    DPI,
    EXIF,
    PROFILE,
    UNMARKED,
    XMP,
    YCBCR,
    Picture,
    named_xmp,
    read_metadata,
    webp_chunks,
)

MAX_PIXELS = 2**30
"""Files that decode to more pixels are damaged or an attack."""
_MAX_TEXT = 64 << 20  # bytes of metadata that Pillow unpacks
# What a file begins with, and the loader of libvips that reads it; OpenCV reads others.
_KINDS = {
    rb"\x89PNG\r\n\x1a\n": "png",
    rb"\xff\xd8\xff": "jpeg",
    rb"RIFF....WEBP": "webp",
    rb"GIF8": "gif",
    rb"II[*+]\0|MM\0[*+]": "tiff",  # +: BigTIFF
    rb"....ftyp(?:....)*?avi[fs]": "heif",
    rb"....ftyp(?:....)*?(?:hei[cmsx]|hev[cmsx]|mif1|msf1)": "HEIC",
}
_LONGEST_START = 256
_FIELDS = ("n-pages", "orientation", "bits-per-sample", "xmp-data", "icc-profile-data")
_DAMAGED = "some of its metadata is damaged or above 64 MB: it may be wrong or missing"
_NO_END = "its end mark is missing, but all pixels are there"
_READ = "PNG, JPEG, TIFF, WebP, AVIF, GIF, BMP, PNM or JPEG 2000"

pyvips.cache_set_max(0)  # the cache would return the old content of a file that was written again
logging.getLogger("pyvips").setLevel(logging.ERROR)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # only our own line is printed


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Read a picture file, upright, with everything that `Picture` can hold.

    16 bits stay 16, and 10 or 12 become 16; palettes become colours; alpha is straight; CMYK and Lab become sRGB; only
    the first page is read. Raises a one-line UserError for animations, other sample types, more than 2^30 pixels,
    damaged, truncated and empty files, and files that are not pictures.
    """
    path = Path(path)
    content = read_bytes(path)
    try:
        with _quiet_and_unlimited():
            return _read(content)
    except MemoryError:
        raise UserError(f"{path}: does not fit into memory") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # the readers raise many kinds of errors for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: is truncated, damaged or of an unknown kind ({reason})") from error


def picture_pixels(path: Path) -> int:
    """Return the number of pixels in a picture's header; 1 if it cannot be read."""
    if not path.is_file():  # opening a FIFO would wait for ever
        return 1
    try:
        image = pyvips.Image.new_from_file(str(path))
        return int(image.width * image.height)
    except (pyvips.Error, UnicodeError):  # libvips takes names in UTF-8 only
        return math.prod(image_size(path) or (1,))


def is_lossy(path: Path) -> bool:
    """Check whether a file is a JPEG, a lossy WebP or an AVIF, by its content; False if it cannot be read."""
    with suppress(OSError):
        if path.is_file():  # opening a FIFO would wait for ever
            with path.open("rb") as file:
                kind = _kind(start := file.read(_LONGEST_START))
                return kind in ("jpeg", "heif") or (kind == "webp" and not _is_lossless_webp(start + file.read()))
    return False


def _is_lossless_webp(content: bytes) -> bool:
    return b"VP8L" in webp_chunks(content)


def _kind(content: bytes) -> str | None:
    # the brands of AVIF and HEIC are in a box that begins with its size
    start = content[: content[3] if content[4:8] == b"ftyp" else _LONGEST_START]
    return next((kind for pattern, kind in _KINDS.items() if re.match(pattern, start, re.DOTALL)), None)


def _read(content: bytes) -> Picture:
    kind = _kind(content)
    if kind == "HEIC":
        raise UserError("HEIC is not read; save it as PNG, TIFF or JPEG first")
    if kind is None:
        return _by_opencv(content)
    try:
        picture = _by_vips(content, kind)
        if kind == "png" and b"IEND" not in content:
            picture = replace(picture, notices=(*picture.notices, _NO_END))
        return picture
    except pyvips.Error as error:
        if kind != "jpeg" or "premature end" not in str(error):
            raise
        # with the end mark added, libvips warns only if pixels are missing too
        picture = _by_vips(content + b"\xff\xd9", kind, fail_on="warning")
        return replace(picture, notices=(*picture.notices, _NO_END))


def _by_vips(content: bytes, kind: str, fail_on: str = "error") -> Picture:
    options: dict[str, Any] = {"fail_on": fail_on, "access": "sequential"}
    if kind in ("png", "jpeg", "tiff", "heif"):
        options["unlimited"] = True  # metadata of any length, and large pictures
    metadata, notices = _metadata(content, kind)
    load = getattr(pyvips.Image, f"{kind}load_buffer")
    image = load(content, **options)
    if image.width * image.height > MAX_PIXELS:
        raise UserError(f"{image.width}×{image.height} pixels are too many; the limit is {MAX_PIXELS}")
    fields = {name: image.get(name) for name in _FIELDS if image.get_typeof(name)}
    if YCBCR in metadata:
        del metadata[YCBCR]
        upright = cv2.cvtColor(_opencv_pixels(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        image = pyvips.Image.new_from_array(upright, interpretation="srgb")
    if kind in ("tiff", "heif") and (pages := fields.get("n-pages", 1)) > 1:
        metadata[f"pages after the first ({pages - 1})"] = None
    turned = fields.get("orientation", 1)
    if DPI in metadata and turned in (5, 6, 7, 8):
        metadata[DPI] = metadata[DPI][::-1]
    metadata |= named_xmp(fields.get("xmp-data", b""), turned=turned != 1)
    if image.interpretation == "cmyk":
        if "icc-profile-data" not in fields:
            notices.append("CMYK without a colour profile: its colours are a guess")
        depth = 16 if image.format == "ushort" else 8
        inks, more = image.extract_band(0, n=4), image.bands - 4
        rgb = inks.icc_transform(
            "srgb", embedded=True, intent="relative", black_point_compensation=True, depth=depth
        )  # which would scale alpha of 16 bits as if it had 8
        image = rgb.bandjoin(image.extract_band(4, n=more)) if more else rgb
    elif "icc-profile-data" in fields:
        metadata[PROFILE] = fields["icc-profile-data"]
    if image.interpretation in ("lab", "labs"):
        image = image.colourspace("rgb16")  # Lab has 16 or 32 bits
    if image.format not in ("uchar", "ushort"):
        bits = f"{fields.get('bits-per-sample', 0)}-bit samples of type {image.format}"
        raise UserError(f"has {bits}; convert it to 8 or 16 bits, unsigned")
    if kind == "heif" and image.format == "ushort":  # libvips fills up 10 and 12 bits with zeros
        image |= image >> fields["bits-per-sample"]
    if image.bands > 2 and image.interpretation not in ("srgb", "rgb16", "rgb"):
        raise UserError(f"has {image.bands} channels that are not marked as RGB or CMYK; save it as grey, RGB or RGBA")
    colours = 1 if image.bands < 3 else 3
    image = image.extract_band(0, n=min(image.bands, colours + (UNMARKED not in metadata)))
    pixels = (image if turned == 1 else image.copy_memory().autorot()).numpy()
    lossless = kind == "webp" and _is_lossless_webp(content)
    own_bits = fields["bits-per-sample"] if kind == "heif" else None
    return Picture(pixels, metadata, tuple(notices), lossless, own_bits)


def _metadata(content: bytes, kind: str) -> tuple[dict[str, Any], list[str]]:
    """Read the metadata of a file whose pixels libvips reads, and notices."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        for tolerant in (before, True):  # True: Pillow leaves out texts that are too large, and ignores their checksums
            ImageFile.LOAD_TRUNCATED_IMAGES = tolerant
            try:
                return read_metadata(content, kind), [] if tolerant is before else [_DAMAGED]
            except UserError:
                raise
            except Exception:  # Pillow raises many kinds of errors; libvips decides whether the pixels are whole
                continue
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
    return {}, ["its metadata cannot be read"]


def _opencv_pixels(content: bytes, flags: int) -> NDArray[Any]:
    try:
        return decode(content, Path(), flags)
    except UserError as error:
        raise UserError(f"is truncated, damaged, or not a picture of a kind that is read: {_READ}") from error


def _by_opencv(content: bytes) -> Picture:
    """Read formats whose metadata does not matter: BMP, PNM, JPEG 2000 in 8 or 16 bits."""
    pixels = _opencv_pixels(content, cv2.IMREAD_UNCHANGED)
    if pixels.dtype not in (np.uint8, np.uint16) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise UserError(f"has {pixels.dtype} samples; convert it to 8 or 16 bits, grey or RGB")
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    names = {b"colr\x02": PROFILE, b"uuid": f"{EXIF} or {XMP}"}  # boxes of JPEG 2000
    return Picture(pixels, {f"{name} of JPEG 2000": None for box, name in names.items() if box in content[:4096]})


@contextmanager
def _quiet_and_unlimited() -> Iterator[None]:
    """Lift Pillow's limits and silence warnings: large pictures and odd metadata are not faults."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = None, _MAX_TEXT, 2**30
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = before
