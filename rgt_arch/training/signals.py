"""SIGTERM and Ctrl-C end a training between two iterations, where it can be saved; a second signal ends it at once.

A cluster that reclaims its machine sends SIGTERM and waits for half a minute; BasicSR's loop would lose everything
since the last checkpoint.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# seconds: under Slurm, torchrun forwards the signal to processes that Slurm has already signalled
_SAME_REQUEST = 1.0


class StopRequest:
    """`with stop:` records the first signal in `stop.signal` instead of ending. Works in the main thread only."""

    def __init__(self) -> None:
        self.signal = 0
        """The number of the signal that ends the run, or 0; kept after the `with` block."""
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if not self.signal:
            self.signal, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > _SAME_REQUEST:
            os._exit(128 + number)  # no file is half-written: files are renamed into place

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as in shells."""
        return 128 + self.signal


@contextmanager
def reporting_sigterm(prog: str) -> Iterator[None]:
    """Report a SIGTERM before it ends the process, except inside a StopRequest. Works in the main thread only.

    Not for one of several processes: no Python code runs while a rank waits for others.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        os.write(2, f"{prog}: ended by SIGTERM\n".encode())
        os._exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def ignore_in_worker() -> None:
    """In a data worker: ignore signals that are meant for the run.

    A signal to the process group (Ctrl-C, torchrun, Slurm) reaches workers too; their death would be an error.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # elsewhere PyTorch's own handler stays: it ends a worker whose parent is gone
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_parent, daemon=True).start()


def _obey_parent() -> None:
    """End this worker on SIGTERM from the training process; PyTorch's workers detect its death by themselves."""
    trainer = multiprocessing.parent_process()  # os.getppid() may be a fork server
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != getattr(trainer, "pid", os.getppid()):
        pass
    os._exit(0)  # as PyTorch's handler does: anything else is an error in the parent
