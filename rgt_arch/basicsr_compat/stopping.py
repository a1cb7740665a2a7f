"""SIGTERM and Ctrl-C end a training between two iterations, where it can be saved; a second signal ends it at once.

Where: basicsr/train.py:152-193 knows no signals. What goes wrong: a cluster that takes its machine back (SIGTERM, then
half a minute) costs everything since the last checkpoint, and Ctrl-C reaches the data workers first. No seam by
itself: training_loop.py and RGTModel's validation ask here. Delete it once BasicSR's loop saves when it is told to end.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from rgt_arch.basicsr_compat import run_folders

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# torchrun under Slurm gets the signal and passes it on to processes that Slurm has signalled too.
_SAME_REQUEST = 1.0

_asked = 0
_was_asked = 0
_since = 0.0
_before: dict[int, Any] = {}


def listen() -> None:
    """From now on the first signal is only noted. Does nothing outside the main thread, where Python has no signals."""
    global _asked, _was_asked
    if _before or threading.current_thread() is not threading.main_thread():
        return
    _asked = _was_asked = 0
    for number in _SIGNALS:
        _before[number] = signal.signal(number, _note)


def stop_listening() -> None:
    """Give the signals back to those who had them before `listen`."""
    global _asked, _was_asked
    _asked, _was_asked = 0, _asked or _was_asked
    while _before:
        number, handler = _before.popitem()
        signal.signal(number, handler)


def _note(number: int, _frame: FrameType | None) -> None:
    global _asked, _since
    if not _asked:
        _asked, _since = number, time.monotonic()
    elif time.monotonic() - _since > _SAME_REQUEST:
        os._exit(128 + number)  # at once: no file is half-written, for they are renamed into place


def asked() -> int:
    """The number of the signal that asked this process to end, or 0."""
    return _asked


def was_asked() -> int:
    """As `asked`, but still so after `stop_listening`, until the next `listen`."""
    return _asked or _was_asked


def agreed(device: torch.device) -> int:
    """The same answer on every rank: a signal that any of them was sent. All ranks must call it at the same place."""
    return greatest([_asked], device)[0]


def greatest(values: list[int], device: torch.device) -> list[int]:
    """The largest of each value over all ranks, on every rank."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return values
    shared = torch.tensor(values, device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return [int(value) for value in shared.tolist()]


def worker_init(original: Any) -> Any:
    """The `worker_init_fn` of a training loader: `original`, and signals meant for the run do not end its workers.

    A group's signal (Ctrl-C, torchrun, Slurm) reaches workers too, whose death would be an error of the run.
    """
    return partial(_init_worker, original)


def _init_worker(original: Any, worker_id: int) -> None:
    run_folders.leave_claim()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # elsewhere PyTorch's own handler stays, which minds its parent and else dies
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_mind_parent, daemon=True).start()
    if original is not None:
        original(worker_id)


def _mind_parent() -> None:
    """End this worker when its parent tells it to; that a parent died, PyTorch's workers see by themselves."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)  # as PyTorch's handler does: anything else is an error in the parent
