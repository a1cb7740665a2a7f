"""One read-only LMDB environment per path and process, and a clear error for a missing key.

Where: basicsr/utils/file_client.py:112 and :125. What goes wrong: lmdb 3 refuses to open a path twice in a process,
so training and validation from one LMDB end in lmdb.Error, as does a forked worker whose parent had it open; a
missing key returns None and ends as a TypeError inside NumPy. Delete it once BasicSR shares environments and checks
what it got.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import lmdb

from rgt_arch.errors import UsageError

_READ_ONLY = {"readonly": True, "lock": False, "readahead": False, "create": False}
_lock = threading.Lock()
_environments: dict[str, tuple[int, Any]] = {}  # real path -> (process that opened it, lmdb.Environment)


def open_lmdb(path: str, **options: Any) -> Any:
    """The environment of `path`, a real path, in this process, opened at first use.

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
        if (problem := truncation(path, environment)) is not None:
            environment.close()
            raise UsageError(f"{path}/data.mdb: {problem}")
        _environments[path] = (os.getpid(), environment)
        return environment


def truncation(path: str | os.PathLike[str], environment: Any) -> str | None:
    """What is wrong with the data.mdb of an LMDB folder that has been opened, if it is shorter than its tree says.

    Opening reads the first two pages alone, and so does this.
    """
    size = os.stat(os.path.join(path, "data.mdb")).st_size
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    return f"is truncated: {size} of {needed} bytes; copy or make it again" if size < needed else None


def check_keys(path: str, keys: Sequence[str]) -> None:
    """Raise UsageError unless `path` is a whole LMDB that has `keys`. What was not open before is closed again."""
    real = os.path.realpath(path)
    was_open = _environments.get(real, (0, None))[0] == os.getpid()
    try:
        with open_lmdb(real).begin() as transaction:
            missing = next((key for key in keys if transaction.get(key.encode()) is None), None)
            if missing is not None:
                raise UsageError(f"{path}: no key {missing!r}; {_remedy(transaction, missing)}")
    except lmdb.Error as error:
        raise UsageError(f"{path}: is damaged ({error}); copy or make it again") from error
    finally:
        if not was_open and real in _environments:
            _environments.pop(real)[1].close()


class SharedLmdbBackend:
    """BasicSR's LmdbBackend with shared environments. It holds paths only, so it can be sent to worker processes."""

    def __init__(
        self,
        db_paths: str | list[str],
        client_keys: str | list[str] = "default",
        readonly: bool = True,
        lock: bool = False,
        readahead: bool = False,
        **kwargs: Any,
    ) -> None:
        """Same arguments as basicsr.utils.file_client.LmdbBackend. Raises UsageError for another folder."""
        paths = [str(path) for path in db_paths] if isinstance(db_paths, list) else [str(db_paths)]
        names = client_keys if isinstance(client_keys, list) else [client_keys]
        if len(names) != len(paths):
            raise ValueError(f"{len(paths)} LMDB paths {paths} for {len(names)} client keys {names}; give one for each")
        self.db_paths = paths
        real = [os.path.realpath(path) for path in paths]  # once: it takes longer than finding a key
        self._paths = dict(zip(names, zip(paths, real, strict=True), strict=True))
        self._options = {"readonly": readonly, "lock": lock, "readahead": readahead, **kwargs}
        for path in real:
            open_lmdb(path, **self._options)

    def get(self, filepath: str, client_key: str) -> bytes:
        """The bytes stored under the key `filepath` in the LMDB named `client_key`.

        Raises UnreadableImageError when there are none.
        """
        path, real = self._paths[client_key]
        key = str(filepath)
        with open_lmdb(real, **self._options).begin(write=False) as transaction:
            value = transaction.get(key.encode())
            if value is None:
                from rgt_arch.data.loading import UnreadableImageError  # which imports torch

                raise UnreadableImageError(f"{path}: no key {key!r}; {_remedy(transaction, key)}")
        return value

    def get_text(self, filepath: str) -> str:
        raise NotImplementedError("an LMDB holds images, no text")


def _remedy(transaction: Any, key: str) -> str:
    """What to do about a missing key: BasicSR cuts the names in meta_info.txt at their first dot
    (data/data_util.py:142)."""
    with transaction.cursor() as cursor:
        if cursor.set_range(f"{key}.".encode()) and cursor.key().startswith(f"{key}.".encode()):
            longer = cursor.key().decode(errors="replace")
            return (
                f"it has {longer!r}, but BasicSR cuts names at the first dot: rename the images and make the LMDB again"
            )
    return "make the LMDB again, so that it and its meta_info.txt agree"
