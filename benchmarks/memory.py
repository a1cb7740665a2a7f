"""Peak memory above the loaded network for one image, each in a fresh process."""

from __future__ import annotations

import argparse
from dataclasses import asdict

import torch
from apart import Outcome, Task, run_apart
from common import (
    DTYPES,
    GB,
    Subject,
    check_agreement,
    check_official_size,
    describe_machine,
    make_parser,
    number,
    positive,
    ratio,
    run_script,
)

from rgt_arch.evaluation.complexity import Size, parse_sizes
from rgt_arch.evaluation.reports import deliver, text_table
from rgt_arch.progress import Progress


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = make_parser(
        "Measure the peak memory above the loaded network for one image, each in a fresh process: the resident size on "
        "a CPU, torch's allocations on a GPU. Outputs are compared first. A run that needs too much is stopped.",
        ("official", "ours"),
        ("official", "ours"),
    )
    sizes = ["128x128", "256x256", "512x512"]
    result.add_argument("--sizes", metavar="HxW", nargs="+", default=sizes, help="(default: %(default)s)")
    result.add_argument("--dtypes", choices=tuple(DTYPES), nargs="+", default=["fp32"], help="(default: fp32)")
    result.add_argument("--memory-limit", metavar="GB", type=positive, help="for a run (default: the free memory)")
    return result


def measure(
    subject: Subject, sizes: list[Size], dtypes: list[str], *, limit: float | None, rounds: int = 1
) -> dict[tuple[Size, str, str], Outcome]:
    """Time and memory by size, engine and dtype."""
    outcomes = {}
    with Progress(len(sizes) * len(subject.engines) * len(dtypes), "measuring", "run") as progress:
        for size in sizes:
            for name in subject.engines:
                for dtype in dtypes:
                    outcomes[size, name, dtype] = run_apart(
                        Task(
                            "forward", name, subject.config, size, subject.device.type, subject.seed,
                            torch.get_num_threads(), dtype, rounds=rounds,
                            allowed=None if limit is None else int(limit * GB),
                        )
                    )  # fmt: skip
                    progress.advance()
    return outcomes


def main(args: argparse.Namespace) -> None:
    """Measure and print."""
    subject, sizes = Subject.from_args(args), parse_sizes(args.sizes)
    for size in sizes if "official" in subject.engines else ():
        check_official_size(size)
    difference = check_agreement(subject)
    outcomes = measure(subject, sizes, args.dtypes, limit=args.memory_limit)
    base = {size: outcomes.get((size, subject.engines[0], "fp32"), Outcome()).memory for size in sizes}
    rows = [
        {
            "engine": name,
            "dtype": dtype,
            **size._asdict(),
            **asdict(outcome),
            "ratio": ratio(outcome.memory, base[size]),
        }
        for (size, name, dtype), outcome in outcomes.items()
    ]
    machine = describe_machine(subject.device)
    report = {"command": "memory", "machine": machine, "network": subject.name, "config": subject.config,
              "difference": difference, "rows": rows}  # fmt: skip
    body = [
        [f"{size} {name} {DTYPES[dtype]}", str(outcome), number(ratio(outcome.memory, base[size]), 3)]
        for (size, name, dtype), outcome in outcomes.items()
    ]
    heading = f"{machine}\n{subject.name}, peak memory above the loaded network, each in a fresh process"
    deliver(report, f"{heading}\n\n{text_table(['', 'GB', f'of {subject.engines[0]} float32'], body)}", args.json)


if __name__ == "__main__":
    raise SystemExit(run_script(parser(), main))
