"""Files that appear whole or not at all; folders such as LMDBs are made beside their place and moved there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rgt_arch.errors import UserError


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a name beside `path` to write to; at the end that file is flushed to the disk and renamed over `path`.

    A failure leaves `path` as it was and nothing beside it. The name keeps the suffix, by which some writers choose
    the format. Raises UserError naming the file and the reason for what the system refuses.
    """
    path = Path(path)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}; nothing was changed") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
