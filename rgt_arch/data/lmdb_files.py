"""LMDB files that were cut off: reading behind their end would kill the process, without a word."""

from __future__ import annotations

import os
from typing import Any


def truncation(path: str | os.PathLike[str], environment: Any) -> str | None:
    """What is wrong with the data.mdb of an LMDB folder that has been opened, if it is shorter than its tree says.

    Opening reads the first two pages alone, and so does this.
    """
    size = os.stat(os.path.join(path, "data.mdb")).st_size
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    return f"is truncated: {size} of {needed} bytes; copy or make it again" if size < needed else None
