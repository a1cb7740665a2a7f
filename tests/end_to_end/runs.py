"""`basicsr train` in processes forked from one that has imported everything: `python runs.py`, a request on each line.

A request is {"root": folder, "arguments": [...]} in JSON, and may have "kill", the arguments of `kill_before`, or
"strike", those of `strike`, and "ranks", how many processes train together. The answer is {"code": exit code, -9 for
SIGKILL, "struck": null or the phase that the signal of a strike came in}. What a run prints goes to output.txt in its
folder (output_1.txt of rank 1).
"""

from __future__ import annotations

import contextlib
import json
import mmap
import multiprocessing
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.utils.tensorboard  # takes seconds, which runs that log there are spared

from rgt_arch.cli.basicsr_command import main
from rgt_arch.training import loop
from rgt_arch.training.checkpoints import CheckpointManager

PHASES = ("start", "between", "step", "validation", "save", "end")
"""What a run is doing: `between` is logging and waiting for data, `end` after the last validation."""
METHODS = {"optimize_parameters": "step", "validation": "validation"}
"""Of the model."""
SAVES = ("save", "save_validation", "save_latest")
"""Of the checkpoint manager."""
LIMIT = 240.0
"""Seconds after which a run counts as hung."""
HUNG = 124


class Watch:
    """Phase and iteration of a run, in memory that it shares with its parent, and how long phases take."""

    _NOW, _DURATIONS = "=BxxxI", 16

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)  # nothing of multiprocessing, whose start method is the run's
        self._began = 0.0
        self.took("start", 0.5)

    def begin(self) -> None:
        self._began = time.monotonic()
        self.enter("start", 0)

    def now(self) -> tuple[str, int]:
        phase, iteration = struct.unpack_from(self._NOW, self._memory)
        return PHASES[phase], iteration

    def enter(self, phase: str, iteration: int) -> None:
        struct.pack_into(self._NOW, self._memory, 0, PHASES.index(phase), iteration)

    def duration(self, phase: str) -> float:
        """Seconds that the phase took the last time."""
        return struct.unpack_from("=d", self._memory, self._DURATIONS + 8 * PHASES.index(phase))[0]

    def took(self, phase: str, seconds: float) -> None:
        struct.pack_into("=d", self._memory, self._DURATIONS + 8 * PHASES.index(phase), seconds)

    def during(self, phase: str, model: Any, method: Callable[..., Any]) -> Callable[..., Any]:
        """`method` of a model, which is what the run does in `phase`."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            began = time.monotonic()
            before, _ = self.now()
            if before == "start":
                self.took("start", began - self._began)
            self.enter(phase, arguments[0] if phase == "step" else model.iteration)
            try:
                return method(*arguments, **keywords)
            finally:
                self.took(phase, time.monotonic() - began)
                self.enter("between" if phase == "step" else before, model.iteration)

        return call

    def saving(self, model: Any, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the checkpoint manager's class."""

        def call(checkpoints: Any, *arguments: Any, **keywords: Any) -> Any:
            return self.during("save", model, partial(method, checkpoints))(*arguments, **keywords)

        return call


class Processes:
    """The processes of a run, our children, by rank."""

    def __init__(self, children: list[int]) -> None:
        self.children = children
        self.running = children[:]
        self.codes: list[int] = []
        """Exit codes of those that have ended, in that order."""

    def ended(self) -> bool:
        """Whether all have ended, or one in failure."""
        for child in self.running[:]:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                self.running.remove(child)
                self.codes.append(os.waitstatus_to_exitcode(status))
        return not self.running or any(self.codes)

    def wait(self) -> int:
        """The exit code of the run: that of the first process to fail, after which the others are told to end."""
        self._wait_until(self.ended, LIMIT)
        hung = not self.ended()
        for number, patience in ((signal.SIGTERM, 30.0), (signal.SIGKILL, LIMIT)):  # as torchrun does
            for child in self.running:
                send(number, child)
            self._wait_until(lambda: self.ended() and not self.running, patience)
        return HUNG if hung else next((code for code in self.codes if code), 0)

    @staticmethod
    def _wait_until(done: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            time.sleep(0.002)


def serve() -> None:
    torch.set_num_threads(1)
    watch = Watch()
    for line in sys.stdin:
        code, struck = run(watch, **json.loads(line))
        print(json.dumps({"code": code, "struck": struck}), flush=True)


def run(
    watch: Watch,
    root: str,
    arguments: list[str],
    kill: dict[str, Any] | None = None,
    strike: dict[str, Any] | None = None,
    ranks: int = 1,
) -> tuple[int, str | None]:
    """Exit code of a run, and the phase it was struck in."""
    watch.begin()
    port = free_port()
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            if ranks > 1:
                join = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
                os.environ.update({name: str(value) for name, value in join.items()}, MASTER_ADDR="127.0.0.1")
                arguments = [*arguments, "--launcher", "pytorch"]
            train(root, f"output_{rank}.txt" if rank else "output.txt", arguments, None if rank else watch, kill)
        children.append(child)
    processes = Processes(children)
    struck = None if strike is None else strike_once(watch, processes, **strike)
    return processes.wait(), struck


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def train(root: str, output: str, arguments: list[str], watch: Watch | None, kill: dict[str, Any] | None) -> None:
    """Does not return: the process ends as one started from a shell would."""
    os.setsid()
    os.chdir(root)
    file = os.open(output, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    if watch is not None:
        tell_phases(watch)
    if kill is not None:
        kill_before(**kill)
    code = main(["train", "-opt", "options.yml", *arguments])
    if watch is not None:
        watch.enter("end", 0)
    sys.exit(code)


def tell_phases(watch: Watch) -> None:
    """Have the watch told what the run does."""
    build = loop.build_model

    def build_model(opt: dict[str, Any]) -> Any:
        model = build(opt)
        for method, phase in METHODS.items():
            setattr(model, method, watch.during(phase, model, getattr(model, method)))
        for method in SAVES:
            setattr(CheckpointManager, method, watch.saving(model, getattr(CheckpointManager, method)))
        return model

    loop.build_model = build_model


def strike_once(
    watch: Watch,
    processes: Processes,
    signal: int,
    phase: str,
    iteration: int,
    last: int,
    fraction: float,
    whom: str | int,
) -> str | None:
    """Send a signal at a point of a phase in or after an iteration, or, from iteration `last` on, of any phase.

    fraction: the point, of what the phase took the last time. whom: a rank, or "group": all ranks with their data
    workers, as a terminal or Slurm does. Returns the phase that the run was in by then; None where it ended before.
    """
    while True:
        if processes.ended():
            return None
        now, done = watch.now()
        if (now == phase and done >= iteration) or done >= last:
            break
        time.sleep(0.0003)
    time.sleep(fraction * watch.duration(now))
    struck = watch.now()[0]
    for child in processes.running if whom == "group" else [processes.children[int(whom)]]:
        send(signal, child, group=whom == "group")
    return struck


def send(number: int, child: int, group: bool = False) -> None:
    with contextlib.suppress(ProcessLookupError):
        if group and os.getpgid(child) == child:
            os.killpg(child, number)
        else:
            os.kill(child, number)


def kill_before(signal: int, iteration: int, before: str, whom: str = "self") -> None:
    """Send a signal when a method is called, once, in or after an iteration.

    before: a method of the model, or `_save_state` of the checkpoint manager. whom: "self", "group" (as a terminal,
    torchrun and Slurm do) or "worker" (a process that loads data).
    """
    build = loop.build_model

    def build_model(opt: dict[str, Any]) -> Any:
        model = build(opt)
        owner = CheckpointManager if hasattr(CheckpointManager, before) else model
        method, sent = getattr(owner, before), []

        def call(*arguments: Any, **keywords: Any) -> Any:
            now = arguments[0] if before == "optimize_parameters" else model.iteration
            if now >= iteration and not sent:
                sent.append(now)
                if whom == "group":
                    os.killpg(0, signal)
                else:
                    os.kill(os.getpid() if whom == "self" else multiprocessing.active_children()[0].pid or 0, signal)
            return method(*arguments, **keywords)

        setattr(owner, before, call)
        return model

    loop.build_model = build_model


if __name__ == "__main__":
    serve()
