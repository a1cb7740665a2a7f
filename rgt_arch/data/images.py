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
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

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
    """All files below a folder except hidden ones, sorted by their path relative to it; links are followed, once.

    Files that are not images are included, so that they are reported and not passed over.
    Raises UsageError if there is no such folder, it cannot be listed, or holds no file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: no such folder; correct the name"
            if not folder.exists()
            else f"{folder}: is a file; name its folder"
        )
    files = sorted(walk_files(folder), key=lambda path: path.relative_to(folder).parts)
    if not files:
        raise UsageError(f"{folder}: there are no images in it")
    return files


def walk_files(folder: Path, seen: frozenset[str] = frozenset()) -> Iterator[Path]:
    """The files of `find_files` in no order, perhaps none. seen: real paths of the folders above."""
    real = os.path.realpath(folder)
    if real in seen:  # a link to a folder above
        return
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise UsageError(f"{folder}: cannot be listed ({error.strerror})") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            yield from walk_files(Path(entry.path), seen | {real})
        else:
            yield Path(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed, for instance to itself: a file that cannot be read
        return False


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
        with silent_libraries():
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:  # for instance more pixels than OpenCV's limit
        raise UserError(f"{path}: cannot be decoded ({error.err})") from error
    if pixels is None:
        raise UserError(f"{path}: is not an image that OpenCV reads, or is damaged")
    return pixels


def decode_integers(content: bytes, path: Path) -> NDArray[Any]:
    """`decode`, uint8 or uint16: `write_png` can take what is made of it. Raises UserError for other samples too."""
    pixels = decode(content, path)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path}: has {pixels.dtype} samples; convert it to 8 or 16 bits")
    return pixels


def files_by_name(folder: Path) -> tuple[dict[Path, Path], list[Path]]:
    """The files of `find_files` by their path relative to the folder without suffix, and those without such a name.

    The latter are no images, but are called like one, such as notes.txt beside notes.png.
    Raises UsageError where `find_files` does, and if two images share a name: their outputs would have one too.
    """
    groups: dict[Path, list[Path]] = {}
    for file in find_files(folder):
        groups.setdefault(file.relative_to(folder).with_suffix(""), []).append(file)
    named: dict[Path, Path] = {}
    others: list[Path] = []
    for name, files in groups.items():
        images = [file for file in files if _has_image_header(file)] if len(files) > 1 else files
        if len(images) > 1:
            raise UsageError(
                f"{images[0]} and {images[1]} would have the same output name; rename or remove one of them"
            )
        named[name] = (images or files)[0]
        others += [file for file in files if file != named[name]]
    return named, others


def _has_image_header(file: Path) -> bool:
    return os.path.isfile(file) and cv2.haveImageReader(str(file))


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
def silent_libraries() -> Iterator[None]:
    """Keeps what libpng, libtiff and OpenCV write to stderr themselves from it: one line per bad file is ours."""
    try:
        terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # stderr is closed
        yield
        return
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
                return _turned_size(image)
    except Exception:  # as in `_check_whole`
        return None


def header_size(path: Path) -> Size:
    """`image_size`, or the size of the pixels where Pillow cannot tell it; a PNG without its end is decoded too.

    Raises UserError naming `path` if it cannot be read as an image.
    """
    size = image_size(path)
    if size is None:
        with silent_libraries():
            pixels = cv2.imread(str(path), _AS_IN_TRAINING) if path.is_file() else None
        if pixels is None:
            raise UserError(f"{path}: cannot be read as an image")
        return pixels.shape[0], pixels.shape[1]
    if _lacks_png_end(path):
        decode(read_bytes(path), path)  # raises UserError where pixels are missing too
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


def _turned_size(image: Image.Image) -> Size:
    """(height, width) after turning as EXIF data says."""
    turned = is_turned(image)
    width, height = image.size
    if isinstance(image, TiffImageFile):  # whose size is that before or after turning, by the version of Pillow
        width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
    return (width, height) if turned else (height, width)


def is_complete_png(path: Path, size: Size, *newer_than: Path) -> bool:
    """Whether `path` is an undamaged PNG of `size` (height, width), written after `newer_than` were last changed.

    Files moved over an older one count as changed then, whatever age their content says it has.
    """
    try:
        if not path.is_file():
            return False
        written = os.stat(path).st_mtime_ns
        for other in map(os.stat, newer_than):
            if written < max(other.st_mtime_ns, other.st_ctime_ns):
                return False
        with Image.open(path, formats=("PNG",)) as image:
            found = _turned_size(image)
            image.verify()
    except Exception:  # as in `_check_whole`
        return False
    return found == size


def write_png(path: Path, image: NDArray[Any]) -> None:
    """Write (H, W) or (H, W, 3) BGR, uint8 or uint16, whole or not at all. Raises UserError if the disk refuses."""
    write_bytes(path, cv2.imencode(".png", image)[1].tobytes())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in a folder that may not exist yet, whole or not at all. Raises UserError if the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be made ({error.strerror})") from error
    with written_whole(path) as beside:
        beside.write_bytes(content)
