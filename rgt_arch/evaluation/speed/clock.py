"""Times of several ways to do the same work, measured in turns so that a busy moment meets them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

K = TypeVar("K")
Work = Callable[[], object]


def seconds(work: Work, device: torch.device) -> float:
    """Seconds that `work` takes, by events on a GPU and by the clock elsewhere."""
    if device.type == "cuda":
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize(device)
        return float(begin.elapsed_time(end)) / 1000
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(works: Mapping[K, Work], rounds: int, device: torch.device, done: Work) -> dict[K, list[float]]:
    """Seconds of `rounds` runs of each work, forwards and backwards through them by turns; `done` is called after each.

    The works have been run before: there is no warm-up here.
    """
    times: dict[K, list[float]] = {key: [] for key in works}
    for turn in range(rounds):
        for key in list(works)[:: 1 if turn % 2 == 0 else -1]:
            times[key].append(seconds(works[key], device))
            done()
    return times
