"""Writing LMDB folders that BasicSR's `io_backend: lmdb` reads."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import cv2
import lmdb
from tqdm import tqdm

from rgt_arch.data.images import PNG_SIGNATURE, decode, files_by_name, read_bytes
from rgt_arch.data.lmdb_reader import truncation
from rgt_arch.data.pairing import MetaLine, check_keys, lmdb_key
from rgt_arch.data.parallel import Summary, is_running, successes
from rgt_arch.errors import UsageError, UserError

DEFAULT_COMPRESSION = 1  # BasicSR's (utils/lmdb_util.py:12)
_META_INFO = "meta_info.txt"
_FILES = {"data.mdb", "lock.mdb", _META_INFO}
_TRANSACTION_BYTES = 64 << 20  # of images: they lie in memory until the transaction ends, twice

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class LmdbImage:
    """An image file to be stored under a key."""

    source: Path
    key: str
    compression: int | None = None
    """None keeps the bytes of PNG files; 0 to 9 encodes all images anew."""

    @property
    def level(self) -> int:
        """The compression level in meta_info.txt."""
        return DEFAULT_COMPRESSION if self.compression is None else self.compression


@dataclass
class Packed:
    """An LMDB folder and what came of the images for it."""

    path: Path
    summary: Summary = field(default_factory=Summary)


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
    with _appearing(path) as beside, _writer(beside, DEFAULT_COMPRESSION) as writer:
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
    packed = Packed(
        _target(Path(f"{folder if folder.name not in ('', '..') else folder.resolve()}.lmdb") if path is None else path)
    )
    path = packed.path
    if Path(os.path.realpath(folder)) in (real := Path(os.path.realpath(path)), *real.parents):
        raise UsageError(f"{path}: lies in {folder}, whose images it is made of; choose another place with -o")
    images = _keyed_images(folder, ending, compression, packed.summary)
    if path.exists():
        _refuse_foreign(path)
        if not overwrite:
            _keep(path, folder, images, packed.summary, jobs)
            return packed
    with _appearing(path) as beside, _writer(beside, images[0].level) as writer:
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


def _refuse_foreign(path: Path) -> None:
    """Raises UsageError unless `path` is a folder that holds an LMDB and nothing else."""
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if "data.mdb" not in names or names - _FILES:
        other = min(names - _FILES, default=None)
        what = f"holds {other}" if other else "is no LMDB folder"
        raise UsageError(f"{path}: exists and {what}; choose another name with -o")


def _keep(path: Path, folder: Path, images: list[LmdbImage], summary: Summary, jobs: int) -> None:
    """Count an existing LMDB as done if it holds just these images, except those that cannot be stored."""
    try:
        listed = {line.key: line for line in map(MetaLine.parse, (path / _META_INFO).read_text("ascii").splitlines())}
        why = _difference(path, [image for image in images if image.key in listed], listed)
        if extra := sorted(listed.keys() - {image.key for image in images}):
            why = f"it has {len(extra)} keys without a file, such as {extra[0]!r}"
    except (lmdb.Error, UserError, OSError, ValueError) as error:
        listed, why = {}, str(error)
    missing = [image for image in images if image.key not in listed]
    if missing and why is None:
        for image, _ in successes(encode, missing, summary, jobs=jobs, title="missing images"):
            why = f"it lacks {image.source}"
            break
    if why is not None:
        raise UsageError(f"{path}: exists and is not what {folder} gives: {why}; name another -o, or --overwrite it")
    summary.kept = len(listed)


def _difference(path: Path, images: Sequence[LmdbImage], listed: Mapping[str, MetaLine]) -> str | None:
    """Why the LMDB at `path` cannot have been made of these image files as they are now; None if it can.

    Compared are the compression level, and the bytes of the first image and of all that changed since.
    """
    made = (path / "data.mdb").stat().st_mtime_ns
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin(buffers=True) as stored:
        if (problem := truncation(path, environment)) is not None:
            return f"its data.mdb {problem}"
        if environment.stat()["entries"] != len(listed):
            return "its data.mdb and meta_info.txt disagree"
        for image in images:
            if (level := listed[image.key].compression) != image.level:
                return f"its compression level is {level}, not {image.level}"
            status = image.source.stat()
            is_older = max(status.st_mtime_ns, status.st_ctime_ns) <= made
            value = stored.get(image.key.encode())
            if value is None or (not (is_older and image is not images[0]) and encode(image)[0] != value):
                return f"{image.source} is stored otherwise"
    return None


def encode(image: LmdbImage) -> tuple[bytes, Shape]:
    """What is stored for an image file: PNG bytes and (height, width, channels), channels as BasicSR's readers see it.

    Raises UserError naming the file if it is damaged or not an image.
    """
    content = read_bytes(image.source)
    is_png = content.startswith(PNG_SIGNATURE)
    pixels = decode(content, image.source) if is_png else decode(content, image.source, cv2.IMREAD_COLOR)
    if not is_png or image.compression is not None:
        content = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, image.level])[1].tobytes()
    height, width = pixels.shape[:2]
    return content, (height, width, 1 if pixels.ndim == 2 else 3)


def _keyed_images(folder: Path, ending: str, compression: int | None, summary: Summary) -> list[LmdbImage]:
    """The images of a folder with their keys, in the keys' order; files that can have none go to `summary.failures`.

    Raises UsageError for two images with one key, or if no name ends with `ending`.
    """
    named, others = files_by_name(folder)
    failures = [f"{file}: is not an image, but called like one" for file in others]
    images = []
    for file in named.values():
        try:
            images.append(LmdbImage(file, lmdb_key(file.relative_to(folder), ending), compression))
        except UserError as error:
            failures.append(str(error))
    if not images:
        raise UsageError(f"{folder}: no file's name ends with {ending!r}, as --ending asks")
    for failure in failures:
        summary.fail(failure)
    return sorted(images, key=lambda image: image.key)


class _Writer:
    """Stores images in transactions of bounded size, in a map that grows with the data.

    BasicSR's LmdbMaker needs to know the largest size in advance, before the images are encoded.
    """

    def __init__(self, environment: Any, lines: TextIO, level: int) -> None:
        self._environment, self._lines, self._level = environment, lines, level
        self._waiting: list[tuple[str, bytes, Shape]] = []
        self._bytes = 0

    def put(self, key: str, content: bytes, shape: Shape) -> None:
        """Store an image under `key`."""
        self._waiting.append((key, content, shape))
        self._bytes += len(content)
        if self._bytes >= _TRANSACTION_BYTES:
            self.commit()

    def commit(self) -> None:
        """Write the images that wait in memory."""
        page = self._environment.stat()["psize"]
        # An image lies in pages of its own, after a header of 16 bytes. Its key may split a leaf and a branch, whose
        # earlier versions are free only after this transaction. The tree is a few levels deep.
        pages = sum((len(content) + 16) // page + 1 + 4 for _, content, _ in self._waiting) + 64
        self._environment.set_mapsize((self._environment.info()["last_pgno"] + 1 + pages) * page)
        with self._environment.begin(write=True) as transaction:
            for key, content, shape in self._waiting:
                transaction.put(key.encode("ascii"), content)
                self._lines.write(f"{key}.png ({shape[0]},{shape[1]},{shape[2]}) {self._level}\n")
        self._waiting.clear()
        self._bytes = 0


@contextmanager
def _writer(path: Path, level: int) -> Iterator[_Writer]:
    """A writer to the new folder `path`; what is written is on the disk at the end."""
    path.mkdir()
    with (
        lmdb.open(str(path), map_size=1 << 20) as environment,
        (path / _META_INFO).open("w", encoding="ascii", newline="\n") as lines,
    ):
        writer = _Writer(environment, lines, level)
        yield writer
        writer.commit()
        lines.flush()
        os.fsync(lines.fileno())


def _hidden(path: Path, kind: str) -> Path:
    """A folder beside `path` that belongs to this process."""
    return path.with_name(f".{path.stem}.{os.getpid()}.{kind}.lmdb")


def _remove_leftovers(path: Path) -> None:
    """Remove the unfinished folders for `path` whose process has ended."""
    pattern = re.compile(rf"\.{re.escape(path.stem)}\.(\d+)\.new\.lmdb")
    for name in os.listdir(path.parent):
        match = pattern.fullmatch(name)
        if match and not is_running(int(match[1])):
            shutil.rmtree(path.with_name(name))


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """Give a hidden name beside `path` for a new folder, and move it to `path` at the end, replacing an earlier one.

    A failure leaves `path` as it was and nothing beside it. Raises UserError for what the system refuses.
    """
    beside, old = _hidden(path, "new"), _hidden(path, "old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
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
