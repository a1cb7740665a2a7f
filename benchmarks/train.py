"""Seconds and gigabytes of a training step by engine, dtype and checkpointing."""

from __future__ import annotations

import argparse
import statistics
from dataclasses import asdict

import torch
import torch.nn.functional as F
from apart import Outcome, Task, run_apart, training_step
from common import (
    DTYPES,
    GB,
    Subject,
    build,
    compare,
    describe_machine,
    in_turns,
    make_parser,
    number,
    positive,
    random_images,
    ratio,
    require,
    run_script,
    whole,
)
from torch import Tensor

from rgt_arch.errors import UserError
from rgt_arch.evaluation.complexity import Size
from rgt_arch.evaluation.reports import deliver, text_table
from rgt_arch.progress import Progress

MOST_GRADIENT_DIFFERENCE = 1e-3
"""Between gradients in float32, relative to the largest of all."""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = make_parser(
        "Measure training steps (forward, L1, backward, Adam): times in turns in one process, peak memory above the "
        "loaded network in fresh processes, ours with and without use_chk. Outputs and gradients are compared first.",
        ("official", "ours", "compile"),
        ("official", "ours"),
    )
    result.add_argument("--batch", metavar="N", type=whole(1), default=1, help="patches in a step (%(default)s)")
    result.add_argument("--patch", metavar="N", type=whole(16), default=64, help="LR pixels a side (%(default)s)")
    result.add_argument("--dtypes", choices=tuple(DTYPES), nargs="+", default=list(DTYPES), help="(default: both)")
    result.add_argument("--rounds", metavar="N", type=whole(1), default=3, help="timed runs of each (%(default)s)")
    result.add_argument("--memory-limit", metavar="GB", type=positive, help="for a run (default: the free memory)")
    return result


def main(args: argparse.Namespace) -> None:
    """Measure and print."""
    subject, patch = Subject.from_args(args), Size(args.patch, args.patch)
    check_gradients(subject, patch)
    base, device = subject.engines[0], subject.device
    tasks = {
        f"{name} {DTYPES[dtype]}" + (", use_chk" if use_chk else ""): Task(
            "train", name, {**subject.config, "use_chk": use_chk}, patch, device.type, subject.seed,
            torch.get_num_threads(), dtype, args.batch,
            rounds=2,  # from the second step on Adam's moments are there in the forward
            allowed=None if args.memory_limit is None else int(args.memory_limit * GB),
        )
        for name in subject.engines
        for use_chk in ((False, True) if name == "ours" else (False,))
        for dtype in DTYPES
        if dtype in args.dtypes or (dtype == "fp32" and name == base and not use_chk)
    }  # fmt: skip
    with Progress(len(tasks) * (args.rounds + 2), "training", "run") as progress:
        outcomes: dict[str, Outcome] = {}
        for name, task in tasks.items():
            outcomes[name] = run_apart(task)
            progress.advance()
        steps = {
            name: training_step(task, build(task.engine, task.config, task.seed, device), device)
            for name, task in tasks.items()
            if outcomes[name].memory is not None
        }
        for step in steps.values():
            step()
            progress.advance()
        times = in_turns(steps, args.rounds, device, progress.advance)
    medians = {name: statistics.median(values) for name, values in times.items()}
    first = next(iter(tasks))
    rows = [
        {
            "engine": task.engine,
            "dtype": task.dtype,
            "use_chk": task.config["use_chk"],
            **asdict(outcomes[name]),
            "seconds": medians.get(name),
            "speedup": ratio(medians.get(first), medians.get(name)),
            "memory_ratio": ratio(outcomes[name].memory, outcomes[first].memory),
        }
        for name, task in tasks.items()
    ]
    machine = describe_machine(device)
    report = {"command": "train", "machine": machine, "network": subject.name, "config": subject.config, "rows": rows}
    body = [
        [name, number(row["seconds"], 3), number(row["speedup"]), str(outcomes[name]), number(row["memory_ratio"])]
        for name, row in zip(tasks, rows, strict=True)
    ]
    heading = (
        f"{machine}\n{subject.name}, training steps on {args.batch}×{patch}, medians of {args.rounds} in turns, "
        f"peak memory above the network; ratios to {first}"
    )
    table = text_table(["", "seconds", "times faster", "GB", "memory ratio"], body)
    deliver(report, f"{heading}\n\n{table}", args.json)


def check_gradients(subject: Subject, patch: Size) -> None:
    """Compare outputs and gradients of all engines with the first in float32, in train mode. Raises UserError."""
    first = subject.engines[0]
    found = {name: _gradients(subject, name, patch) for name in subject.engines}
    for name, (output, gradient) in found.items():
        require(compare(output, found[first][0]), "fp32", f"{name} against {first} in train mode")
        reference = found[first][1]
        difference = ((gradient - reference).abs().max() / reference.abs().max()).item()
        if not difference <= MOST_GRADIENT_DIFFERENCE:
            raise UserError(
                f"{name} against {first}: gradients differ by {difference:.1e} of the largest; not measured"
            )


def _gradients(subject: Subject, name: str, patch: Size) -> tuple[Tensor, Tensor]:
    """The output in train mode, and all gradients of its L1 distance to random images in one vector."""
    network = build(name, subject.config, subject.seed, subject.device).train()
    torch.manual_seed(subject.seed)  # all engines drop the same paths
    output: Tensor = network(random_images(patch, subject.config, subject.seed, subject.device))
    hr = random_images(Size(*output.shape[-2:]), subject.config, subject.seed + 1, subject.device)
    F.l1_loss(output, hr).backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]
    return output.detach(), torch.cat([gradient.reshape(-1) for gradient in gradients])


if __name__ == "__main__":
    raise SystemExit(run_script(parser(), main))
