"""Writing LMDB folders that BasicSR's `io_backend: lmdb` reads."""

from __future__ import annotations

import glob
import itertools
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import lmdb
import psutil
from tqdm import tqdm

from rgt_arch.data import lmdb_reader
from rgt_arch.data.images import PNG_SIGNATURE, decode, read_bytes
from rgt_arch.data.outputs import images_by_name, refuse_overlap
from rgt_arch.data.pairing import MetaLine, check_keys, lmdb_key
from rgt_arch.data.parallel import Summary, successes
from rgt_arch.errors import UsageError, UserError

_META_INFO = "meta_info.txt"
_FILES = {"data.mdb", "lock.mdb", _META_INFO}
_MAP_SIZE = 1 << 40  # BasicSR's (utils/lmdb_util.py:175): addresses, not bytes on the disk
_TRANSACTION_BYTES = 64 << 20  # of images: they lie in memory until the transaction ends


@dataclass(frozen=True)
class LmdbImage:
    """An image file to be stored under a key."""

    source: Path
    key: str
    level: int = 1
    """Compression of PNG, by default BasicSR's (utils/lmdb_util.py:12)."""
    encode_anew: bool = False
    """Whether the bytes of PNG files are not kept but encoded with this compression, as other formats are."""


def create_lmdb(images: Sequence[Path], path: Path, keys: Sequence[str] | None = None, progress: bool = True) -> None:
    """Write image files into a new LMDB folder with a `meta_info.txt`, as BasicSR's datasets expect it.

    images: PNG files are stored byte for byte; other formats are stored as the 8-bit colour image that BasicSR's
    data sets make of the file on a disk (utils/img_util.py:142), turned as its EXIF data says.
    path: the new folder; its name must end with `.lmdb`. It appears once it is complete.
    keys: one per image, by default `lmdb_key` of the file names. GT and LQ of a data set need the same keys.
    BasicSR cuts keys at the first dot and names at the first space (data/data_util.py:98, :149), so neither may occur.

    Raises UsageError for a path that exists or is misnamed, or a key that could not be read back; UserError for a
    damaged image, and where writing fails, for instance on a full disk.
    """
    path = _target(path)
    if path.exists():
        raise UsageError(f"{path} exists already; remove it or choose another name")
    if not images:
        raise UsageError(f"{path}: there are no images to store")
    names = [lmdb_key(Path(image.name)) for image in images] if keys is None else list(keys)
    check_keys(images, names)
    bar = tqdm(zip(images, names, strict=True), f"writing {path.name}", len(names), disable=not progress)
    _write(path, ((image, encode(image)) for image in itertools.starmap(LmdbImage, bar)))


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

    path: by default the folder's name and `.lmdb`, beside it. It appears once it is complete; the same images give the
    same bytes. If it exists, is newer than all images and holds their keys alone, it is left as it is.
    ending: taken off the file names before they become keys (`lmdb_key`), such as "x2". compression: 0 to 9 encodes all
    images anew; None keeps the bytes of PNG files. overwrite: replace an existing LMDB folder once the new is whole.
    Files that cannot be stored are left out, one line each on stderr and in the failures of the result. Raises
    UsageError for two images with one key, a path that exists and holds anything else, or lies in the folder; UserError
    if no image can be stored, or the disk refuses.
    """
    if compression is not None and not 0 <= compression <= 9:
        raise UsageError(f"--compression is {compression}; it must be 0 (large, fast) to 9 (small, slow)")
    path = _target(Path(f"{os.path.abspath(folder)}.lmdb") if path is None else path)
    refuse_overlap([folder], [path])
    level, summary, images = 1 if compression is None else compression, Summary(), []
    named = images_by_name(folder, summary)
    if not any(name.name.endswith(ending) for name in named):
        raise UsageError(f"{folder}: no image's name ends with {ending!r}, as --ending asks")
    for file in named.values():
        try:
            images.append(LmdbImage(file, lmdb_key(file.relative_to(folder), ending), level, compression is not None))
        except UserError as error:
            summary.fail(str(error))
    images.sort(key=lambda image: image.key)
    if path.exists() and not overwrite:
        _check_unchanged(path, images, summary, jobs)
    else:
        summary.made = _write(path, successes(encode, images, summary, jobs=jobs, title=f"writing {path.name}"))
    megabytes = (path / "data.mdb").stat().st_size / 1e6
    summary.notes.append(f"{path}: {'made' if summary.made else 'already there'}, {megabytes:.1f} MB")
    return summary


def _target(path: Path) -> Path:
    if Path(path).suffix != ".lmdb":
        raise UsageError(f"{path}: the name of an LMDB folder must end with .lmdb")
    return Path(os.path.realpath(path))


def _check_unchanged(path: Path, images: Sequence[LmdbImage], summary: Summary, jobs: int) -> None:
    """Raise UsageError unless `path` is a whole LMDB of these images, newer than they are, but for damaged ones."""
    try:
        lines = map(MetaLine.parse, (path / _META_INFO).read_text("ascii").splitlines())
        listed = {line.key: line.compression for line in lines}
        states = [os.stat(image.source) for image in images if image.key in listed]
        newest = max(max(state.st_mtime_ns, state.st_ctime_ns) for state in states)
        is_same = listed.items() <= {image.key: image.level for image in images}.items()
        is_same &= newest <= (path / "data.mdb").stat().st_mtime_ns
    except (OSError, ValueError):
        listed, is_same = {}, False
    missing = [image for image in images if image.key not in listed]
    if not is_same or any(successes(encode, missing, summary, jobs=jobs, title="missing images")):
        raise UsageError(
            f"{path}: exists, but is not an up-to-date LMDB of exactly these images; choose another name with -o, or "
            "--overwrite it"
        )
    lmdb_reader.read_keys(path, len(listed))
    summary.kept = len(listed)


def encode(image: LmdbImage) -> tuple[bytes, str]:
    """What is stored for an image file: PNG bytes, and the line for meta_info.txt.

    Raises UserError naming the file if it is damaged or not an image.
    """
    content = read_bytes(image.source)
    is_png = content.startswith(PNG_SIGNATURE)
    pixels = decode(content, image.source) if is_png else decode(content, image.source, cv2.IMREAD_COLOR)
    if not is_png or image.encode_anew:
        content = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, image.level])[1].tobytes()
    channels = 1 if pixels.ndim == 2 else 3  # as BasicSR's readers see it
    return content, f"{image.key}.png ({pixels.shape[0]},{pixels.shape[1]},{channels}) {image.level}\n"


def _write(path: Path, images: Iterable[tuple[LmdbImage, tuple[bytes, str]]]) -> int:
    """Write encoded images into a hidden folder that becomes the LMDB folder `path` at the end; returns their number.

    A failure leaves `path` as it was and nothing beside it. Raises UserError without an image, and for what the system
    refuses; UsageError if `path` holds files other than an LMDB's.
    """
    beside = path.with_name(f".{path.stem}.{os.getpid()}.new.lmdb")
    count = waiting = 0
    try:
        if path.exists() and not {"data.mdb"} <= set(os.listdir(path)) <= _FILES:
            raise UsageError(f"{path}: exists, and holds files other than an LMDB's; choose another name with -o")
        for other in path.parent.glob(f".{glob.escape(path.stem)}.[0-9]*.new.lmdb"):  # of runs that were killed
            if other == beside or not psutil.pid_exists(int(other.name.split(".")[-3])):
                shutil.rmtree(other)
        beside.mkdir(parents=True)
        with (
            lmdb.open(str(beside), map_size=_MAP_SIZE) as environment,
            (beside / _META_INFO).open("w", encoding="ascii", newline="\n") as lines,
        ):
            transaction = environment.begin(write=True)
            for image, (content, line) in images:
                transaction.put(image.key.encode("ascii"), content)
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
