"""What test_ranks.py has its runs import (`--import watched`): they write down what they train on, and meet signals.

The environment says more: FLOAT64=1 has a run compute in float64; BLOWS is a JSON list of {"rank", "attempt" (of
torchrun), "iteration", "before" (a method of the model), "signal", "whom" ("self" or "parent")}.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rgt_arch.models.rgt_model import RGTModel
from rgt_arch.training import loop
from rgt_arch.training.ranks import environment_rank
from rgt_arch.training.signals import StopRequest

stops: list[StopRequest] = []  # the run's own
RANK, ATTEMPT = environment_rank(), int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def write_samples_down() -> None:
    """Every step adds a line to samples-RANK.jsonl: its iteration, and names and sums of the GT patches."""
    step = RGTModel.optimize_parameters

    def optimize_parameters(self: RGTModel, current_iter: int) -> None:
        sums = self.gt.double().sum((1, 2, 3)).tolist()
        with Path(f"samples-{RANK}.jsonl").open("a") as file:
            file.write(
                json.dumps([current_iter, [list(pair) for pair in zip(self._lq_paths, sums, strict=True)]]) + "\n"
            )
        step(self, current_iter)

    RGTModel.optimize_parameters = optimize_parameters  # type: ignore[method-assign]


def compute_in_float64() -> None:
    torch.set_default_dtype(torch.float64)
    feed = RGTModel.feed_data

    def feed_data(self: RGTModel, data: Mapping[str, Any]) -> None:
        feed(self, {key: value.double() if isinstance(value, torch.Tensor) else value for key, value in data.items()})

    RGTModel.feed_data = feed_data  # type: ignore[method-assign]


def expect(iteration: int, before: str, signal: int, whom: str) -> None:
    """Send a signal, once, when a method of the model is called in an iteration."""
    method, sent = getattr(RGTModel, before), []

    def call(self: RGTModel, *arguments: Any) -> Any:
        now = arguments[0] if before == "optimize_parameters" else self.iteration
        if now == iteration and not sent:
            sent.append(now)
            os.kill(os.getppid() if whom == "parent" else os.getpid(), signal)
            limit = time.monotonic() + 60
            while whom == "parent" and not stops[0].signal and time.monotonic() < limit:
                time.sleep(0.01)  # until it has passed the signal on
        return method(self, *arguments)

    setattr(RGTModel, before, call)


def note_stop_request() -> None:
    """The run's StopRequest, which the command makes, and hands to everything that asks it."""
    wait = loop.batches

    def batches(loader: Any, opt: dict[str, Any], stop: StopRequest) -> Any:
        stops.append(stop)
        return wait(loader, opt, stop)

    loop.batches = batches


note_stop_request()
write_samples_down()
if os.environ.get("FLOAT64"):
    compute_in_float64()
for blow in json.loads(os.environ.get("BLOWS", "[]")):
    if (blow.pop("rank"), blow.pop("attempt")) == (RANK, ATTEMPT):
        expect(**blow)
