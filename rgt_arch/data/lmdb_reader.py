"""One read-only LMDB environment per path and process, and a clear error for a missing key.

Where: basicsr/utils/file_client.py:112 and :125. What goes wrong: lmdb 3 refuses to open a path twice in a process,
so training and validation from one LMDB end in lmdb.Error, as does a forked worker whose parent had it open; a
missing key returns None and ends as a TypeError inside NumPy. Delete this module once BasicSR shares environments and
checks for missing keys.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from rgt_arch.data.pairing import MetaLine, read_list, spread
from rgt_arch.errors import UnreadableImageError, UsageError

META_INFO = "meta_info.txt"
_READ_ONLY = {"readonly": True, "lock": False, "readahead": False, "create": False}
_lock = threading.Lock()
_environments: dict[str, tuple[int, Any]] = {}  # real path -> (process that opened it, lmdb.Environment)


def open_lmdb(path: str, **options: Any) -> Any:
    """Return this process's environment of `path`, a real path, opened at first use.

    An environment of the parent process is not used: after a fork the child closes its copy (readers without locks
    share nothing) and opens its own.
    """
    with _lock:
        owner, environment = _environments.get(path, (0, None))
        if owner == os.getpid():
            return environment
        if environment is not None:
            environment.close()
        try:
            environment = lmdb.open(path, **{**_READ_ONLY, **options})
        except lmdb.Error as error:
            reason = str(error).removeprefix(f"{path}: ")
            raise UsageError(
                f"{path}: cannot be opened as an LMDB ({reason}); name another one, or make it with `rgt prepare lmdb`"
            ) from error
        # The tree of a truncated data.mdb has more pages than the file. Like opening, this reads only the first two.
        size = os.stat(os.path.join(path, "data.mdb")).st_size
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if size < needed:
            environment.close()
            raise UsageError(f"{path}/data.mdb: is truncated: {size} of {needed} bytes; copy or make it again")
        _environments[path] = (os.getpid(), environment)
        return environment


def read_keys(path: Path, sample: int) -> dict[str, tuple[int, int] | None]:
    """Read {key: (height, width) or None} from an LMDB's meta_info.txt, and look up `sample` of the keys.

    Raises UsageError for an LMDB that BasicSR cannot read.
    """
    for name in ("data.mdb", META_INFO):
        if not (path / name).is_file() or not (path / name).stat().st_size:
            what = f"its {name} is empty" if (path / name).is_file() else f"holds no {name}"
            raise UsageError(f"{path}: {what}; make it again with `rgt prepare lmdb`")
    sizes: dict[str, tuple[int, int] | None] = {}
    for line in map(MetaLine.parse, read_list(path / META_INFO)):
        if line.key in sizes:
            why = "is used twice (keys end at the first dot of a name); rename the images and make it again"
            raise UsageError(f"{path}: the key {line.key!r} {why}")
        sizes[line.key] = line.size
    with opened(path):
        for key in spread(list(sizes), sample):
            read_value(path, os.path.realpath(path), key)
    return sizes


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Yield an LMDB's environment; close it afterwards unless it was open before. Raises UsageError for damage."""
    real = os.path.realpath(path)
    was_open = _environments.get(real, (0, None))[0] == os.getpid()
    try:
        yield open_lmdb(real)
    except lmdb.Error as error:
        raise UsageError(f"{path}: is damaged ({error}); copy or make it again") from error
    except UnreadableImageError as error:
        raise UsageError(str(error)) from error
    finally:
        if not was_open and real in _environments:
            _environments.pop(real)[1].close()


def read_value(path: str | Path, real: str, key: str, **options: Any) -> bytes:
    """Return the bytes of a key. path: for messages. real: its real path. Raises UnreadableImageError if missing."""
    with open_lmdb(real, **options).begin() as transaction:
        value: bytes | None = transaction.get(key.encode())
        if value is not None:
            return value
        remedy = "make the LMDB again, so that it and its meta_info.txt agree"
        with transaction.cursor() as cursor:
            if cursor.set_range(f"{key}.".encode()) and cursor.key().startswith(f"{key}.".encode()):
                remedy = f"it has {cursor.key().decode(errors='replace')!r}, but BasicSR cuts names at the first dot: "
                remedy += "rename the images and make the LMDB again"
        raise UnreadableImageError(f"{path}: no key {key!r}; {remedy}")


class SharedLmdbBackend:
    """BasicSR's LmdbBackend with shared environments. It holds only paths, so it can be sent to worker processes."""

    def __init__(self, db_paths: str | list[str], client_keys: str | list[str] = "default", **options: Any) -> None:
        """Same arguments as basicsr.utils.file_client.LmdbBackend. Raises UsageError if a path is not an LMDB."""
        paths = [str(path) for path in db_paths] if isinstance(db_paths, list) else [str(db_paths)]
        names = client_keys if isinstance(client_keys, list) else [client_keys]
        real = [os.path.realpath(path) for path in paths]  # once, because realpath takes longer than finding a key
        self._paths = dict(zip(names, zip(paths, real, strict=True), strict=True))
        self._options = options
        for path in real:
            open_lmdb(path, **options)

    def get(self, filepath: str, client_key: str) -> bytes:
        """Return the bytes of key `filepath` in the LMDB `client_key`. Raises UnreadableImageError if missing."""
        return read_value(*self._paths[client_key], str(filepath), **self._options)
