"""The largest memory that work takes above what is taken before it."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import psutil
import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # what proc(5) has for it
_SAMPLE_SECONDS = 0.001


def resident_memory() -> int:
    """Bytes of this process that are in memory now."""
    return int(psutil.Process().memory_info().rss)


class PeakMemory:
    """`with PeakMemory(device) as peak: …; peak.bytes`: the peak within it, above the beginning.

    On a GPU what torch allocates there. On the CPU the resident size, as Linux keeps its maximum; elsewhere as a
    thread samples it. What libraries load in their first run counts too, so let there be a small one before.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before = 0
        self.bytes = 0
        self._stop = threading.Event()
        self._sampler: threading.Thread | None = None

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
            return self
        self.before = resident_memory()
        if not _reset_kernel_peak():
            self._sampler = threading.Thread(target=self._sample, daemon=True)
            self._sampler.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self.before
        elif self._sampler is None:
            self.bytes = max(0, _kernel_peak() - self.before)
        else:
            self._stop.set()
            self._sampler.join()

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self.bytes = max(self.bytes, resident_memory() - self.before)


def _reset_kernel_peak() -> bool:
    """Whether Linux' own record of the largest resident size could be set to the size of now."""
    try:
        _CLEAR.write_text(_RESET_PEAK)
        return _kernel_peak() > 0
    except (OSError, ValueError):
        return False


def _kernel_peak() -> int:
    match = re.search(r"^VmHWM:\s*(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    if match is None:
        raise ValueError(f"{_STATUS} has no VmHWM")
    return int(match[1]) * 1024
