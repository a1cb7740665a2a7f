"""`rgt bench scaling`: how time and memory grow with the pixels."""

from __future__ import annotations

import argparse
from typing import Any

from rgt_arch.cli.bench.arguments import PEER, add_memory_limit, add_rounds, add_sizes, add_subject, settings_from
from rgt_arch.evaluation.speed.scaling import ScalingSettings, run_scaling
from rgt_arch.evaluation.speed.settings import DTYPES


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt bench scaling`."""
    defaults = ScalingSettings()
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "scaling",
        help="how time and memory grow with the pixels",
        description="Measure time and peak memory at many sizes, each in a fresh process, and fit the exponents with "
        "which they grow with the pixels. Takes a quarter of an hour and more on a CPU.",
    )
    add_subject(parser, defaults)
    parser.add_argument("--peer", action="store_true", help="measure the peer too: " + PEER)
    add_sizes(parser, defaults.sizes)
    parser.add_argument(
        "--dtype",
        choices=tuple(DTYPES),
        default=defaults.dtype,
        help="bf16: float32 in and out, bfloat16 inside by autocast (default: %(default)s)",
    )
    add_rounds(parser, defaults.rounds)
    add_memory_limit(parser)
    parser.add_argument("--plot", metavar="FILE.png", help="draw both over the pixels, with logarithmic axes")
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure, print and draw."""
    run_scaling(settings_from(ScalingSettings, args))
