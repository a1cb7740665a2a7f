"""`rgt bench latency`: time for one image, next to the official forward."""

from __future__ import annotations

import argparse
from typing import Any

from rgt_arch.cli.bench.arguments import (
    PEER,
    add_dtypes,
    add_no_peer,
    add_rounds,
    add_sizes,
    add_subject,
    settings_from,
)
from rgt_arch.evaluation.speed.latency import LatencySettings, run_latency


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt bench latency`."""
    defaults = LatencySettings()
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "latency",
        help="seconds for one image, and the share of the machine's best rate",
        description="Time the network on one image, in turns with the peer: " + PEER + " Also measures the machine's "
        "best rates of convolutions and matrix products in GFLOP/s, and prints what share of them each network "
        "reaches. Takes some minutes on a CPU.",
    )
    add_subject(parser, defaults)
    add_no_peer(parser)
    add_sizes(parser, defaults.sizes)
    add_dtypes(parser, defaults.dtypes)
    add_rounds(parser, defaults.rounds)
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    run_latency(settings_from(LatencySettings, args))
