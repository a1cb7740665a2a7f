"""Writing LMDB folders that BasicSR's `io_backend: lmdb` reads."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import lmdb
from basicsr.utils.lmdb_util import LmdbMaker
from tqdm import tqdm

from rgt_arch.data.lmdb_comparison import difference, stored_keys
from rgt_arch.data.lmdb_images import DEFAULT_COMPRESSION, LmdbImage, Shape, encode, keyed_images
from rgt_arch.data.output_folders import is_running
from rgt_arch.data.pairing import check_keys, lmdb_key
from rgt_arch.data.parallel import Summary, successes
from rgt_arch.errors import UsageError, UserError

_FILES = {"data.mdb", "lock.mdb", "meta_info.txt"}
_TRANSACTION_BYTES = 64 << 20  # of images: they lie in memory until the transaction ends, twice


@dataclass
class Packed:
    """An LMDB folder and what came of the images for it."""

    path: Path
    summary: Summary = field(default_factory=Summary)


def create_lmdb(images: Sequence[Path], path: Path, keys: Sequence[str] | None = None, progress: bool = True) -> None:
    """Write image files into a new LMDB folder with a `meta_info.txt`, as BasicSR's datasets expect it.

    images: PNG files are stored byte for byte; what else OpenCV reads is stored as the 8-bit colour image that
    BasicSR's data sets make of the file on a disk (utils/img_util.py:142), turned as its EXIF data says.
    path: the new folder; its name must end with `.lmdb`. It appears once it is complete.
    keys: one per image, by default `lmdb_key` of the file names. GT and LQ of a data set need the same keys.
    BasicSR cuts keys at the first dot and names at the first space (data/data_util.py:98, :149), so neither may occur.

    Raises UsageError for a path that exists or is misnamed, or a key that could not be read back; UserError for a
    damaged image, and where writing fails, for instance on a full disk.
    """
    path = _target(path)
    _restore(path)
    if path.exists():
        raise UsageError(f"{path} exists already; remove it or choose another name")
    if not images:
        raise UsageError(f"{path}: there are no images to store")
    names = [lmdb_key(Path(image.name)) for image in images] if keys is None else list(keys)
    check_keys(images, names)
    with _appearing(path) as beside, _Writer.open(beside, DEFAULT_COMPRESSION) as writer:
        bar = tqdm(images, desc=f"writing {path.name}", disable=not progress)
        for image, key in zip(bar, names, strict=True):
            writer.put(key, *encode(LmdbImage(image, key)))


def create_lmdb_of_folder(
    folder: Path,
    path: Path | None = None,
    *,
    ending: str = "",
    compression: int | None = None,
    jobs: int = 1,
    overwrite: bool = False,
) -> Packed:
    """Pack all images of a folder and its sub-folders into an LMDB folder, in the order of their keys.

    path: by default the folder's name and `.lmdb`, beside it. It appears once it is complete; the same images give the
    same bytes. If it is there and holds just these images, it is left as it is (`summary.kept`).
    ending: taken off the file names before they become keys (`lmdb_key`), such as "x2". compression: see `LmdbImage`.
    overwrite: replace an existing LMDB folder, once the new one is complete.
    Files that cannot be stored are left out, one line each on stderr and in `summary.failures`. Raises UsageError for
    two images with one key, a path that exists and holds anything else, or lies in the folder; UserError if no
    image can be stored, or the disk refuses.
    """
    if compression is not None and not 0 <= compression <= 9:
        raise UsageError(f"--compression is {compression}; it must be 0 (large, fast) to 9 (small, slow)")
    packed = Packed(_target(_beside(folder) if path is None else path))
    path = packed.path
    if Path(os.path.realpath(folder)) in (real := Path(os.path.realpath(path)), *real.parents):
        raise UsageError(f"{path}: lies in {folder}, whose images it is made of; choose another place with -o")
    images = keyed_images(folder, ending, compression, packed.summary)
    _restore(path)
    if path.exists():
        _refuse_foreign(path)
        if not overwrite:
            _keep(path, folder, images, packed.summary, jobs)
            return packed
    with _appearing(path) as beside, _Writer.open(beside, images[0].level) as writer:
        for image, (content, shape) in successes(
            encode, images, packed.summary, jobs=jobs, title=f"writing {path.name}"
        ):
            writer.put(image.key, content, shape)
            packed.summary.made += 1
        if not packed.summary.made:
            raise UserError(f"{folder}: none of its {len(images)} files can be stored; {path} was not made")
    return packed


def _target(path: Path) -> Path:
    path = Path(path)
    if path.suffix != ".lmdb":
        raise UsageError(f"{path}: the name of an LMDB folder must end with .lmdb")
    return Path(os.path.realpath(path)) if path.is_symlink() else path  # the link stays, its target is replaced


def _beside(folder: Path) -> Path:
    if folder.name in ("", ".."):
        folder = Path(os.path.abspath(folder))
    return folder.parent / f"{folder.name}.lmdb"


def _refuse_foreign(path: Path) -> None:
    """Raises UsageError unless `path` is a folder that holds an LMDB and nothing else."""
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if "data.mdb" not in names or names - _FILES:
        other = min(names - _FILES, default=None)
        what = f"holds {other}" if other else "is no LMDB folder"
        raise UsageError(f"{path}: exists and {what}; choose another name with -o")


def _keep(path: Path, folder: Path, images: list[LmdbImage], summary: Summary, jobs: int) -> None:
    """Count an existing LMDB as done if it holds just these images; what is missing must be what cannot be stored."""
    known = stored_keys(path)
    why = difference(path, [image for image in images if image.key in known])
    if extra := sorted(known - {image.key for image in images}):
        why = f"it has {len(extra)} keys without a file, such as {extra[0]!r}"
    missing = [image for image in images if image.key not in known]
    if missing and why is None:
        for image, _ in successes(encode, missing, summary, jobs=jobs, title="missing images"):
            why = f"it lacks {image.source}"
            break
    if why is not None:
        raise UsageError(f"{path}: exists and is not what {folder} gives: {why}; name another -o, or --overwrite it")
    summary.kept = len(known)


class _Writer:
    """BasicSR's LmdbMaker with transactions of bounded size, and a map that grows with the data.

    LmdbMaker commits every so many images, whatever their size, and needs to be told the largest size in advance,
    which for images that are still to be encoded is not known.
    """

    def __init__(self, path: Path, level: int) -> None:
        self._maker = LmdbMaker(str(path), map_size=1 << 20, batch=sys.maxsize, compress_level=level)
        self._waiting: list[tuple[bytes, str, Shape]] = []
        self._bytes = 0

    @classmethod
    @contextmanager
    def open(cls, path: Path, level: int) -> Iterator[_Writer]:
        """A writer to the new folder `path`; what is written is on the disk at the end."""
        writer = cls(path, level)
        maker = writer._maker
        try:
            yield writer
            writer._commit()
            maker.txt_file.flush()
            os.fsync(maker.txt_file.fileno())
            maker.close()
        except BaseException:
            maker.txn.abort()
            maker.env.close()
            maker.txt_file.close()
            raise

    def put(self, key: str, content: bytes, shape: Shape) -> None:
        """Store an image under `key`."""
        self._waiting.append((content, key, shape))
        self._bytes += len(content)
        if self._bytes >= _TRANSACTION_BYTES:
            self._commit()

    def _commit(self) -> None:
        maker = self._maker
        maker.txn.commit()
        page = maker.env.stat()["psize"]
        # An image lies in pages of its own, after a header of 16 bytes. Its key may split a leaf and a branch, whose
        # earlier versions are free only after this transaction. The tree is a few levels deep.
        pages = sum((len(content) + 16) // page + 1 + 4 for content, _, _ in self._waiting) + 64
        maker.env.set_mapsize((maker.env.info()["last_pgno"] + 1 + pages) * page)
        maker.txn = maker.env.begin(write=True)
        for entry in self._waiting:
            maker.put(*entry)
        maker.txn.commit()
        maker.txn = maker.env.begin(write=True)
        self._waiting.clear()
        self._bytes = 0


def _hidden(path: Path, kind: str) -> Path:
    """A folder beside `path` that belongs to this process; BasicSR's maker wants a name that ends with .lmdb."""
    return path.with_name(f".{path.stem}.{os.getpid()}.{kind}.lmdb")


def _leftovers(path: Path, kind: str) -> list[Path]:
    """Hidden folders of `path` whose process runs no more."""
    found = []
    start, end = f".{path.stem}.", f".{kind}.lmdb"
    with contextlib.suppress(OSError):  # there is no parent folder yet
        for name in sorted(os.listdir(path.parent)):
            process = name.removeprefix(start).removesuffix(end)
            if name == f"{start}{process}{end}" and process.isdecimal():
                own = int(process) == os.getpid()  # in containers, ids come back
                if own or not is_running(int(process)):
                    found.append(path.with_name(name))
    return found


def _restore(path: Path) -> None:
    """Put an LMDB back that a killed run had moved aside to replace it."""
    for old in _leftovers(path, "old"):
        if not path.exists():
            old.replace(path)


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """Gives a hidden name beside `path` for a new folder, and moves that to `path` at the end, in the place of an
    earlier one.

    A failure leaves `path` as it was and nothing beside it. Raises UserError for what the system refuses.
    """
    beside, old = _hidden(path, "new"), _hidden(path, "old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (*_leftovers(path, "new"), *_leftovers(path, "old")):
            shutil.rmtree(leftover)
        yield beside
        if path.exists():
            path.replace(old)
        beside.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    except (lmdb.Error, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: could not be written ({reason}); name a folder on a disk that has room") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if old.exists() and not path.exists():
            old.replace(path)
