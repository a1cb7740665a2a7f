"""Find the image files of data sets, check them for damage, decode them as BasicSR does, and write them whole."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
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
# Formats that Pillow may try: not EPS, which starts Ghostscript, nor TIFF, because Pillow has no 16-bit colour.
_PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # JPEG includes MPO
_FORMATS_WITH_SIZE = (*_PILLOW_FORMATS, "TIFF", "PPM", "JPEG2000")
_EXIF_ORIENTATION = 0x112
# Grey stays grey and 16 bits stay 16; otherwise as BasicSR's IMREAD_COLOR (utils/img_util.py:142): palettes become
# colours, alpha is dropped, EXIF orientation is applied.
_AS_IN_TRAINING = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH


def _refuse(error: OSError) -> None:
    raise UsageError(f"{error.filename}: cannot be listed ({error.strerror})") from error


def walk_files(folder: Path, on_error: Callable[[OSError], None] = _refuse) -> Iterator[Path]:
    """Yield all files below a folder, except hidden ones, in any order. Links are followed, to each folder once.

    on_error: called for a folder that cannot be listed; the default raises UsageError.
    """
    seen = set()
    for place, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        is_new = (real := os.path.realpath(place)) not in seen
        seen.add(real)
        folders[:] = sorted(name for name in folders if is_new and not name.startswith("."))
        yield from (Path(place, name) for name in names if is_new and not name.startswith("."))


def passed_over_by_suffix(files: Iterable[Path]) -> str:
    """Return numbers and suffixes, such as "passed over: 2 .heic, 1 .jxl"; empty if there are no files."""
    counts = Counter(file.suffix.lower() or "without a suffix" for file in files)
    numbers = ", ".join(
        f"{number} {suffix}" for suffix, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
    return f"passed over: {numbers}" if numbers else ""


def read_bytes(path: Path) -> bytes:
    """Return a file's content. Raises a one-line UserError for a file that is empty, not regular or unreadable."""
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
    """Decode an image to (H, W) or (H, W, 3) in BGR order, uint8 or uint16; float32 from HDR formats.

    flags: OpenCV's. The default decodes as BasicSR does in training, except that grey and 16 bits are kept.
    Raises UserError with `path` if the content is damaged or is not an image. Truncated files are detected before
    OpenCV decodes them: in some formats it fills the missing part with grey and only warns on stderr.
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
            warnings.simplefilter("ignore")  # large images and odd metadata are not faults
            with Image.open(io.BytesIO(content), formats=_PILLOW_FORMATS) as image:
                if content.startswith(PNG_SIGNATURE):
                    image.verify()  # every chunk's checksum, without decoding
                else:
                    image.load()
    except Image.UnidentifiedImageError:
        if content.startswith((PNG_SIGNATURE, b"\xff\xd8\xff")):
            raise UserError(f"{path}: is truncated or damaged") from None
        # perhaps a format that only OpenCV reads: OpenCV decides
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # Pillow raises many types for damaged files: IndexError, struct.error, …
        raise UserError(f"{path}: is truncated or damaged ({' '.join(str(error).split())})") from error


@contextmanager
def _silent_libraries() -> Iterator[None]:
    """Discard what libpng, libtiff and OpenCV write to stderr: this package reports a bad file in one line."""
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)


def image_size(path: Path) -> Size | None:
    """Return the (height, width) of `decode`'s result from the file's header; None if Pillow cannot read it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not path.is_file():  # opening a FIFO would wait for ever
                return None
            with Image.open(path, formats=_FORMATS_WITH_SIZE) as image:
                width, height = image.size
                is_sideways = image.format != "TIFF" and is_turned(image)  # Pillow itself turns the size of a TIFF
                return (width, height) if is_sideways else (height, width)
    except Exception:  # as in `_check_whole`
        return None


def is_transparent(path: Path) -> bool:
    """Whether an image's header has an alpha channel or a transparent colour; False if Pillow cannot read it."""
    with contextlib.suppress(Exception), warnings.catch_warnings():  # as in `_check_whole`
        warnings.simplefilter("ignore")
        with Image.open(path, formats=_FORMATS_WITH_SIZE) as image:
            return image.has_transparency_data
    return False


def header_size(path: Path) -> Size:
    """Return `image_size`; where that is None or a PNG lacks its end, decode the image.

    Raises UserError with `path` for an unreadable image.
    """
    size = image_size(path)
    if size is None or _lacks_png_end(path):
        pixels = decode(read_bytes(path), path)
        size = pixels.shape[0], pixels.shape[1]
    return size


def _lacks_png_end(path: Path) -> bool:
    """Whether a PNG file lacks its last chunk, after which a few bytes may follow."""
    with path.open("rb") as file:
        if file.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
            return False
        file.seek(max(file.seek(0, os.SEEK_END) - 1024, 0))
        return b"IEND" not in file.read()


def is_turned(image: Image.Image, orientations: Container[int] = (5, 6, 7, 8)) -> bool:
    """Whether EXIF data in an open image's header has one of these orientations, by default the sideways ones."""
    # Without EXIF data in the header, Pillow would decode the whole PNG to look for some behind the pixels.
    known = image.format != "PNG" or "exif" in image.info
    return known and image.getexif().get(_EXIF_ORIENTATION, 1) in orientations


def write_png(path: Path, image: NDArray[Any]) -> None:
    """Write (H, W) or (H, W, 3) BGR, uint8 or uint16, whole or not at all. Raises UserError if writing fails."""
    write_bytes(path, cv2.imencode(".png", image)[1].tobytes())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, and create its folder. Raises UserError if writing fails."""
    with written_whole(path) as beside:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
