"""Shared by all tests: `rgt_arch` is imported first, because BasicSR 1.4.2 can be imported only after it."""

import errno
import multiprocessing
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import rgt_arch  # noqa: F401

# The networks here are tiny: a second thread costs more than it gives, and very much more on a busy machine.
torch.set_num_threads(1)

# Shells start background jobs with Ctrl-C ignored, nohup with SIGHUP; processes of the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class MakesFolder:
    """An object that makes a folder when it is unpickled, as code in a malicious file would."""

    def __init__(self, folder: object) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.folder,)


@pytest.fixture(autouse=True)
def start_method() -> Iterator[None]:
    """Restore the multiprocessing start method, which ranks set for the whole process as BasicSR does."""
    before = multiprocessing.get_start_method(allow_none=True)
    yield
    if multiprocessing.get_start_method(allow_none=True) != before:
        multiprocessing.set_start_method(before, force=True)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Simulate a full disk for files whose names contain a word of the returned list."""
    words: list[str] = []
    replace = os.replace

    def refuse(source: Any, target: Any) -> None:
        if any(word in str(target) for word in words):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    return words


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow files first, so that both workers of xdist end at about the same time."""
    items.sort(key=lambda item: not item.nodeid.startswith(("tests/end_to_end/", "tests/benchmarks/")))
