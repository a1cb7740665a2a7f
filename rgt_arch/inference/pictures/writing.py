"""Picture files written whole, with profile, EXIF and XMP data; what a kind of file cannot hold is told beforehand."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from rgt_arch.errors import UsageError, UserError
from rgt_arch.files import written_whole
from rgt_arch.inference.pictures import exif as exif_data
from rgt_arch.inference.pictures.picture import Picture, icc_fits
from rgt_arch.inference.pictures.png import dpi_chunk, icc_chunk, write_png16
from rgt_arch.inference.pictures.texts import COMMENT, XMP_IN_JPEG, png_info, resized_xmp
from rgt_arch.inference.pictures.tiff import needs_wide_offsets, write_tiff

_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
WRITABLE_SUFFIXES = tuple(_FORMATS)
_SIDE_LIMITS = {"JPEG": 65500, "WebP": 16383, "PNG": 2**31 - 1, "BMP": 2**31 - 1, "TIFF": 2**31 - 1}  # libjpeg, libwebp
_BMP_BYTES = 2**32 - 2**10
_EXIF_IN_JPEG = 65533  # bytes in one marker


def check_writable(path: str | os.PathLike[str], size: tuple[int, int], channels: int, dtype: DTypeLike) -> list[str]:
    """Whether a file of this name can hold a picture: asked before any work is done for it.

    size: (height, width); channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; dtype: uint8 or uint16.
    Returns one line for each thing that will be lost, without the file's name. Raises UsageError for an unknown suffix,
    UserError for a picture that is too large for the kind of file.
    """
    path = Path(path)
    kind = _format(path)
    height, width = size
    limit = _SIDE_LIMITS[kind]
    row = -(-width * (3 if channels > 2 else 1) // 4) * 4
    if max(height, width) > limit or (kind == "BMP" and row * height > _BMP_BYTES):
        most = "4 GiB" if kind == "BMP" else f"{limit} pixels in width and height"
        raise UserError(
            f"{path}: {width}×{height} pixels do not fit into {kind}, which ends at {most}; use PNG or TIFF"
        )
    notices = []
    if kind in ("JPEG", "WebP", "BMP") and np.dtype(dtype) == np.uint16:
        notices.append(f"{kind} has 8 bits per sample; the 16 are rounded (PNG and TIFF keep them)")
    if kind in ("JPEG", "BMP") and channels in (2, 4):
        notices.append(f"{kind} has no transparency; the picture is put on white (PNG, TIFF and WebP keep it)")
    return notices


def write_picture(
    path: str | os.PathLike[str], picture: Picture, *, quality: int = 95, lossless: bool = False
) -> list[str]:
    """Write a picture in the format of the suffix, whole or not at all, in a folder that may not exist yet.

    quality: of JPEG (4:4:4) and WebP, 1 to 100; lossless: of WebP. PNG, TIFF and BMP are always lossless.
    Returns one line for each part of the metadata that the format cannot hold; for pixels `check_writable` tells.
    Raises what that raises, and UserError if the disk or the encoder refuses.
    """
    path = Path(path)
    height, width = picture.pixels.shape[:2]
    check_writable(path, (height, width), picture.channels, picture.pixels.dtype)
    kind = _format(path)
    beside_pixels, notices = _metadata(picture, kind)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be made ({error.strerror})") from error
    try:
        with written_whole(path) as beside:
            if kind == "TIFF":
                write_tiff(beside, picture, beside_pixels.icc, beside_pixels.exif, beside_pixels.xmp)
            elif kind == "PNG" and picture.pixels.dtype == np.uint16:
                _write_png16(beside, picture, beside_pixels)
            else:
                _write_8_bits(beside, picture, kind, beside_pixels, quality, lossless)
    except MemoryError:
        raise UserError(f"{path}: does not fit into memory when written as {kind}") from None
    except (ValueError, struct.error) as error:  # Pillow's encoders
        raise UserError(f"{path}: cannot be written as {kind} ({error}); use another format") from error
    return notices


def _format(path: Path) -> str:
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(WRITABLE_SUFFIXES)
        raise UsageError(f"{path}: the suffix says the format, and must be one of {known}") from None


@dataclass(frozen=True)
class _Metadata:
    """What of a picture beside its pixels goes into the file."""

    icc: bytes | None
    exif: bytes | None
    xmp: bytes | None
    texts: Mapping[str, str]
    colours: Sequence[tuple[bytes, bytes]]


def _metadata(picture: Picture, kind: str) -> tuple[_Metadata, list[str]]:
    """What the kind of file has a place for, and a notice for each part that it has none for."""
    notices = []
    size = picture.pixels.shape[:2]
    icc, exif = picture.icc_profile, picture.exif and exif_data.resized(picture.exif, *size)
    xmp, texts, colours = picture.xmp and resized_xmp(picture.xmp, *size), picture.texts, picture.colour_chunks
    channels = 3 if kind == "WebP" else picture.channels  # WebP has no grey
    if icc and (kind == "BMP" or not icc_fits(icc, channels)):
        icc = None
        notices.append(f"its colour profile has no place in this {kind}; colours may look different")
    if picture.exif and not exif:
        notices.append(exif_data.DAMAGED)
    elif exif and (
        kind == "BMP"
        or (kind == "JPEG" and len(exif) > _EXIF_IN_JPEG)
        or (kind == "TIFF" and needs_wide_offsets(picture))
    ):
        exif = None
        notices.append(f"its EXIF data has no place in this {kind}")
    if xmp and (kind == "BMP" or (kind == "JPEG" and len(xmp) > XMP_IN_JPEG)):
        xmp = None
        notices.append(f"its XMP data has no place in this {kind}")
    if kind != "PNG":
        texts = {key: text for key, text in texts.items() if kind == "JPEG" and key == COMMENT}
        if lost := [key for key in picture.texts if key not in texts]:
            notices.append(f"its texts ({', '.join(lost)}) have no place in this {kind}")
        if colours:
            kinds = ", ".join(chunk.decode() for chunk, _ in colours)
            notices.append(f"what it says of its colours ({kinds}) has no place in this {kind}; it may look different")
            colours = ()
    return _Metadata(icc or None, exif or None, xmp or None, texts, colours), notices


def _write_png16(path: Path, picture: Picture, metadata: _Metadata) -> None:
    info = png_info(metadata.texts, metadata.xmp, metadata.colours)
    chunks = [(kind, content) for kind, content, _ in info.chunks]
    if metadata.icc:
        chunks.append(icc_chunk(metadata.icc))
    if picture.dpi:
        chunks.append(dpi_chunk(picture.dpi))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif.removeprefix(exif_data.PREFIX)))
    with path.open("wb") as file:
        write_png16(file, picture.pixels, chunks)


def _write_8_bits(path: Path, picture: Picture, kind: str, metadata: _Metadata, quality: int, lossless: bool) -> None:
    pixels = rounded(picture.pixels)
    if picture.has_alpha and kind in ("JPEG", "BMP"):
        pixels = on_white(pixels)
    options: dict[str, Any] = {}
    if kind == "PNG":
        options["pnginfo"] = png_info(metadata.texts, metadata.xmp, metadata.colours)
    elif kind == "JPEG":
        options = {"quality": quality, "subsampling": "4:4:4", "comment": metadata.texts.get(COMMENT)}
    elif kind == "WebP":
        # exact: colours where nothing is visible are kept too
        options = {"quality": 100 if lossless else quality, "lossless": lossless, "exact": lossless}
    if kind in ("JPEG", "WebP"):
        options["xmp"] = metadata.xmp
    if kind != "BMP":
        options |= {"icc_profile": metadata.icc, "exif": metadata.exif}
    if kind != "WebP":
        options["dpi"] = picture.dpi
    Image.fromarray(pixels).save(path, kind, **{name: value for name, value in options.items() if value is not None})


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
