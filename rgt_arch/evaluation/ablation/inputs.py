"""What decides a training beside its options: the content of the files that they name, and the software."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rgt_arch.data.images import walk_files
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.ablation.plan import Options
from rgt_arch.files import file_digest
from rgt_arch.progress import Progress

DATA_KEYS = ("dataroot_gt", "dataroot_lq", "meta_info_file", "meta_info")
WEIGHTS_KEY = "pretrain_network_g"

_READERS_LOCK = "lock.mdb"  # LMDB changes it whenever somebody reads


@dataclass(frozen=True)
class Content:
    """What a file, or all files of a folder together, held."""

    files: int
    size: int
    """In bytes."""
    stamp: str
    """Digest of names, sizes and times. Where it is the same, so is the content; another one says nothing."""
    digest: str
    """Of names and bytes."""

    def __str__(self) -> str:
        return f"{self.files} file{'s' if self.files != 1 else ''} of {self.size:,} bytes"


Contents = Mapping[str, Content]
"""By the option that names the files, such as datasets:train:dataroot_gt."""


def named_files(options: Options) -> Iterator[tuple[str, Path]]:
    """The options that name files, and those: data and weights to start from. Names of published weights are none."""
    for phase, data in options["datasets"].items():
        for key in DATA_KEYS:
            if data.get(key):
                yield f"datasets:{phase}:{key}", Path(data[key])
    weights = (options.get("path") or {}).get(WEIGHTS_KEY)
    if weights and Path(weights).exists():
        yield f"path:{WEIGHTS_KEY}", Path(weights)


def read_contents(options: Options, known: Iterable[Contents] = ()) -> dict[str, Content]:
    """The content of all files that options name, with a bar while they are read.

    known: what was read earlier; files whose stamps are in it are not read again. Raises UsageError for what cannot
    be read.
    """
    earlier = {content.stamp: content for contents in known for content in contents.values()}
    places = {key: (path, _files(path)) for key, path in named_files(options)}
    stamps = {key: _stamp(path, files) for key, (path, files) in places.items()}
    # a folder may be named by several options
    unread = {stamp: places[key] for key, stamp in stamps.items() if stamp not in earlier}
    if unread:
        total = sum(size for _, files in unread.values() for size, _ in files.values())
        with Progress(total, "reading the data", "B", large=True) as progress:
            done = 0
            for stamp, (path, files) in unread.items():
                digest = hashlib.sha256()
                for file, (size, _) in files.items():
                    digest.update(_line(file, path, file_digest(file)))
                    done += size
                    progress.reach(done)
                size = sum(size for size, _ in files.values())
                earlier[stamp] = Content(len(files), size, stamp, digest.hexdigest())
    return {key: earlier[stamp] for key, stamp in stamps.items()}


def have_changed(options: Options, contents: Contents) -> str | None:
    """The first option whose files are no longer those that were read as `contents`, by their stamps."""
    for key, path in named_files(options):
        if key in contents and _stamp(path, _files(path)) != contents[key].stamp:
            return key
    return None


def _files(path: Path) -> dict[Path, tuple[int, int]]:
    """The files of a folder, or the file itself, sorted, each with its size in bytes and the time of its change."""
    files = {}
    for file in sorted(walk_files(path)) if path.is_dir() else [path]:
        if file.name != _READERS_LOCK:
            try:
                facts = file.stat()
            except OSError as error:
                raise UsageError(f"{file}: cannot be read: {error.strerror}; --report does without the data") from error
            files[file] = (facts.st_size, facts.st_mtime_ns)
    return files


def _stamp(path: Path, files: Mapping[Path, tuple[int, int]]) -> str:
    digest = hashlib.sha256(os.fsencode(path))
    for file, facts in files.items():
        digest.update(_line(file, path, *facts))
    return digest.hexdigest()


def _line(file: Path, folder: Path, *facts: str | int) -> bytes:
    """A file's name in its folder and what is known of it; the name of a file that an option names does not matter."""
    name = "" if file == folder else file.relative_to(folder).as_posix()
    return "\0".join((name, *map(str, facts), "\n")).encode(errors="surrogateescape")
