"""`rgt demo`: a whole training and test run on photographs that are already installed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rgt_arch.evaluation.demo import ITERATIONS, run_demo


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt demo`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "demo",
        help="train and test a small RGT on a few photographs, in minutes",
        description="Train RGT-T ×2 on photographs that scikit-image ships, test it on others, and compare it with "
        "bicubic in a table and in pictures. Needs no GPU and no download; takes at most 4 minutes on 2 CPU cores.",
    )
    parser.add_argument("-o", "--output", metavar="DIR", default="rgt_demo", help="folder for all files (%(default)s)")
    parser.add_argument(
        "--iterations", metavar="N", type=int, default=ITERATIONS, help="training iterations (%(default)s)"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Run the demo in `args.output`."""
    run_demo(Path(args.output), args.iterations)
