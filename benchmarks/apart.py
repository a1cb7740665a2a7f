"""Forward passes and training steps measured in a fresh process, which may run out of memory without harm.

`run_apart` starts this file as a script with a task as JSON; the script prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from common import GB, autocast, build, least_official_memory, number, random_images, seconds
from torch import nn

from rgt_arch.errors import UserError
from rgt_arch.evaluation.complexity import Size
from rgt_arch.inference.memory import free_memory, is_out_of_memory

RESERVE = 10**9
"""Bytes of free memory that are left to others."""
_WARM_UP_SECONDS = 5.0  # a longer first run counts: what it prepares is a small part of it


@dataclass(frozen=True)
class Task:
    """One measurement of one network."""

    kind: str
    """forward or train."""
    engine: str
    config: dict[str, Any]
    size: tuple[int, int]
    device: str
    seed: int
    threads: int
    dtype: str = "fp32"
    batch: int = 1
    rounds: int = 1
    allowed: int | None = None
    """Bytes above the loaded network that it may take at most."""


@dataclass(frozen=True)
class Outcome:
    """What was measured; `memory` is None where it ran out of memory."""

    memory: int | None = None
    """Peak bytes above the loaded network."""
    seconds: float | None = None
    """Median of the runs; a short first one is left out."""
    needed: int | None = None
    """Where it ran out of memory: it needed more bytes than this."""

    def __str__(self) -> str:
        if self.memory is None:
            return f"out of memory (> {(self.needed or 0) / GB:.2f})"
        return number(self.memory / GB, 3)


def run_apart(task: Task) -> Outcome:
    """Do a task in a process of its own, within `task.allowed` bytes and the free memory.

    A task that is known to need more is not begun. Raises UserError if the process fails in another way.
    """
    device = torch.device(task.device)
    free = free_memory(device) - (RESERVE if device.type == "cpu" else 0)
    if free <= 0:
        raise UserError(f"less than {RESERVE / GB:.0f} GB of memory is free; end other programs first")
    allowed = min(free, task.allowed or free)
    if task.engine == "official" and task.kind == "forward":
        least = least_official_memory(task.config, Size(*task.size), task.dtype)
        if least > allowed:
            return Outcome(needed=least)
    limited = replace(task, allowed=allowed if device.type == "cpu" else task.allowed)  # a GPU has a limit of its own
    process = subprocess.run(
        [sys.executable, __file__, json.dumps(asdict(limited))], capture_output=True, text=True, check=False
    )
    last = process.stdout.strip().rpartition("\n")[2]
    if process.returncode == 0 and last.startswith("{"):
        outcome = Outcome(**json.loads(last))
        return Outcome(needed=allowed) if outcome.memory is None else outcome
    if process.returncode == -9 or "bad_alloc" in process.stderr:  # killed by the system, or a library gave up
        return Outcome(needed=allowed)
    words = process.stderr.strip().splitlines() or ["it said nothing"]
    raise UserError(f"the measuring process failed: {words[-1]}")


def training_step(task: Task, network: nn.Module, device: torch.device) -> Callable[[], None]:
    """A training step on random patches: forward, L1, backward, Adam; gradients are freed first, as BasicSR does."""
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.9, 0.99))
    size, scale = Size(*task.size), task.config["upscale"]
    lr = random_images(size, task.config, task.seed, device, task.batch)
    hr = random_images(Size(size.height * scale, size.width * scale), task.config, task.seed + 1, device, task.batch)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(task.dtype, device):
            output = network(lr)
        F.l1_loss(output.float(), hr).backward()
        optimizer.step()

    return step


def forward(task: Task, network: nn.Module, device: torch.device) -> Callable[[], None]:
    """One image without gradients."""
    image = random_images(Size(*task.size), task.config, task.seed, device)

    def run() -> None:
        with torch.inference_mode(), autocast(task.dtype, device):
            network(image)

    return run


def _measure(task: Task) -> Outcome:
    device = torch.device(task.device)
    torch.set_num_threads(task.threads)
    network = build(task.engine, task.config, task.seed, device)
    with torch.inference_mode(), autocast(task.dtype, device):
        network(random_images(Size(16, 16), task.config, task.seed, device))  # loads libraries
    work = (forward if task.kind == "forward" else training_step)(task, network, device)
    if device.type == "cuda":
        if task.kind == "forward":
            work()  # chooses kernels for this size
        torch.cuda.reset_peak_memory_stats(device)
    before = _resident(device)
    if task.allowed is not None:
        _limit_memory(task.allowed, device)
    try:
        times = [seconds(work, device)]
        times = times if times[0] >= _WARM_UP_SECONDS else []
        times += [seconds(work, device) for _ in range(task.rounds - len(times))]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) and "bad_alloc" not in str(error):
            raise
        return Outcome()
    return Outcome(max(0, _peak(device) - before), statistics.median(times))


def _resident(device: torch.device) -> int:
    """Bytes in use now; on Linux the kernel's record of the peak is set back to them."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # without it the peak since the start counts, which is about the same
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
    return int(psutil.Process().memory_info().rss)


def _peak(device: torch.device) -> int:
    """The largest number of bytes in use since `_resident`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        match = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        assert match
        return int(match[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS


def _limit_memory(allowed: int, device: torch.device) -> None:
    """Let allocations of more than `allowed` bytes in all fail, instead of the machine."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), device)
    elif sys.platform == "linux":
        import resource

        limit = int(psutil.Process().memory_info().vms) + allowed
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    print(json.dumps(asdict(_measure(Task(**json.loads(sys.argv[1]))))))
