"""Writing LMDB folders that BasicSR's `io_backend: lmdb` reads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import lmdb
import numpy as np
from basicsr.utils.lmdb_util import LmdbMaker
from tqdm import tqdm

from rgt_arch.errors import UsageError, UserError

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PAGE = 4096
_MAX_KEY_BYTES = 511  # LMDB's own limit


def create_lmdb(images: Sequence[Path], path: Path, keys: Sequence[str] | None = None, progress: bool = True) -> None:
    """Write image files into a new LMDB folder with a `meta_info.txt`, as BasicSR's datasets expect it.

    images: PNG files are stored byte for byte; what else OpenCV reads is stored as the 8-bit colour image that
    BasicSR's data sets make of the file on a disk (utils/img_util.py:142), turned as its EXIF data says.
    path: the new folder; its name must end with `.lmdb`. It appears once it is complete.
    keys: one per image, by default the file names without extension. GT and LQ of a data set need the same keys.
    BasicSR cuts keys at the first dot and names at the first space (data/data_util.py:98, :149), so neither may occur.

    Raises UsageError for a path that exists or is misnamed, an unreadable image, or a key that could not be read back;
    UserError where writing fails, for instance on a full disk.
    """
    path = Path(path)
    if path.suffix != ".lmdb":
        raise UsageError(f"{path}: the name of an LMDB folder must end with .lmdb")
    if path.exists():
        raise UsageError(f"{path} exists already; remove it or choose another name")
    if not images:
        raise UsageError(f"{path}: there are no images to store")
    names = [image.stem for image in images] if keys is None else list(keys)
    _check_keys(images, names)

    map_size = _map_size(images)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # BasicSR's maker wants a new path that ends with .lmdb; a folder beside the target holds it until it is whole.
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as workspace:
            partial = Path(workspace, path.name)
            maker = LmdbMaker(str(partial), map_size=map_size)
            try:
                bar = tqdm(images, desc=f"writing {path.name}", disable=not progress)
                for image, key in zip(bar, names, strict=True):
                    content, shape = _png(image)
                    maker.put(content, key, shape)
            except BaseException:
                maker.txn.abort()
                maker.env.close()
                maker.txt_file.close()
                raise
            maker.close()
            partial.replace(path)
    except (lmdb.Error, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: could not be written ({reason}); name a folder on a disk that has room") from error


def _check_keys(images: Sequence[Path], keys: Sequence[str]) -> None:
    if len(images) != len(keys):
        raise UsageError(f"{len(images)} images were given with {len(keys)} keys; each image needs one")
    owners: dict[str, Path] = {}
    for image, key in zip(images, keys, strict=True):
        if not key or not key.isascii() or not key.isprintable() or "." in key or " " in key:
            raise UsageError(f"{image}: LMDB key {key!r} must be ASCII without dots and spaces; rename the file")
        if len(key) > _MAX_KEY_BYTES:
            raise UsageError(
                f"{image}: LMDB key has {len(key)} characters, at most {_MAX_KEY_BYTES} fit; rename the file"
            )
        if key in owners:
            raise UsageError(f"{image} and {owners[key]} have the same LMDB key {key!r}; rename one of them")
        owners[key] = image


def _png(image: Path) -> tuple[bytes, tuple[int, int, int]]:
    """The PNG bytes of an image file and its (height, width, channels)."""
    try:
        content = image.read_bytes()
    except OSError as error:
        raise UsageError(f"{image}: cannot be read ({error.strerror})") from error
    is_png = content.startswith(_PNG_SIGNATURE)
    flag = cv2.IMREAD_UNCHANGED if is_png else cv2.IMREAD_COLOR
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag) if content else None
    if pixels is None:
        raise UsageError(f"{image}: not an image that OpenCV can read in 8-bit colour; convert it to PNG")
    if not is_png:
        content = cv2.imencode(".png", pixels)[1].tobytes()
    height, width = pixels.shape[:2]
    return content, (height, width, 1 if pixels.ndim == 2 else pixels.shape[2])


def _map_size(images: Sequence[Path]) -> int:
    """An upper bound of the database's size in bytes: LMDB cannot grow beyond the size it was opened with."""
    total = 0
    for image in images:
        try:
            with image.open("rb") as file:
                is_png = file.read(len(_PNG_SIGNATURE)) == _PNG_SIGNATURE
                size = file.seek(0, os.SEEK_END)
        except OSError as error:
            raise UsageError(f"{image}: cannot be read ({error.strerror})") from error
        if not is_png:  # its size as a PNG is known only once it has been decoded
            size = len(_png(image)[0])
        total += (size // _PAGE + 2) * _PAGE
    return total + total // 8 + 256 * _PAGE
