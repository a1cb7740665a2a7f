"""Writing LMDB folders that BasicSR's `io_backend: lmdb` reads."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import cv2
import lmdb
import psutil

from rgt_arch.data import lmdb_reader
from rgt_arch.data.images import PNG_SIGNATURE, decode, read_bytes
from rgt_arch.data.outputs import images_by_name, refuse_overlap
from rgt_arch.data.pairing import MetaLine, lmdb_key
from rgt_arch.data.parallel import Summary, Task, successes
from rgt_arch.errors import UsageError, UserError

_FILES = {"data.mdb", "lock.mdb", lmdb_reader.META_INFO}
_MAP_SIZE = 1 << 40  # BasicSR's (utils/lmdb_util.py:175): address space, not bytes on the disk
_TRANSACTION_BYTES = 64 << 20  # of images, which stay in memory until the transaction ends


def create_lmdb_of_folder(
    folder: Path,
    path: Path | None = None,
    *,
    ending: str = "",
    compression: int | None = None,
    jobs: int = 1,
    overwrite: bool = False,
) -> Summary:
    """Pack all images of a folder and its sub-folders into an LMDB folder, in the order of their keys.

    path: by default the folder's path plus `.lmdb`. It appears once it is complete; the same images give the same
    bytes. An existing LMDB that is newer than all images and has exactly their keys is kept.
    ending: removed from the end of file names to make keys (`lmdb_key`), such as "x2". compression: 0 to 9 encodes all
    images anew. None stores PNG files byte for byte, and other formats as the 8-bit colour image that BasicSR reads
    from the file (utils/img_util.py:142), with its EXIF orientation applied.
    overwrite: replace an existing LMDB once the new one is complete.
    Files that cannot be stored are left out, one line each on stderr and in the failures of the result. Raises
    UsageError for two images with one key, and for a path that has other contents or overlaps the folder; UserError if
    no image can be stored or writing fails.
    """
    if compression is not None and not 0 <= compression <= 9:
        raise UsageError(f"--compression is {compression}; it must be 0 (large, fast) to 9 (small, slow)")
    path = Path(f"{os.path.abspath(folder)}.lmdb" if path is None else path)
    if path.suffix != ".lmdb":
        raise UsageError(f"{path}: the name of an LMDB folder must end with .lmdb")
    path = Path(os.path.realpath(path))
    refuse_overlap([folder], [path])
    summary, images = Summary(), []
    named = images_by_name(folder, summary)
    if not any(name.name.endswith(ending) for name in named):
        raise UsageError(f"{folder}: no image's name ends with {ending!r}, as --ending asks")
    for file in named.values():
        try:
            images.append(Task((file,), lmdb_key(file.relative_to(folder), ending)))
        except UserError as error:
            summary.fail(str(error))
    images.sort(key=lambda image: image.name)
    if path.exists() and not overwrite:
        _check_unchanged(path, images, compression, summary, jobs)
    else:
        encoded = successes(partial(encode, compression), images, summary, jobs=jobs, title=f"writing {path.name}")
        summary.made = _write(path, encoded)
    megabytes = (path / "data.mdb").stat().st_size / 1e6
    summary.notes.append(f"{path}: {'made' if summary.made else 'already there'}, {megabytes:.1f} MB")
    return summary


def _check_unchanged(
    path: Path, images: Sequence[Task[str]], compression: int | None, summary: Summary, jobs: int
) -> None:
    """Raise UsageError unless `path` is a complete LMDB of these images, except damaged ones, and newer than them."""
    try:
        lines = map(MetaLine.parse, (path / lmdb_reader.META_INFO).read_text("ascii").splitlines())
        listed = {line.key: line.compression for line in lines}
        states = [os.stat(image.source) for image in images if image.name in listed]
        newest = max(max(state.st_mtime_ns, state.st_ctime_ns) for state in states)
        is_same = listed.items() <= {image.name: _level(compression) for image in images}.items()
        is_same &= newest <= (path / "data.mdb").stat().st_mtime_ns
    except (OSError, ValueError):
        listed, is_same = {}, False
    missing = [image for image in images if image.name not in listed]
    if not is_same or any(successes(partial(encode, compression), missing, summary, jobs=jobs, title="missing images")):
        raise UsageError(
            f"{path}: exists, but is not an up-to-date LMDB of exactly these images; choose another name with -o, or "
            "--overwrite it"
        )
    lmdb_reader.read_keys(path, len(listed))
    summary.kept = len(listed)


def _level(compression: int | None) -> int:
    return 1 if compression is None else compression  # BasicSR's (utils/lmdb_util.py:12)


def encode(compression: int | None, image: Task[str]) -> tuple[bytes, str]:
    """Return the PNG bytes to store for an image file, and its line in meta_info.txt.

    Raises UserError with the file's path if it is damaged or not an image.
    """
    content = read_bytes(image.source)
    is_png = content.startswith(PNG_SIGNATURE)
    pixels = decode(content, image.source) if is_png else decode(content, image.source, cv2.IMREAD_COLOR)
    level = _level(compression)
    if not is_png or compression is not None:
        content = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, level])[1].tobytes()
    channels = 1 if pixels.ndim == 2 else 3  # as BasicSR's readers see it
    return content, f"{image.name}.png ({pixels.shape[0]},{pixels.shape[1]},{channels}) {level}\n"


def _write(path: Path, images: Iterable[tuple[Task[str], tuple[bytes, str]]]) -> int:
    """Write encoded images to a hidden folder, then rename it to `path`. Returns the number of images.

    A failure leaves `path` unchanged and removes the hidden folder. Raises UserError if there are no images or writing
    fails; UsageError if `path` exists and has files other than an LMDB's.
    """
    beside = path.with_name(f".{path.stem}.{os.getpid()}.new.lmdb")
    count = waiting = 0
    try:
        if path.exists() and not {"data.mdb"} <= set(os.listdir(path)) <= _FILES:
            raise UsageError(f"{path}: exists, and holds files other than an LMDB's; choose another name with -o")
        for other in path.parent.glob(f".{glob.escape(path.stem)}.[0-9]*.new.lmdb"):  # left by killed runs
            if other == beside or not psutil.pid_exists(int(other.name.split(".")[-3])):
                shutil.rmtree(other)
        beside.mkdir(parents=True)
        with (
            lmdb.open(str(beside), map_size=_MAP_SIZE) as environment,
            (beside / lmdb_reader.META_INFO).open("w", encoding="ascii", newline="\n") as lines,
        ):
            transaction = environment.begin(write=True)
            for image, (content, line) in images:
                transaction.put(image.name.encode("ascii"), content)
                lines.write(line)
                count, waiting = count + 1, waiting + len(content)
                if waiting >= _TRANSACTION_BYTES:
                    transaction.commit()
                    transaction, waiting = environment.begin(write=True), 0
            transaction.commit()
            lines.flush()
            os.fsync(lines.fileno())
        if not count:
            raise UserError(f"{path}: was not made: none of the images can be stored")
        if path.exists():
            shutil.rmtree(path)
        beside.replace(path)
    except (lmdb.Error, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: could not be written ({reason}); name a folder on a disk that has room") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return count
