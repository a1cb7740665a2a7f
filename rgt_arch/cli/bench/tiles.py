"""`rgt bench tiles`: what tiles cost in dB and in time."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rgt_arch.errors import UsageError
from rgt_arch.evaluation.tile_benchmark import format_costs, run_tile_benchmark


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt bench tiles`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "tiles",
        help="how many dB tiles cost, for each size and overlap",
        description="Upscale the bicubic LR images of a folder of HR images, whole and in tiles, and print what tiles "
        "lose in PSNR-Y and take in time, for every size and overlap.",
    )
    parser.add_argument("images", metavar="HR_DIR", type=Path, help="HR images, such as datasets/benchmark/Set14/HR")
    parser.add_argument("-w", "--weights", default="RGT_T_x4", help="name or file (default: %(default)s)")
    parser.add_argument(
        "--tiles",
        type=_whole_number(0),
        nargs="+",
        default=[48, 64, 96, 128],
        help="sides in input pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--overlaps",
        type=_whole_number(0),
        nargs="+",
        default=[0, 8, 16, 32],
        help="shared input pixels (default: %(default)s)",
    )
    parser.add_argument("--limit", type=_whole_number(1), metavar="N", help="only the first N images")
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print the table."""
    if not args.images.is_dir():
        raise UsageError(f"{args.images}: no such folder; name one of HR images")
    costs = run_tile_benchmark(args.images, args.weights, tiles=args.tiles, overlaps=args.overlaps, limit=args.limit)
    print(format_costs(costs))


def _whole_number(least: int) -> Callable[[str], int]:
    """A type of arguments: whole numbers from `least` on."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    return read
