"""Image files of data sets: found in folders, checked for damage, decoded as BasicSR decodes them, written whole."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rgt_arch.errors import UsageError, UserError
from rgt_arch.files import written_whole

Size = tuple[int, int]  # height, width

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What Pillow may try: not EPS, which starts Ghostscript. TIFF is OpenCV's alone, Pillow has no 16-bit colour.
_PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # JPEG includes MPO
_FORMATS_WITH_SIZE = (*_PILLOW_FORMATS, "TIFF", "PPM", "JPEG2000")
_EXIF_ORIENTATION = 0x112
# Grey stays grey and 16 bits stay 16; otherwise as BasicSR's IMREAD_COLOR (utils/img_util.py:142): palettes become
# colours, alpha is dropped, EXIF orientation is applied.
_AS_IN_TRAINING = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH


def find_files(folder: Path) -> list[Path]:
    """All files below a folder except hidden ones, sorted by their path relative to it; links are followed.

    Files that are not images are included, so that they are reported. Raises UsageError if there is no such folder, it
    cannot be listed, or holds no file.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; correct the name")
    files = sorted(walk_files(folder), key=lambda path: path.relative_to(folder).parts)
    if not files:
        raise UsageError(f"{folder}: there are no images in it")
    return files


def walk_files(folder: Path) -> Iterator[Path]:
    """The files of `find_files` in no order, perhaps none. A folder that several links lead to is listed once."""
    seen = set()
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        is_new = (real := os.path.realpath(place)) not in seen
        seen.add(real)
        folders[:] = sorted(name for name in folders if is_new and not name.startswith("."))
        yield from (Path(place, name) for name in names if is_new and not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise UsageError(f"{error.filename}: cannot be listed ({error.strerror})") from error


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises UserError in one line if it is empty, no regular file, or cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would wait for ever
            raise UserError(f"{path}: is not a regular file")
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; correct the name") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if not content:
        raise UserError(f"{path}: is empty (0 bytes)")
    return content


def decode(content: bytes, path: Path, flags: int = _AS_IN_TRAINING) -> NDArray[Any]:
    """Pixels of an encoded image: (H, W) or (H, W, 3) in BGR order, uint8 or uint16; float32 from HDR formats.

    flags: OpenCV's, by default as BasicSR reads in training, but with grey and 16 bits kept.
    Raises UserError naming `path` if the content is damaged or no image. Truncated files are found here, not by OpenCV,
    which fills what is missing with grey in some formats and says so on stderr only.
    """
    _check_whole(content, path)
    try:
        with _silent_libraries():
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:  # for instance more pixels than OpenCV's limit
        raise UserError(f"{path}: cannot be decoded ({error.err})") from error
    if pixels is None:
        raise UserError(f"{path}: is not an image that OpenCV reads, or is damaged")
    return pixels


def _check_whole(content: bytes, path: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large images and odd metadata are no faults
            with Image.open(io.BytesIO(content), formats=_PILLOW_FORMATS) as image:
                if content.startswith(PNG_SIGNATURE):
                    image.verify()  # every chunk's checksum, without decoding
                else:
                    image.load()
    except Image.UnidentifiedImageError:
        if content.startswith((PNG_SIGNATURE, b"\xff\xd8\xff")):
            raise UserError(f"{path}: is truncated or damaged") from None
        # a format that only OpenCV knows, or no image at all: it decides
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # Pillow's readers trip over damage in many ways: IndexError, struct.error, …
        raise UserError(f"{path}: is truncated or damaged ({' '.join(str(error).split())})") from error


@contextmanager
def _silent_libraries() -> Iterator[None]:
    """Keep what libpng, libtiff and OpenCV themselves write from stderr: a bad file is one line of ours."""
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)


def image_size(path: Path) -> Size | None:
    """(height, width) that `decode` would give, from the file's header alone; None if Pillow cannot tell."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not path.is_file():  # opening a FIFO would wait for ever
                return None
            with Image.open(path, formats=_FORMATS_WITH_SIZE) as image:
                width, height = image.size
                is_sideways = image.format != "TIFF" and is_turned(image)  # of TIFF, Pillow turns the size
                return (width, height) if is_sideways else (height, width)
    except Exception:  # as in `_check_whole`
        return None


def header_size(path: Path) -> Size:
    """`image_size`, or the size of the pixels where Pillow cannot tell it; a PNG without its end is decoded too.

    Raises UserError naming `path` if it cannot be read as an image.
    """
    size = image_size(path)
    if size is None or _lacks_png_end(path):
        pixels = decode(read_bytes(path), path)
        size = pixels.shape[0], pixels.shape[1]
    return size


def _lacks_png_end(path: Path) -> bool:
    """Whether a PNG file has no last chunk; a few bytes may follow that."""
    with path.open("rb") as file:
        if file.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
            return False
        file.seek(max(file.seek(0, os.SEEK_END) - 1024, 0))
        return b"IEND" not in file.read()


def is_turned(image: Image.Image, orientations: Container[int] = (5, 6, 7, 8)) -> bool:
    """Whether EXIF data in the header of an open image gives one of these orientations, by default on its side."""
    # Without EXIF data in the header, Pillow would decode the whole PNG to look for some behind the pixels.
    known = image.format != "PNG" or "exif" in image.info
    return known and image.getexif().get(_EXIF_ORIENTATION, 1) in orientations


def write_png(path: Path, image: NDArray[Any]) -> None:
    """Write (H, W) or (H, W, 3) BGR, uint8 or uint16, whole or not at all. Raises UserError if the disk refuses."""
    write_bytes(path, cv2.imencode(".png", image)[1].tobytes())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in a folder that may not exist yet, whole or not at all. Raises UserError if the disk refuses."""
    with written_whole(path) as beside:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
