"""`rgt table`: the paper's table, measured."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rgt_arch.evaluation.tables.formats import FORMATS
from rgt_arch.evaluation.tables.results import BENCHMARKS, SCALES
from rgt_arch.evaluation.tables.running import TableSettings, make_table
from rgt_arch.files import write_text

_EPILOG = """METHOD is one of
  RGT_S, RGT, RGT_T    the published networks and the small one; weights are downloaded at first use
  RGT+, RGT_S+, …      the same with x8 self-ensemble
  RGT_x4               one of them at one scale
  bicubic              MATLAB's imresize
  net_g_500000.pth     any RGT checkpoint; with + at its end: with self-ensemble
  results/mine         a folder of images that are super-resolved already, in Set5/x2, x2/Set5 or visualization/Set5
NAME=METHOD gives it another name; one that the paper's table has (RCAN=…) is compared with the numbers there.

examples:
  rgt table RGT_S RGT RGT+
  rgt table bicubic RGT_T --sets Set5 Set14 --format latex -o table.tex
  rgt table mine=experiments/mine/models/net_g_latest.pth --format csv-images
  torchrun --nproc_per_node 4 --no-python rgt table RGT+

Run it again after an interruption: it goes on with the image where it was.
Exit codes: 0 all measured, 1 something is missing (the table says what, and how to get it) or failed, 2 wrong flags or
files, 130 interrupted.
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt table`."""
    defaults = TableSettings(())
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "table",
        help="measure benchmark sets and compare with the paper's table",
        description="Measure PSNR and SSIM on the five benchmark sets through BasicSR, and print them beside the "
        "published numbers in the layout of the paper's Table 2.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("methods", metavar="METHOD", nargs="+", help="what to measure, see below")
    parser.add_argument("--scales", type=int, nargs="+", choices=SCALES, help="(default: those that each method has)")
    parser.add_argument(
        "--sets",
        nargs="+",
        metavar="SET",
        default=defaults.benchmarks,
        help=f"of {', '.join(BENCHMARKS)}, or folders of your own beside them (default: these five)",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        default=defaults.data,
        help="where the sets are, as Set5/HR/baby.png and Set5/LR_bicubic/X2/babyx2.png (default: %(default)s)",
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="markdown", help="(default: %(default)s)")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write to a file (default: to stdout)")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    parser.add_argument(
        "--tile",
        metavar="N",
        type=int,
        default=defaults.tile,
        help="networks run in tiles of N LR pixels, for little memory (default: whole images, as in the paper)",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default=defaults.device, help="(default: the GPU, if there is one)"
    )
    parser.add_argument(
        "--keep",
        metavar="DIR",
        type=Path,
        default=defaults.keep,
        help="where the scores of single images are kept (default: %(default)s)",
    )
    parser.add_argument("--fresh", action="store_true", help="measure again what is kept there")
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure and print; 1 if something is missing."""
    table = make_table(
        TableSettings(
            args.methods,
            args.scales,
            args.sets,
            args.data,
            args.tile,
            args.device,
            args.keep,
            fresh=args.fresh,
            output=args.output,
            overwrite=args.overwrite,
        )
    )
    if table is None:  # a rank that only helped
        return 0
    write_text(FORMATS[args.format](table), args.output)
    if table.missing:
        print(f"rgt table: {len(table.missing)} of {len(table.results)} results are missing", file=sys.stderr)
    return int(bool(table.missing))
