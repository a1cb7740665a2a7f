"""Measurements in fresh processes, which may run out of memory without harm to anything else."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from typing import IO, Any, Literal

import psutil
import torch

from rgt_arch.errors import UserError
from rgt_arch.evaluation.speed.networks import Maker, least_peer_memory
from rgt_arch.evaluation.speed.settings import GB, Size
from rgt_arch.inference.memory import free_memory

RESERVE = 10**9
"""Bytes of free memory that are left to others."""

_LOOK_SECONDS = 0.03  # a machine fills some 100 MB in this time
_SIGKILL, _SIGABRT = 9, 6  # not in `signal` on Windows


@dataclass(frozen=True)
class Task:
    """One measurement of one network."""

    kind: Literal["forward", "train"]
    maker: Maker
    config: dict[str, Any]
    size: tuple[int, int]
    dtype: str = "fp32"
    batch: int = 1
    rounds: int = 1
    device: str = "cpu"
    threads: int | None = None
    seed: int = 10
    allowed: int | None = None
    """Bytes above the loaded network that it may take at most."""

    @classmethod
    def from_json(cls, text: str) -> Task:
        """A task that was written as JSON."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Outcome:
    """What came of a task."""

    memory: int | None = None
    """Peak bytes above the loaded network; None where it ran out of memory."""
    seconds: float | None = None
    """Median of its runs, a short first one left out."""
    needed: int | None = None
    """Where it ran out of memory: it needed more bytes than this."""

    @property
    def shortage(self) -> str:
        """In words, that it ran out of memory."""
        return f"out of memory (needed > {(self.needed or 0) / GB:.2f} GB)"


def run_apart(task: Task) -> Outcome:
    """Do a task in a process of its own, within `task.allowed` bytes and what is free.

    What needs more is not begun where that is known beforehand, and else stopped before the machine runs out.
    Raises UserError with the process's last words if it fails in another way, or if nothing is free.
    """
    device = torch.device(task.device)
    free = free_memory(device) - (RESERVE if device.type == "cpu" else 0)
    if free <= 0:
        raise UserError(f"less than {RESERVE / GB:.0f} GB of memory is free; end other programs first")
    allowed = min(free, task.allowed or free)
    if task.maker == "official" and task.kind == "forward":
        least = least_peer_memory(task.config, Size(*task.size), task.dtype, task.batch)
        if least > allowed:
            return Outcome(needed=least)
    # The child's limit on a CPU holds its address space, which is never less than what it takes. Where it was not
    # asked for, on a GPU, the GPU's own limit is exact.
    limit = allowed if device.type == "cpu" else task.allowed
    facts, rest = _converse(replace(task, allowed=limit))
    if "memory" in facts:
        return Outcome(memory=facts["memory"], seconds=facts["seconds"])
    if facts.get("out_of_memory"):
        return Outcome(needed=allowed)
    if "killed_at" in facts:
        return Outcome(needed=max(0, facts["killed_at"] - facts.get("before", 0)))
    lines = rest.strip().splitlines()
    raise UserError(f"the measuring process failed: {lines[-1] if lines else 'it said nothing'}")


def _converse(task: Task) -> tuple[dict[str, Any], str]:
    """Start the child, give it the task, watch the memory; returns all facts that it told, and its stderr.

    Where it was killed, by us or by the system, "killed_at" is the largest size in bytes at which it was seen.
    """
    command = [sys.executable, "-m", "rgt_arch.evaluation.speed.child"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the parent, which ends the child
        )
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it died at its start, and its stderr says why
                process.stdin.write(json.dumps(asdict(task)) + "\n")
                process.stdin.flush()  # and stays open: its end would end the child
            killed, largest = _watch(process)
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):
                process.stdin and process.stdin.close()
            process.wait()
        facts = _facts(out)
        err.seek(0)
        words = err.read()
    by_system = -process.returncode if process.returncode < 0 else 0
    if killed or by_system == _SIGKILL or (by_system == _SIGABRT and "bad_alloc" in words):
        facts["killed_at"] = largest
    return facts, words


def _watch(process: subprocess.Popen[str]) -> tuple[bool, int]:
    """Wait for the child, and kill it where the free memory falls below half the reserve.

    Returns whether it was killed, and its largest resident size in bytes that was seen.
    """
    cpu = torch.device("cpu")
    largest = 0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_SECONDS)
            return False, largest
        with contextlib.suppress(psutil.Error):
            largest = max(largest, int(psutil.Process(process.pid).memory_info().rss))
        if free_memory(cpu) < RESERVE // 2:
            process.kill()
            return True, largest


def _facts(out: IO[str]) -> dict[str, Any]:
    out.seek(0)
    facts: dict[str, Any] = {}
    for line in out.read().splitlines():
        with contextlib.suppress(ValueError):  # a library that prints
            fact = json.loads(line)
            facts.update(fact if isinstance(fact, dict) else {})
    return facts
