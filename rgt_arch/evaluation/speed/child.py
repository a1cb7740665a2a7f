"""`python -m rgt_arch.evaluation.speed.child`: one measurement in a process of its own, see `apart`.

Reads a `Task` as JSON from stdin and writes JSON lines to stdout: {"before": bytes} when the network is loaded and has
run once on a small image, then {"memory": bytes, "seconds": median}, or {"out_of_memory": true}.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
from collections.abc import Callable
from typing import Any

import psutil
import torch
from torch import nn

from rgt_arch.evaluation.speed.apart import Task
from rgt_arch.evaluation.speed.clock import Work, seconds
from rgt_arch.evaluation.speed.networks import build, random_images
from rgt_arch.evaluation.speed.peak import PeakMemory
from rgt_arch.evaluation.speed.settings import Size, autocast, conditions
from rgt_arch.evaluation.speed.steps import training_step
from rgt_arch.inference.memory import is_out_of_memory

_FIRST_SIZE = Size(16, 16)  # the least that the peer can do
_WARM_UP_SECONDS = 5.0  # a first run that is longer is timed too: what it prepares is a small part of it


def main() -> None:
    """Do the task that stands on stdin."""
    task = Task.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    device = torch.device(task.device)
    with conditions(task.threads, device):
        network = build(task.maker, task.config, task.seed, device)
        with torch.inference_mode(), autocast(task.dtype, device):
            network(random_images(_FIRST_SIZE, task.config, task.seed, device))
        try:
            _tell(_measure(task, network, device))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) and "bad_alloc" not in str(error):
                raise
            _tell({"out_of_memory": True})


def _measure(task: Task, network: nn.Module, device: torch.device) -> dict[str, Any]:
    work = _WORKS[task.kind](task, network, device)
    if task.allowed is not None:
        _limit_memory(task.allowed, device)
    with PeakMemory(device) as peak:
        _tell({"before": peak.before})
        times = [seconds(work, device)]
        if times[0] < _WARM_UP_SECONDS:
            times.clear()
        times += [seconds(work, device) for _ in range(task.rounds - len(times))]
    return {"memory": peak.bytes, "seconds": statistics.median(times)}


def _forward(task: Task, network: nn.Module, device: torch.device) -> Work:
    image = random_images(Size(*task.size), task.config, task.seed, device, task.batch)

    @torch.inference_mode()
    def run() -> None:
        with autocast(task.dtype, device):
            network(image)

    if device.type == "cuda":
        run()  # chooses and loads kernels for this size
    return run


def _train(task: Task, network: nn.Module, device: torch.device) -> Work:
    return training_step(network, Size(*task.size), task.config, task.batch, task.dtype, task.seed, device)


_WORKS: dict[str, Callable[[Task, nn.Module, torch.device], Work]] = {"forward": _forward, "train": _train}


def _limit_memory(allowed: int, device: torch.device) -> None:
    """Let allocations of more than `allowed` bytes in all fail, instead of the machine."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), device)
    elif sys.platform == "linux":
        import resource

        limit = int(psutil.Process().memory_info().vms) + allowed
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _tell(fact: dict[str, Any]) -> None:
    print(json.dumps(fact), flush=True)


def _end_with_parent() -> None:
    """stdin ends when the parent does; without it nobody would read the result."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
