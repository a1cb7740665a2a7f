"""`rgt bench memory`: peak memory above the loaded network, next to the official forward."""

from __future__ import annotations

import argparse
from typing import Any

from rgt_arch.cli.bench.arguments import (
    PEER,
    add_dtypes,
    add_memory_limit,
    add_no_peer,
    add_sizes,
    add_subject,
    settings_from,
)
from rgt_arch.evaluation.speed.memory import MemorySettings, run_memory


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt bench memory`."""
    defaults = MemorySettings()
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "memory",
        help="gigabytes for one image",
        description="Measure the peak memory above the loaded network for one image, each in a fresh process: the "
        "resident size on a CPU, what torch allocates on a GPU. The peer is " + PEER + " What runs out of memory is "
        "stopped before the machine does, and shown as such.",
    )
    add_subject(parser, defaults)
    add_no_peer(parser)
    add_sizes(parser, defaults.sizes)
    add_dtypes(parser, defaults.dtypes)
    add_memory_limit(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    run_memory(settings_from(MemorySettings, args))
