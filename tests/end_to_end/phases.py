"""Phase and iteration of a run, and durations of its phases, in memory shared with the test that sends signals."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

PHASES = ("start", "between", "step", "validation", "save", "end")
"""`between` is logging and waiting for data; `end` is after the last validation."""
_NOW, _DURATIONS = "=BxxxI", 16


class Watch:
    """Phase, iteration and durations in shared memory, mapped from a file."""

    def __init__(self, path: Path) -> None:
        path.touch()
        if not path.stat().st_size:
            path.write_bytes(bytes(mmap.PAGESIZE))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)

    def now(self) -> tuple[str, int]:
        phase, iteration = struct.unpack_from(_NOW, self._memory)
        return PHASES[phase], iteration

    def enter(self, phase: str, iteration: int) -> None:
        struct.pack_into(_NOW, self._memory, 0, PHASES.index(phase), iteration)

    def duration(self, phase: str) -> float:
        """Return the seconds that this phase took the last time."""
        return float(struct.unpack_from("=d", self._memory, _DURATIONS + 8 * PHASES.index(phase))[0])

    def took(self, phase: str, seconds: float) -> None:
        struct.pack_into("=d", self._memory, _DURATIONS + 8 * PHASES.index(phase), seconds)
