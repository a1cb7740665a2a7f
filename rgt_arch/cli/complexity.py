"""`rgt complexity`: what a network costs."""

from __future__ import annotations

import argparse
from typing import Any

from rgt_arch.evaluation.complexity import PAPER_SIZE, run_complexity

_EPILOG = """examples:
  rgt complexity options/train_RGT_x4.yml                        the paper's 13.37 M and 251.07 G, part by part
  rgt complexity options/train_RGT_S_x4.yml --sizes 64x64 --json
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt complexity`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "complexity",
        help="count parameters and multiply-adds, part by part",
        description="Count the parameters and multiply-adds of the network in an option file, part by part, beside the "
        "paper's figures. Counting takes a second: nothing is computed. Time, memory and their growth with the "
        "resolution: benchmarks/scaling.py.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="OPTION_FILE", help="an option file with an RGT")
    parser.add_argument(
        "--sizes",
        metavar="HxW",
        nargs="+",
        default=["{}x{}".format(*PAPER_SIZE)],
        help="height and width in input pixels (default: 128x128)",
    )
    parser.add_argument(
        "--json", metavar="FILE", nargs="?", const="-", help="JSON in place of the tables, or to FILE beside them"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    return parser


def run(args: argparse.Namespace) -> None:
    """Count and print."""
    run_complexity(args.file, args.sizes, args.json, overwrite=args.overwrite)
