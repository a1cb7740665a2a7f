"""Shared by all tests: `rgt_arch` is imported first, because BasicSR 1.4.2 can be imported only after it."""

import multiprocessing
import signal
from collections.abc import Iterator

import pytest
import torch

import rgt_arch  # noqa: F401

# The networks here are tiny: a second thread costs more than it gives, and very much more on a busy machine.
torch.set_num_threads(1)

# Shells start background jobs with Ctrl-C ignored, nohup with SIGHUP; processes of the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def start_method() -> Iterator[None]:
    """Restore the multiprocessing start method, which ranks set for the whole process as BasicSR does."""
    before = multiprocessing.get_start_method(allow_none=True)
    yield
    if multiprocessing.get_start_method(allow_none=True) != before:
        multiprocessing.set_start_method(before, force=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow files first, so that both workers of xdist end at about the same time."""
    items.sort(key=lambda item: not item.nodeid.startswith(("tests/end_to_end/", "tests/benchmarks/")))
