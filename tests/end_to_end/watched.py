"""Imported by runs of the tests (`--import watched`): records samples, and sends signals at chosen points.

Environment variables: FLOAT64=1 makes a run compute in float64. BLOWS is a JSON list of {"signal", "iteration" (or
later), "before" (a method of the model, or `_save_state` of the checkpoint manager)}, optionally "rank" (default 0),
"attempt" (of torchrun; default 0) and "whom": "self" (default), "group", "worker" (a process that loads data) or
"parent". WATCH is the file in which a run records its phase (phases.py).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from phases import Watch

from rgt_arch.launchers import environment_rank
from rgt_arch.models.rgt_model import RGTModel
from rgt_arch.training import loop
from rgt_arch.training.checkpoints import CheckpointManager
from rgt_arch.training.signals import StopRequest

stops: list[StopRequest] = []  # of this run
RANK, ATTEMPT = environment_rank(), int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def record_samples() -> None:
    """Every step adds a line to samples-RANK.jsonl: its iteration, and names and sums of the GT patches."""
    step = RGTModel.optimize_parameters

    def optimize_parameters(self: RGTModel, current_iter: int) -> None:
        sums = self.gt.double().sum((1, 2, 3)).tolist()
        names = self._lq_paths or [""] * len(sums)  # none beside a pool of pairs
        line = json.dumps([current_iter, [list(pair) for pair in zip(names, sums, strict=True)]])
        with Path(f"samples-{RANK}.jsonl").open("a") as file:
            file.write(f"{line}\n")
        step(self, current_iter)

    RGTModel.optimize_parameters = optimize_parameters  # type: ignore[method-assign]


def compute_in_float64() -> None:
    torch.set_default_dtype(torch.float64)
    feed = RGTModel.feed_data

    def feed_data(self: RGTModel, data: Mapping[str, Any]) -> None:
        feed(self, {key: value.double() if isinstance(value, torch.Tensor) else value for key, value in data.items()})

    RGTModel.feed_data = feed_data  # type: ignore[method-assign]


def send_before(signal: int, iteration: int, before: str, whom: str = "self") -> None:
    """Send a signal, once, when a method is called in an iteration or after it."""
    owner: Any = CheckpointManager if hasattr(CheckpointManager, before) else RGTModel
    method, sent = getattr(owner, before), []

    def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        model = self._model if owner is CheckpointManager else self
        now = arguments[0] if before == "optimize_parameters" else model.iteration
        if now >= iteration and not sent:
            sent.append(now)
            if whom == "group":
                os.killpg(0, signal)
            elif whom == "worker":
                os.kill(multiprocessing.active_children()[0].pid or 0, signal)
            else:
                os.kill(os.getppid() if whom == "parent" else os.getpid(), signal)
            limit = time.monotonic() + 60
            while whom == "parent" and not stops[0].signal and time.monotonic() < limit:
                time.sleep(0.01)  # until the parent has passed the signal on
        return method(self, *arguments, **keywords)

    setattr(owner, before, call)


def record_stop_request() -> None:
    """Keep the StopRequest that the command creates."""
    wait = loop.batches

    def batches(loader: Any, opt: dict[str, Any], stop: StopRequest) -> Any:
        stops.append(stop)
        return wait(loader, opt, stop)

    loop.batches = batches


def record_phases(watch: Watch) -> None:
    began = time.monotonic()

    def during(phase: str, owner: type, name: str) -> None:
        method: Callable[..., Any] = getattr(owner, name)

        def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
            model = self._model if owner is CheckpointManager else self
            entered = time.monotonic()
            before, _ = watch.now()
            if before == "start":
                watch.took("start", entered - began)
            watch.enter(phase, arguments[0] if phase == "step" else model.iteration)
            try:
                return method(self, *arguments, **keywords)
            finally:
                watch.took(phase, time.monotonic() - entered)
                watch.enter("between" if phase == "step" else before, model.iteration)
                if name == "save_latest":
                    watch.enter("end", 0)

        setattr(owner, name, call)

    during("step", RGTModel, "optimize_parameters")
    during("validation", RGTModel, "validation")
    for name in ("save", "save_validation", "save_latest"):
        during("save", CheckpointManager, name)


record_stop_request()
record_samples()
if os.environ.get("FLOAT64"):
    compute_in_float64()
for blow in json.loads(os.environ.get("BLOWS", "[]")):
    if (blow.pop("rank", 0), blow.pop("attempt", 0)) == (RANK, ATTEMPT):
        send_before(**blow)
if os.environ.get("WATCH") and RANK == 0:
    record_phases(Watch(Path(os.environ["WATCH"])))
