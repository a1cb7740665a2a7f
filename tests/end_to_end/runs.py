"""`basicsr train` in processes forked from one that has imported everything: `python runs.py`, a request on each line.

A request is {"root": folder, "arguments": [...], "kill": null or {"signal", "iteration", "before", "whom"}} in JSON;
the answer is the exit code on a line (-9 for SIGKILL). What the run prints goes to output.txt in its folder.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from typing import Any

import torch

import rgt_arch  # noqa: F401 - makes BasicSR importable
from rgt_arch import basicsr_compat
from rgt_arch.cli.basicsr_command import main


def serve() -> None:
    basicsr_compat.install()
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            train(**request)
        limit = threading.Timer(240, os.kill, (child, 9))
        limit.start()
        _, status = os.waitpid(child, 0)
        limit.cancel()
        print(os.waitstatus_to_exitcode(status), flush=True)


def train(root: str, arguments: list[str], kill: dict[str, Any] | None) -> None:
    """Does not return: the process ends as one started from a shell would."""
    os.setsid()
    os.chdir(root)
    file = os.open("output.txt", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    if kill is not None:
        kill_before(**kill)
    sys.exit(main(["train", "-opt", "options.yml", *arguments]))


def kill_before(signal: int, iteration: int, before: str, whom: str = "self") -> None:
    """Send a signal when the model's method `before` is called, once, in or after an iteration.

    whom: "self", "group" (as a terminal, torchrun and Slurm do) or "worker" (a process that loads data).
    """
    import basicsr.train

    build = basicsr.train.build_model

    def build_model(opt: dict[str, Any]) -> Any:
        model = build(opt)
        method, sent = getattr(model, before), []

        def call(*arguments: Any, **keywords: Any) -> Any:
            now = arguments[0] if before == "optimize_parameters" else model.iteration
            if now >= iteration and not sent:
                sent.append(now)
                if whom == "group":
                    os.killpg(0, signal)
                else:
                    os.kill(os.getpid() if whom == "self" else multiprocessing.active_children()[0].pid or 0, signal)
            return method(*arguments, **keywords)

        setattr(model, before, call)
        return model

    basicsr.train.build_model = build_model


if __name__ == "__main__":
    serve()
