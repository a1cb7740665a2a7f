"""Files that appear whole or not at all; folders such as LMDBs are made beside their place and moved there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rgt_arch.errors import UserError

_LONGEST_NAME = 255  # bytes, on nearly all file systems


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a name beside `path` to write to; at the end that file is flushed to the disk and renamed over `path`.

    A failure leaves `path` as it was and nothing beside it. The name keeps the suffix, by which some writers choose
    the format. Raises UserError naming the file and the reason for what the system refuses.
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


def check_place(path: str | os.PathLike[str]) -> None:
    """Raise UserError where `written_whole` could not write: to be asked before long work. Nothing is left there."""
    path = Path(path)
    if os.path.isdir(path):  # the method of Path fails for names that are too long
        raise UserError(f"{path}: is a folder; move it away, or choose another name")
    beside = _beside(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # refuses names that are too long
        beside.touch()
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    ending = f".{os.getpid()}.part{path.suffix}"
    stem = path.stem
    while stem and len(os.fsencode(f".{stem}{ending}")) > _LONGEST_NAME:
        stem = stem[1:]
    return path.with_name(f".{stem}{ending}")


def _refused(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be written: {error.strerror or error}; nothing was changed")
