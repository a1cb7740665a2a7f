"""Atomic file writing, checks before long work that a file can be written, and SHA-256 digests."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rgt_arch.errors import UsageError, UserError

_LONGEST_NAME = 255  # bytes, on nearly all file systems


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file's path to write to; on exit, flush that file to the disk and rename it to `path`.

    On failure, `path` is unchanged and the temporary file is deleted. It has the same suffix and folder as `path`,
    because some writers choose the format by suffix. Raises UserError with the file and the reason for an OSError.
    """
    path = Path(path)
    beside = _beside(path)
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def write_text(text: str, path: Path | None) -> None:
    """Write to a file as `written_whole` does, or to stdout if `path` is None."""
    if path is None:
        sys.stdout.write(text)
        return
    with written_whole(path) as beside:
        beside.write_text(text, "utf-8")


def check_place(path: str | os.PathLike[str]) -> None:
    """Raise UserError if `written_whole` could not write `path`; called before long work. Leaves no file behind."""
    path = Path(path)
    if os.path.isdir(path):  # os.path throughout: the methods of Path raise for names that are too long
        raise UserError(f"{path}: is a folder; move it away, or choose another name")
    beside = _beside(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # raises for names that are too long
        beside.touch()
        beside.unlink()
    except OSError as error:
        raise _refused(path, error) from error


def check_output(flag: str, path: Path, inputs: Iterable[Path] = (), *, overwrite: bool) -> None:
    """Check that the output file of `flag` can be written; called before any work.

    inputs: other files of the same call. Raises UsageError if the folder is missing, or if `path` is not a regular
    file, is one of `inputs`, or exists without `overwrite`; UserError as `check_place`.
    """
    exists = os.path.exists(path)
    if not os.path.isdir(path.parent):
        raise UsageError(f"{flag} {path}: there is no folder {path.parent}; make it, or name another place")
    if exists and not os.path.isfile(path):  # the rename would replace a device, too
        raise UsageError(
            f"{flag} {path}: is {'a folder' if os.path.isdir(path) else 'not a regular file'}; name a file"
        )
    for other in inputs:
        if path.absolute() == other.absolute() or (exists and os.path.exists(other) and path.samefile(other)):
            raise UsageError(f"{flag} {path}: is one of the inputs, or another output; name another file")
    if exists and not overwrite:
        raise UsageError(f"{flag} {path}: exists; --overwrite replaces it")
    check_place(path)


def file_digest(path: Path) -> str:
    """Return the SHA-256 in hexadecimal, cached until size or times change. Raises UsageError for unreadable files."""
    try:
        facts = path.stat()
        return _digest_once(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


@functools.lru_cache(maxsize=4096)
def _digest_once(path: Path, *_facts: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _beside(path: Path) -> Path:
    ending = f".{os.getpid()}.part{path.suffix}"
    stem = os.fsencode(path.stem)[-max(1, _LONGEST_NAME - 1 - len(os.fsencode(ending))) :]
    return path.with_name(f".{os.fsdecode(stem)}{ending}")


def _refused(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be written: {error.strerror or error}; nothing was changed")
