"""Write picture files whole (8 bits by Pillow, 16 bits and TIFF by libvips), and comparisons of bicubic and RGT."""

from __future__ import annotations

import os
import struct
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import DTypeLike, NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from rgt_arch.errors import UsageError, UserError
from rgt_arch.files import written_whole
from rgt_arch.inference.pictures.picture import (
    COMMENT,
    DPI,
    EXIF,
    PROFILE,
    TEXT,
    XMP,
    XMP_IN_PNG,
    Picture,
    exif_with_resolution,
)


@dataclass(frozen=True)
class _Format:
    """Limits of a file format.

    side: largest width and height of the encoder. holds: names of `Picture.metadata`, besides texts. longest: EXIF or
    XMP in bytes. channels: of a format without grey. lossless: whether it can keep pixels as they are.
    """

    name: str
    side: int = 2**31 - 1
    bits: int = 16
    has_alpha: bool = True
    holds: Container[str] = (PROFILE, EXIF, XMP, DPI)
    longest: int = 2**31 - 1
    channels: int | None = None
    lossless: bool = True


# A JPEG marker holds 65,533 bytes, the first 29 of which are a name for XMP. BMP ends at 4 GiB.
_JPEG = _Format("JPEG", 65500, 8, False, longest=65533 - 29, lossless=False)
_SUFFIXES = {
    ".png": _Format("PNG"),
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), _JPEG),
    ".webp": _Format("WebP", 16383, 8, holds=(PROFILE, EXIF, XMP), channels=3),
    ".avif": _Format("AVIF", 16384, 12, holds=(PROFILE, EXIF, XMP), channels=3),
    **dict.fromkeys((".tif", ".tiff"), _Format("TIFF", holds=(PROFILE, XMP, DPI))),
    ".bmp": _Format("BMP", 37000, 8, False, (DPI,)),
}
_ICC_SPACES = {b"GRAY": (1, 2), b"RGB ": (3, 4)}  # the colour space of a profile, and the channels it can describe
_FIELDS = {PROFILE: "icc-profile-data", EXIF: "exif-data", XMP: "xmp-data"}  # in libvips
WRITABLE_SUFFIXES = tuple(_SUFFIXES)
# Files with these suffixes are pictures when a folder is searched.
PICTURE_SUFFIXES = frozenset({*WRITABLE_SUFFIXES, ".gif", ".jp2", ".pnm", ".ppm", ".pgm", ".pbm"})
_LABELS = ("bicubic", "RGT")  # of a comparison
_SMALL_TIFF = 2**32 - 2**25  # bytes of pixels in a TIFF with 32-bit offsets; the rest is for tags


def check_writable(
    path: str | os.PathLike[str],
    size: tuple[int, int],
    channels: int,
    dtype: DTypeLike,
    *,
    quality: int | str | None = None,
    bits: int | None = None,
) -> list[str]:
    """Check, before any work is done, whether a file of this name can hold a picture.

    size: (height, width); channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; dtype: uint8 or uint16; quality: as in
    `write_picture`; bits: as in `Picture`.
    Returns one line for each loss, without the file's name. Raises UsageError for an unknown suffix, UserError for a
    picture that is too large for the format, and for lossless JPEG.
    """
    form = _SUFFIXES.get(Path(path).suffix.lower())
    if form is None:
        known = ", ".join(WRITABLE_SUFFIXES)
        raise UsageError(f"{path}: the suffix selects the format, and must be one of {known}")
    if max(size) > form.side:
        raise UserError(
            f"{path}: {size[1]}×{size[0]} pixels are too large for {form.name}, which holds at most {form.side} "
            "pixels in width and height; use PNG or TIFF"
        )
    if quality == "lossless" and not form.lossless:
        raise UserError(
            f"{path}: {form.name} is always lossy; take --ext png, webp or avif, or a quality from 1 to 100"
        )
    notices = []
    if form.bits < (bits or 8 * np.dtype(dtype).itemsize):
        notices.append(f"{form.name} has {form.bits} bits per sample; more are rounded (PNG and TIFF keep 16)")
    if channels in (2, 4) and not form.has_alpha:
        notices.append(f"{form.name} has no transparency; the picture is put on white (PNG, TIFF and WebP keep it)")
    return notices


def write_picture(path: str | os.PathLike[str], picture: Picture, *, quality: int | str | None = None) -> list[str]:
    """Write a picture in the format of the suffix, whole or not at all.

    quality: of JPEG and AVIF (4:4:4) and WebP, 1 to 100 or "lossless"; None: 95, or lossless if the picture was a
    lossless WebP and becomes one. PNG, TIFF and BMP are always lossless.
    Returns one line about metadata that the format cannot hold; for pixels see `check_writable`.
    Raises the errors of `check_writable`, and UserError if the disk or the encoder fails.
    """
    path = Path(path)
    check_writable(path, picture.pixels.shape[:2], picture.channels, picture.pixels.dtype, quality=quality)
    form = _SUFFIXES[path.suffix.lower()]
    if quality is None:
        quality = "lossless" if picture.lossless and form.name == "WebP" else 95
    by_vips = form.name == "TIFF" or (form.bits > 8 and picture.pixels.dtype == np.uint16)
    by_vips |= form.name == "AVIF" and quality == "lossless"  # Pillow's AVIF is never lossless in colour
    metadata = dict(picture.metadata)
    if DPI in metadata and DPI not in form.holds:
        metadata[EXIF] = exif_with_resolution(metadata.get(EXIF, b""), *metadata.pop(DPI))
    items = metadata.items()
    kept = {name: value for name, value in items if _holds(form, picture.channels, name, value, by_vips)}
    try:
        with written_whole(path) as beside:
            if by_vips:
                _write_by_vips(beside, replace(picture, metadata=kept), form.name, quality)
            else:
                _write_by_pillow(beside, replace(picture, metadata=kept), form, quality)
    except (ValueError, struct.error, pyvips.Error) as error:
        raise UserError(f"{path}: cannot be written as {form.name} ({' '.join(str(error).split())})") from error
    lost = [name for name in metadata if name not in kept]
    return [f"not kept in this {form.name}: {', '.join(lost)}"] if lost else []


def _holds(form: _Format, channels: int, name: str, value: Any, by_vips: bool) -> bool:
    """Whether a format can hold a piece of metadata."""
    if name == PROFILE:
        return name in form.holds and (form.channels or channels) in _ICC_SPACES.get(value[16:20], ())
    if name.startswith(TEXT):
        return (form.name == "PNG" and (value.isascii() or not by_vips)) or (form.name == "JPEG" and name == COMMENT)
    return name in form.holds and (name == DPI or len(value) <= form.longest)


def _write_by_vips(path: Path, picture: Picture, kind: str, quality: int | str) -> None:
    name = os.fsencode(path)  # as a text it would have to be UTF-8
    pixels, metadata = np.ascontiguousarray(picture.pixels), picture.metadata
    colours = (("b-w", "grey16") if picture.channels < 3 else ("srgb", "rgb16"))[pixels.itemsize - 1]
    image = pyvips.Image.new_from_array(pixels, interpretation=colours)
    x, y = metadata.get(DPI, (72.0, 72.0))
    image = image.copy(xres=x / 25.4, yres=y / 25.4)
    for number, (key, value) in enumerate(metadata.items()):
        if key in _FIELDS:
            image.set_type(pyvips.GValue.blob_type, _FIELDS[key], value)
        elif key.startswith(TEXT):
            image.set_type(pyvips.GValue.gstr_type, f"png-comment-{number}-{key.removeprefix(TEXT)}", value)
    keep = "icc:xmp:other" + (":exif" if EXIF in metadata else "")  # else libvips writes EXIF data of its own
    if kind == "PNG":
        image.pngsave(name, filter="all", keep=keep)
    elif kind == "AVIF":
        how = {"lossless": True} if quality == "lossless" else {"Q": quality}
        image.heifsave(
            name, compression="av1", bitdepth=4 + 4 * pixels.itemsize, subsample_mode="off", keep=keep, **how
        )
    else:
        options = {"bigtiff": pixels.nbytes > _SMALL_TIFF, "resunit": "inch"}
        image.tiffsave(name, compression="deflate", predictor="horizontal", **options)


def _write_by_pillow(path: Path, picture: Picture, form: _Format, quality: int | str) -> None:
    pixels, metadata = rounded(picture.pixels), picture.metadata
    if picture.has_alpha and not form.has_alpha:
        pixels = on_white(pixels)
    # exact: also the colours of invisible pixels
    how = {"lossless": True, "exact": True} if quality == "lossless" else {"quality": quality}
    options: dict[str, Any] = {"subsampling": "4:4:4", **how}
    names = {DPI: "dpi", PROFILE: "icc_profile", EXIF: "exif", XMP: "xmp", COMMENT: "comment"}
    options |= {option: metadata[name] for name, option in names.items() if name in metadata}
    if form.name == "PNG":
        info = options["pnginfo"] = PngImagePlugin.PngInfo()
        for name, value in metadata.items():
            if name.startswith(TEXT):
                info.add_text(name.removeprefix(TEXT), value)
            elif name == XMP:
                info.add_itxt(XMP_IN_PNG, value)
    Image.fromarray(pixels).save(path, form.name, **options)  # encoders ignore options that they lack


def rounded(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Round 16 bits to 8: 65535 = 255 · 257."""
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def on_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blend a picture with alpha, (H, W, 2 or 4), over white: grey (H, W) or RGB (H, W, 3)."""
    colour, opacity = pixels[..., :-1].astype(np.uint16), pixels[..., -1:].astype(np.uint16)
    seen = ((colour * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)
    return seen[..., 0] if seen.shape[2] == 1 else seen


# --- comparisons ---


def comparison_path(target: Path) -> Path:
    """Return the path of an output's comparison: photo_x4_compare.png for photo_x4.jpg."""
    return target.with_name(f"{target.stem}_compare.png")


def panels(before: NDArray[Any], after: NDArray[Any]) -> tuple[Image.Image, Image.Image]:
    """Return `before`, enlarged by Pillow's bicubic, and `after`, of one size: 8-bit RGB over white.

    before, after: (H, W) or (H, W, 2 to 4), uint8 or uint16.
    """
    result = _rgb(after)
    return _rgb(before).resize(result.size, Image.Resampling.BICUBIC), result


def write_comparison(path: Path, before: NDArray[Any], after: NDArray[Any]) -> None:
    """Write the `panels` side by side as a PNG. Raises UserError if the file cannot be written."""
    height, width = after.shape[:2]
    gap = max(4, width // 100)
    font = ImageFont.load_default(size=max(12, width // 40))
    caption = font.getbbox("g")[3] + gap
    sheet = Image.new("RGB", (2 * width + gap, height + round(caption)), "white")
    for number, (panel, label) in enumerate(zip(panels(before, after), _LABELS, strict=True)):
        left = number * (width + gap)
        sheet.paste(panel, (left, 0))
        ImageDraw.Draw(sheet).text((left + width / 2, height), label, fill="black", font=font, anchor="ma")
    with written_whole(path) as beside:
        sheet.save(beside)


def _rgb(pixels: NDArray[Any]) -> Image.Image:
    pixels = rounded(pixels)
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels = on_white(pixels)
    return Image.fromarray(pixels).convert("RGB")
