"""TIFF files, whose tags tifffile reads: Pillow cuts 16-bit colours to 8 bits, tifffile lacks compressions."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from rgt_arch.data.images import decode, silent_libraries
from rgt_arch.errors import UserError
from rgt_arch.inference.pictures import exif as exif_data
from rgt_arch.inference.pictures.colours import pixels_of
from rgt_arch.inference.pictures.picture import Picture, plausible_dpi
from rgt_arch.inference.pictures.texts import XMP_IN_TIFF

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two: BigTIFF
MAX_BYTES = 2**32 - 2**25  # of pixels in a file with 32-bit offsets; the rest is for tags
_ICC_PROFILE, _ORIENTATION, _EXTRA_SAMPLES = 34675, 274, 338
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _SEPARATED, _RAW_CAMERA = 0, 1, 2, 5, 32803
_UNSIGNED = 1
_SEPARATE = 2  # planes
_REDUCED, _MASK = 1, 4  # bits of a page's kind
_BY_TIFFFILE = (1, 8, 32946)  # compressions: none, Deflate under both its numbers
_ASSOCIATED, _STRAIGHT = 1, 2  # extra samples that are alpha


def tiff_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of the page that `read_tiff` gives, turned upright; None if the file's tags do not tell."""
    try:
        if not path.is_file():  # opening a FIFO would wait for ever
            return None
        with tifffile.TiffFile(path) as file:
            page = file.pages[_full_pages(file)[0]].aspage()
            size = page.imagelength, page.imagewidth
            return size[::-1] if page.tags.valueof(_ORIENTATION, 1) in (5, 6, 7, 8) else size
    except Exception:  # damage, as in `read_picture`
        return None


def _full_pages(file: tifffile.TiffFile) -> list[int]:
    """Numbers of the pages that are no previews or masks; the first where all are."""
    kinds = [int(page.aspage().subfiletype) for page in file.pages]
    return [number for number, kind in enumerate(kinds) if not kind & (_REDUCED | _MASK)] or [0]


def read_tiff(content: bytes, path: Path, max_pixels: int) -> tuple[Picture, int]:
    """The first full page of a TIFF file, not yet turned upright, and its orientation.

    Raises UserError for what has no place in 8 or 16 bits per sample, and for damage.
    """
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        if not len(file.pages):
            raise UserError(f"{path}: is truncated: the directory of its contents is missing")
        full = _full_pages(file)
        number = full[0]
        page = file.pages[number].aspage()
        _check(page, len(content), path, max_pixels)
        notices = [f"has {len(full)} pages; only the first is read"] if len(full) > 1 else []
        orientation, icc = int(page.tags.valueof(_ORIENTATION, 1)), page.tags.valueof(_ICC_PROFILE)
        if tag := page.tags.get(_ORIENTATION):  # decoders differ in whether they turn the picture
            upright = (1).to_bytes(2, "little" if file.byteorder == "<" else "big")
            content = content[: tag.valueoffset] + upright + content[tag.valueoffset + 2 :]
        dpi = _dpi(page)
        extra, xmp = page.tags.valueof(_EXTRA_SAMPLES, ()), page.tags.valueof(XMP_IN_TIFF)
        if page.bitspersample == 16 and page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
            pixels: NDArray[Any] = _sixteen_bits(page, number, content, path)
        else:
            pixels, icc, more = _eight_bits(content, number, icc)
            notices += more
            if page.bitspersample == 16:
                notices.append("16-bit CMYK is converted to RGB with 8 bits")
    if any(kind not in (_ASSOCIATED, _STRAIGHT, 999) for kind in np.atleast_1d(extra)):
        notices.append("channels that are not marked as transparency are left out")
    exif = None
    try:
        exif = exif_data.from_tiff(content)
    except ValueError:
        notices.append(exif_data.DAMAGED)
    xmp = xmp if isinstance(xmp, bytes) else None
    return Picture(pixels, icc, exif, dpi, tuple(notices), xmp=xmp), orientation


def _check(page: tifffile.TiffPage, length: int, path: Path, max_pixels: int) -> None:
    if page.imagewidth * page.imagelength > max_pixels:
        raise UserError(f"{path}: {page.imagewidth}×{page.imagelength} pixels are too many; the limit is {max_pixels}")
    if page.photometric == _RAW_CAMERA:
        raise UserError(f"{path}: holds undeveloped camera data; develop it to 16-bit TIFF or PNG first")
    if page.sampleformat != _UNSIGNED or page.bitspersample not in (1, 2, 4, 8, 16) or page.imagedepth != 1:
        kind = {2: "signed ", 3: "float "}.get(page.sampleformat, "")
        raise UserError(f"{path}: has {page.bitspersample}-bit {kind}samples; convert it to 8 or 16 bits, unsigned")
    if page.bitspersample == 16 and page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _SEPARATED):
        raise UserError(f"{path}: has 16-bit {_name(page.photometric)} colours; convert it to RGB")
    ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if not ends or max(ends) > length:
        raise UserError(f"{path}: is truncated: pixels should go to byte {max(ends, default=0)}, it has {length}")


def _name(value: Any) -> str:
    return str(getattr(value, "name", value))


def _sixteen_bits(page: tifffile.TiffPage, number: int, content: bytes, path: Path) -> NDArray[np.uint16]:
    colours = 3 if page.photometric == _RGB else 1
    if page.compression in _BY_TIFFFILE:
        samples = page.asarray()
        if page.planarconfig == _SEPARATE and samples.ndim == 3:
            samples = np.moveaxis(samples, 0, -1)
    else:
        unfit = {
            "behind a preview": number > 0,
            "in grey with alpha": page.samplesperpixel == 2,
            "in separate planes": page.planarconfig == _SEPARATE and page.samplesperpixel > 1,
        }
        if what := next((what for what, applies in unfit.items() if applies), None):
            raise UserError(
                f"{path}: {_name(page.compression)}-compressed 16-bit pixels {what} cannot be read; "
                "save it without compression"
            )
        samples = decode(content, path, cv2.IMREAD_UNCHANGED)
        if samples.ndim == 3:
            samples = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    samples = samples.reshape(page.imagelength, page.imagewidth, -1)
    if samples.dtype != np.uint16 or samples.shape[2] < colours:
        raise UserError(f"{path}: its {_name(page.compression)}-compressed 16-bit pixels cannot be read")
    colour, extra = samples[..., :colours], [int(kind) for kind in page.extrasamples]
    if page.photometric == _WHITE_IS_ZERO:
        colour = 65535 - colour
    if not extra and samples.shape[2] == colours + 1:  # as OpenCV writes RGBA; Pillow takes it for alpha too
        extra = [_STRAIGHT]
    alpha = next((place for place, kind in enumerate(extra) if kind in (_ASSOCIATED, _STRAIGHT)), None)
    if alpha is None or colours + alpha >= samples.shape[2]:
        return np.ascontiguousarray(colour[..., 0] if colours == 1 else colour)
    opacity = samples[..., colours + alpha, None]
    if extra[alpha] == _ASSOCIATED:
        colour = _straight(colour, opacity)
    return np.concatenate([colour, opacity], axis=2)


def _straight(colour: NDArray[np.uint16], opacity: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Colours that were multiplied by their opacity as they were before; where nothing is visible, black."""
    straight = (colour.astype(np.uint64) * 65535 + opacity // 2) // np.maximum(opacity, 1)
    return np.minimum(straight, 65535).astype(np.uint16)


def _eight_bits(content: bytes, number: int, icc: bytes | None) -> tuple[NDArray[np.uint8], bytes | None, list[str]]:
    with silent_libraries(), Image.open(io.BytesIO(content), formats=("TIFF",)) as image:
        image.seek(number)
        return pixels_of(image, icc)


def _dpi(page: tifffile.TiffPage) -> tuple[float, float] | None:
    unit = {2: 1.0, 3: 2.54}.get(int(page.tags.valueof(296, 2)))
    x, y = page.tags.valueof(282), page.tags.valueof(283)
    if unit is None or not (x and y and x[1] and y[1]) or x[0] * y[0] == 0 or x == (1, 1):  # 1/1 stands for unknown
        return None
    return plausible_dpi(x[0] / x[1] * unit, y[0] / y[1] * unit)


def needs_wide_offsets(picture: Picture) -> bool:
    """Whether the file might pass 4 GB, and so must be a BigTIFF, into which EXIF data is not put."""
    return bool(picture.pixels.nbytes > MAX_BYTES)


def write_tiff(path: Path, picture: Picture, icc: bytes | None, exif: bytes | None, xmp: bytes | None) -> None:
    """Write a TIFF file, Deflate-compressed without loss; `exif` must be None where wide offsets are needed.

    Raises OSError, and ValueError or struct.error if `exif` is damaged.
    """
    pixels = picture.pixels
    tifffile.imwrite(
        path,
        pixels,
        bigtiff=needs_wide_offsets(picture),
        byteorder=exif_data.byte_order(exif) if exif else "<",
        photometric="rgb" if picture.channels > 2 else "minisblack",
        planarconfig="contig" if pixels.ndim == 3 else None,
        extrasamples=["unassalpha"] if picture.has_alpha else None,
        compression="zlib",
        predictor=True,
        rowsperstrip=max(1, 2**20 // (pixels.nbytes // len(pixels))),
        iccprofile=icc,
        resolution=picture.dpi,
        resolutionunit="inch" if picture.dpi else None,
        metadata=None,
        software=False,
        extratags=[(XMP_IN_TIFF, "B", len(xmp), xmp, True)] if xmp else (),
    )
    if exif:
        exif_data.add_to_tiff(path, exif)
