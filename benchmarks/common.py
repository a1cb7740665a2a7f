"""Shared by all benchmarks: flags, running and ending a script, timing, tables, and the machine's facts."""

from __future__ import annotations

# ruff: noqa: E402
from rgt_arch.machine import WAITING_VARIABLES, set_up_threads

set_up_threads()  # as the commands of the package do, and like them before torch is loaded

# isort: split

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from rgt_arch.cli import run_guarded
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.reports import deliver, text_table
from rgt_arch.files import check_output

Row = dict[str, Any]
"""A row of a table, and an object in JSON. Lists are in the JSON only."""
Result = tuple[str, dict[str, list[Row]]]
"""A heading, and tables by their names in JSON."""


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the flags of all benchmarks."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: the GPU, if any)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE too; - prints JSON, not the table")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.add_argument("--verbose", action="store_true", help="show a traceback when something fails")
    return parser


def positive(text: str) -> int:
    """Convert an argument to a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def run_script(
    parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], Result], argv: Sequence[str] | None
) -> int:
    """Parse the arguments, do the work and print its tables. An error is one line on stderr. Returns the exit code."""
    args = parser.parse_args(argv)

    def run() -> None:
        for name in ("json", "plot"):
            if (file := getattr(args, name, None)) not in (None, "-"):
                check_output(f"--{name}", Path(file), overwrite=args.overwrite)
        float32_is_float32()
        try:
            heading, tables = work(args)
        except (RuntimeError, ValueError) as error:  # no memory, or an image too small for the official forward
            raise UserError(f"{error}; choose other --sizes, or --engines ours") from error
        machine = describe_machine(device_of(args.device))
        text = "\n\n".join([f"{machine}\n{heading}", *map(table, tables.values())])
        deliver({"machine": machine, "heading": heading, "arguments": vars(args), **tables}, text, args.json)

    return run_guarded(run, parser.prog, args.verbose)


def float32_is_float32() -> None:
    """Turn TF32 off, which would round float32 products."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def device_of(name: str) -> torch.device:
    """Return the device for `--device`. Raises UsageError for a missing GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: PyTorch finds no CUDA GPU here; leave it out to measure on the CPU")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that `work` takes."""
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def table(rows: Sequence[Row]) -> str:
    """Return rows as text, without columns that have no values."""
    keys = dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, (list, type(None))))
    body = [
        ["–" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value) for value in row]
        for row in ([row.get(key) for key in keys] for row in rows)
    ]
    return text_table([key.replace("_", " ") for key in keys], body)


def describe_machine(device: torch.device) -> str:
    """Return GPU, CPU, threads, versions, load and preloaded libraries in one line, which every result begins with."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    facts = [
        torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()),
        f"{torch.get_num_threads()} torch threads on {os.cpu_count()} cores",
        *(f"{name}={os.environ[name]}" for name in WAITING_VARIABLES if name in os.environ),
        f"torch {torch.__version__}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}",
        os.environ.get("LD_PRELOAD", ""),
    ]
    return ", ".join(filter(None, facts))
