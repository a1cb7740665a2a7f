"""Picture files written whole: 8 bits by Pillow, 16 bits and TIFF by libvips; what a format cannot hold is reported."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import DTypeLike, NDArray
from PIL import Image, PngImagePlugin

from rgt_arch.errors import UsageError, UserError
from rgt_arch.files import written_whole
from rgt_arch.inference.pictures.metadata import COMMENT, XMP_IN_PNG, resized_exif
from rgt_arch.inference.pictures.picture import Picture, icc_fits

_FORMATS = {
    ".png": "PNG",
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".webp": "WebP",
    ".avif": "AVIF",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".bmp": "BMP",
}
WRITABLE_SUFFIXES = tuple(_FORMATS)
_LARGEST = 2**31 - 1
_SIDE_LIMITS = {"JPEG": 65500, "WebP": 16383, "AVIF": 16384}  # libjpeg, libwebp, libheif
_BMP_BYTES = 2**32 - 2**10
_SMALL_TIFF = 2**32 - 2**25  # bytes of pixels in a TIFF with 32-bit offsets; the rest is for tags
_IN_JPEG = 65533  # bytes of EXIF in one marker; XMP has a name of 29 bytes before it


def check_writable(path: str | os.PathLike[str], size: tuple[int, int], channels: int, dtype: DTypeLike) -> list[str]:
    """Whether a file of this name can hold a picture: asked before any work is done for it.

    size: (height, width); channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; dtype: uint8 or uint16.
    Returns one line for each thing that will be lost, without the file's name. Raises UsageError for an unknown suffix,
    UserError for a picture that is too large for the format.
    """
    path = Path(path)
    kind = _format(path)
    height, width = size
    limit = _SIDE_LIMITS.get(kind, _LARGEST)
    row = -(-width * (3 if channels > 2 else 1) // 4) * 4
    if max(height, width) > limit or (kind == "BMP" and row * height > _BMP_BYTES):
        most = "4 GiB" if kind == "BMP" else f"{limit} pixels in width and height"
        raise UserError(
            f"{path}: {width}×{height} pixels do not fit into {kind}, which ends at {most}; use PNG or TIFF"
        )
    notices = []
    if kind not in ("PNG", "TIFF") and np.dtype(dtype) == np.uint16:
        bits = 12 if kind == "AVIF" else 8
        notices.append(f"{kind} has {bits} bits per sample; the 16 are rounded (PNG and TIFF keep them)")
    if kind in ("JPEG", "BMP") and channels in (2, 4):
        notices.append(f"{kind} has no transparency; the picture is put on white (PNG, TIFF and WebP keep it)")
    return notices


def write_picture(
    path: str | os.PathLike[str], picture: Picture, *, quality: int = 95, lossless: bool = False
) -> list[str]:
    """Write a picture in the format of the suffix, whole or not at all, in a folder that may not exist yet.

    quality: of JPEG and AVIF (4:4:4) and WebP, 1 to 100; lossless: of WebP. PNG, TIFF and BMP are always lossless.
    Returns one line for each part of the metadata that the format cannot hold; for pixels see `check_writable`.
    Raises what that raises, and UserError if the disk or the encoder refuses.
    """
    path = Path(path)
    check_writable(path, picture.pixels.shape[:2], picture.channels, picture.pixels.dtype)
    kind = _format(path)
    by_vips = kind == "TIFF" or (kind in ("PNG", "AVIF") and picture.pixels.dtype == np.uint16)
    picture, notices = _fitting(picture, kind, by_vips)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be made ({error.strerror})") from error
    try:
        with written_whole(path) as beside:
            if by_vips:
                _write_by_vips(beside, picture, kind, quality)
            else:
                _write_by_pillow(beside, picture, kind, quality, lossless)
    except MemoryError:
        raise UserError(f"{path}: does not fit into memory when written as {kind}") from None
    except (ValueError, struct.error, pyvips.Error) as error:
        raise UserError(f"{path}: cannot be written as {kind} ({' '.join(str(error).split())})") from error
    return notices


def _format(path: Path) -> str:
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(WRITABLE_SUFFIXES)
        raise UsageError(f"{path}: the suffix says the format, and must be one of {known}") from None


def _fitting(picture: Picture, kind: str, by_vips: bool) -> tuple[Picture, list[str]]:
    """The picture with the metadata that the format holds, and a notice for each part that is left out."""
    notices = []
    exif = resized_exif(picture.exif, picture.pixels.shape[:2]) if picture.exif else None
    icc, xmp, texts = picture.icc_profile, picture.xmp, dict(picture.texts)
    if icc and (kind == "BMP" or not icc_fits(icc, 3 if kind in ("WebP", "AVIF") else picture.channels)):
        icc = None
        notices.append(f"its colour profile has no place in this {kind}; colours may look different")
    if exif and (kind in ("BMP", "TIFF") or (kind == "JPEG" and len(exif) > _IN_JPEG)):
        exif = None
        notices.append(f"its EXIF data is not written into this {kind} (exiftool -TagsFromFile copies it)")
    if xmp and (kind == "BMP" or (kind == "JPEG" and len(xmp) > _IN_JPEG - 29)):
        xmp = None
        notices.append(f"its XMP data has no place in this {kind}")
    held = {"PNG": texts.keys(), "JPEG": {COMMENT}}.get(kind, ())
    texts = {key: text for key, text in texts.items() if key in held and (not by_vips or text.isascii())}
    if lost := [key for key in picture.texts if key not in texts]:
        notices.append(f"its texts ({', '.join(lost)}) have no place in this {kind}")
    return replace(picture, icc_profile=icc, exif=exif, xmp=xmp, texts=texts), notices


def _write_by_vips(path: Path, picture: Picture, kind: str, quality: int) -> None:
    pixels = np.ascontiguousarray(picture.pixels)
    deep = pixels.dtype == np.uint16
    colours = ("rgb16" if deep else "srgb") if picture.channels > 2 else ("grey16" if deep else "b-w")
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


def _write_by_pillow(path: Path, picture: Picture, kind: str, quality: int, lossless: bool) -> None:
    pixels = rounded(picture.pixels)
    if picture.has_alpha and kind in ("JPEG", "BMP"):
        pixels = on_white(pixels)
    options: dict[str, Any] = {"dpi": picture.dpi, "icc_profile": picture.icc_profile, "exif": picture.exif}
    if kind == "PNG":
        info = options["pnginfo"] = PngImagePlugin.PngInfo()
        for key, text in picture.texts.items():
            info.add_text(key, text)
        if picture.xmp:
            info.add_itxt(XMP_IN_PNG, picture.xmp)
    elif kind == "JPEG":
        options |= {"quality": quality, "subsampling": "4:4:4", "comment": picture.texts.get(COMMENT)}
    elif kind == "WebP":
        # exact: colours where nothing is visible are kept too
        options |= {"quality": 100 if lossless else quality, "lossless": lossless, "exact": lossless}
    elif kind == "AVIF":
        options |= {"quality": quality, "subsampling": "4:4:4"}
    if kind in ("JPEG", "WebP", "AVIF"):
        options["xmp"] = picture.xmp
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
