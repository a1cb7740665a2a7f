"""`rgt complexity`: what a network costs."""

from __future__ import annotations

import argparse
from typing import Any

from rgt_arch.errors import UsageError
from rgt_arch.evaluation.complexity.growth import GrowthSettings, run_growth
from rgt_arch.evaluation.complexity.report import ComplexitySettings, run_complexity
from rgt_arch.evaluation.speed.settings import DEVICES

_EPILOG = """examples:
  rgt complexity options/train_RGT_x4.yml                        the paper's 13.37 M and 251.07 G, part by part
  rgt complexity options/train_RGT_S_x4.yml --sizes 64x64 --json
  rgt complexity options/test_RGT_T_x2.yml --measure             time and memory too, in a fresh process
  rgt complexity --growth --measure --plot growth.png            L-SA, RG-SA and global attention over the resolution
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt complexity`."""
    defaults, growth = ComplexitySettings(""), GrowthSettings()
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "complexity",
        help="count parameters and multiply-adds, part by part",
        description="Count the parameters and multiply-adds of the network in an option file, part by part, beside the "
        "paper's figures. Counting takes a second: nothing is computed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="OPTION_FILE", nargs="?", help="with --growth: RGT if left out")
    parser.add_argument(
        "--sizes",
        metavar="HxW",
        nargs="+",
        help=f"height and width in input pixels (default: {' '.join(defaults.sizes)}; with --growth: "
        f"{growth.sizes[0]} to {growth.sizes[-1]})",
    )
    parser.add_argument(
        "--measure", action="store_true", help="measure time too; for whole networks memory as well, in fresh processes"
    )
    parser.add_argument(
        "--growth", action="store_true", help="one layer of L-SA, of RG-SA and of global attention over the resolution"
    )
    parser.add_argument(
        "--limit",
        metavar="SECONDS",
        type=float,
        help=f"--growth --measure: leave out layers that would take longer (default: {growth.limit:g})",
    )
    parser.add_argument("--plot", metavar="FILE.png", help="--growth: draw it, with logarithmic axes")
    parser.add_argument(
        "--device", choices=DEVICES, default=defaults.device, help="for --measure (default: the GPU, if there is one)"
    )
    parser.add_argument("--threads", metavar="N", type=int, help="CPU threads of torch (default: torch's own choice)")
    parser.add_argument(
        "--json", metavar="FILE", nargs="?", const="-", help="JSON in place of the tables, or to FILE beside them"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    return parser


def run(args: argparse.Namespace) -> None:
    """Count, measure and print."""
    shared: dict[str, Any] = {
        name: getattr(args, name) for name in ("measure", "device", "threads", "json", "overwrite")
    }
    if args.sizes is not None:
        shared["sizes"] = tuple(args.sizes)
    only_growth = {name: getattr(args, name) for name in ("limit", "plot") if getattr(args, name) is not None}
    if args.growth:
        run_growth(GrowthSettings(file=args.file, **only_growth, **shared))
        return
    for name in only_growth:
        raise UsageError(f"--{name} is of use with --growth only; add that or leave it out")
    if args.file is None:
        raise UsageError("which network? give an option file, such as options/train_RGT_x4.yml, or --growth")
    run_complexity(ComplexitySettings(args.file, **shared))
