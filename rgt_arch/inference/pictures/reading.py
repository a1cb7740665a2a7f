"""Picture files read without loss: depth, alpha, profile and EXIF data; turned upright."""

from __future__ import annotations

import io
import logging
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rgt_arch.data.images import PNG_SIGNATURE, decode, image_size, read_bytes
from rgt_arch.errors import UserError
from rgt_arch.inference.pictures import exif as exif_data
from rgt_arch.inference.pictures.colours import pixels_of
from rgt_arch.inference.pictures.picture import Picture, icc_fits, plausible_dpi
from rgt_arch.inference.pictures.texts import colour_chunks, texts_of, xmp_of
from rgt_arch.inference.pictures.tiff import SIGNATURES as TIFF_SIGNATURES
from rgt_arch.inference.pictures.tiff import read_tiff, tiff_size

MAX_PIXELS = 2**30
"""OpenCV's own limit; a file that decodes to more is damaged or an attack."""
# What Pillow may try: not EPS, which starts Ghostscript. JPEG includes MPO, of which the first picture counts.
_PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "AVIF")
_ANIMATED = ("PNG", "WEBP", "GIF", "AVIF")
_SIGNATURES = (PNG_SIGNATURE, b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc")
_READ = "PNG, JPEG, TIFF, WebP, BMP, GIF, AVIF, PNM or JPEG 2000"
_lock = threading.RLock()  # Pillow's limit and Python's warning filters belong to the whole process


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """A picture file, upright, with nothing lost that `Picture` can hold; what is lost stands in its `notices`.

    16 bits stay 16; palettes become colours; alpha is straight; CMYK becomes sRGB through its profile; of a TIFF with
    several pages the first is read. Raises UserError in one line for animations, other sample types, more than 2^30
    pixels, damaged, truncated and empty files, and whatever is not a picture.
    """
    path = Path(path)
    content = read_bytes(path)
    try:
        with _quiet_and_unlimited():
            if content.startswith(TIFF_SIGNATURES):
                picture, orientation = read_tiff(content, path, MAX_PIXELS)
            else:
                picture, orientation = _read_other(content, path)
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{path}: does not fit into memory") from None
    except Exception as error:  # the readers trip over damage in many ways: IndexError, struct.error, …
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: is truncated, damaged or of an unknown kind ({reason})") from error
    return _finished(picture, orientation)


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) that `read_picture` would give; for most files from their header alone.

    Raises UserError where the file must be read to tell, and cannot be.
    """
    path = Path(path)
    with _quiet_and_unlimited():
        size = tiff_size(path) if path.suffix.lower() in (".tif", ".tiff") else image_size(path)
    if size is None:
        height, width = read_picture(path).pixels.shape[:2]
        size = height, width
    return size


def _finished(picture: Picture, orientation: int) -> Picture:
    notices, icc, exif = list(picture.notices), picture.icc_profile, picture.exif
    if exif and (exif := exif_data.upright(exif)) is None:
        notices.append(exif_data.DAMAGED)
    if icc and not icc_fits(icc, picture.channels):
        notices.append("its colour profile is for other kinds of colours and is left out")
        icc = None
    dpi = picture.dpi[::-1] if picture.dpi and orientation in (5, 6, 7, 8) else picture.dpi
    pixels = _turned(picture.pixels, orientation)
    return replace(picture, pixels=pixels, icc_profile=icc or None, exif=exif, dpi=dpi, notices=tuple(notices))


def _turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels as the camera was held: EXIF 2.32, 4.6.4 A, Orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _read_other(content: bytes, path: Path) -> tuple[Picture, int]:
    try:
        image = _opened(content)
    except Image.UnidentifiedImageError:
        return _by_opencv(content, path), 1
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise UserError(f"{path}: {image.width}×{image.height} pixels are too many; the limit is {MAX_PIXELS}")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format in _ANIMATED:
            raise UserError(f"{path}: is an animation of {frames} frames; save one as a picture, or all as a video")
        icc: bytes | None = image.info.get("icc_profile")
        notices: list[str] = []
        if image.format == "PNG" and content[24] == 16:  # bits per sample, in the first chunk
            pixels: NDArray[Any] = _sixteen_bits(content, path, image)
        else:
            _scale_transparent_grey(content, image)
            pixels, icc, notices = pixels_of(image, icc)
        exif, orientation, unreadable = _exif_of(image)
        if frames > 1:  # of a JPEG: depth, gain, what the other eye sees
            notices.append(f"has {frames} pictures; only the first is read")
        notices += unreadable
        colours = colour_chunks(content) if image.format == "PNG" else ()
        dpi, xmp, texts = _dpi_of(image), xmp_of(image), texts_of(image)
        return Picture(pixels, icc, exif, dpi, tuple(notices), xmp, texts, colours), orientation


def _opened(content: bytes) -> Image.Image:
    Image.init()
    return Image.open(io.BytesIO(content), formats=[name for name in _PILLOW_FORMATS if name in Image.OPEN])


def _scale_transparent_grey(content: bytes, image: Image.Image) -> None:
    """Pillow makes 8 bits of greys of 2 and 4 bits in a PNG, but not of the one among them that is transparent."""
    if image.format == "PNG" and content[25] == 0 and content[24] in (2, 4) and "transparency" in image.info:
        image.info["transparency"] *= 255 // (2 ** content[24] - 1)


def _sixteen_bits(content: bytes, path: Path, image: Image.Image) -> NDArray[np.uint16]:
    pixels = decode(content, path, cv2.IMREAD_UNCHANGED)
    colour_type = content[25]  # PNG specification, 11.2.1
    if pixels.ndim == 3:
        pixels = pixels[..., [0, 3] if colour_type == 4 else [2, 1, 0, 3][: pixels.shape[2]]]
    transparent = image.info.get("transparency")
    if transparent is not None and colour_type in (0, 2):  # one colour that is not to be seen
        colour = (pixels[..., None] if pixels.ndim == 2 else pixels)[..., : 1 if colour_type == 0 else 3]
        seen = np.any(colour != np.array(transparent, np.uint16), axis=2, keepdims=True)
        pixels = np.concatenate([colour, seen * np.uint16(65535)], axis=2)
    return pixels


def _exif_of(image: Image.Image) -> tuple[bytes | None, int, tuple[str, ...]]:
    """EXIF data, the orientation that it or XMP gives, and a notice if that cannot be told."""
    exif = image.info.get("exif")
    try:
        parsed = image.getexif()  # for PNG, decodes: EXIF data may follow the pixels, or be in a text chunk
        exif = image.info.get("exif") or (parsed.tobytes() if "Raw profile type exif" in image.info else None)
        orientation = parsed.get(exif_data.ORIENTATION, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error):
        return None, 1, (exif_data.DAMAGED,)
    if exif and not exif.startswith(exif_data.PREFIX):
        exif = exif_data.PREFIX + exif
    return exif, orientation if isinstance(orientation, int) else 1, ()


def _dpi_of(image: Image.Image) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    return plausible_dpi(float(dpi[0]), float(dpi[1])) if isinstance(dpi, tuple) else None


def _by_opencv(content: bytes, path: Path) -> Picture:
    """Kinds of files that Pillow has, but not in 16 bits, such as PNM and JPEG 2000."""
    if content.startswith(_SIGNATURES):
        raise UserError(f"{path}: is truncated or damaged")
    if content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS:
        raise UserError(f"{path}: HEIC is not read; save it as PNG, TIFF or JPEG first")
    try:
        pixels = decode(content, path, cv2.IMREAD_UNCHANGED)
    except UserError:
        raise UserError(f"{path}: is damaged, or not a picture of a kind that is read: {_READ}") from None
    if pixels.dtype not in (np.uint8, np.uint16) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise UserError(f"{path}: has {pixels.dtype} samples; convert it to 8 or 16 bits, grey or RGB")
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return Picture(pixels)


@contextmanager
def _quiet_and_unlimited() -> Iterator[None]:
    """Large pictures and odd metadata are no faults: without Pillow's limit and what the libraries would print."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        logger = logging.getLogger("tifffile")
        disabled, logger.disabled = logger.disabled, True
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, logger.disabled = limit, disabled
