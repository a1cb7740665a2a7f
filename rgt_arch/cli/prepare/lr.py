"""`rgt prepare lr`: bicubic LR images, bit for bit as MATLAB makes them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rgt_arch.cli.prepare.arguments import add_jobs, add_overwrite, report
from rgt_arch.data.downsampling import LAYOUT, SCALES, make_lr_images


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt prepare lr`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "lr",
        help="make bicubic LR images of a folder of photographs",
        description="Make the LR images of a folder of photographs, sub-folders included, bit for bit as MATLAB's "
        "imresize does, which made those of this field's benchmarks. HR is cropped to a multiple of the scale first.",
    )
    parser.add_argument("hr", metavar="HR_DIR", type=Path, help="folder of photographs")
    parser.add_argument(
        "-o", "--output", metavar="OUT_DIR", type=Path, help="the data set's folder (default: the one HR_DIR is in)"
    )
    parser.add_argument(
        "--scale",
        type=int,
        nargs="+",
        action="extend",
        choices=SCALES,
        help="one or more; the photographs are read once for all of them (default: 4)",
    )
    parser.add_argument(
        "--layout", default=LAYOUT, help="where LR files go in OUT_DIR; sub-folders are kept (default: %(default)s)"
    )
    parser.add_argument(
        "--hr-out",
        metavar="DIR",
        type=Path,
        help="also write HR cropped to a multiple of every scale there, and make LR from that: BasicSR's training "
        "refuses HR that is not exactly scale x LR",
    )
    add_jobs(parser)
    add_overwrite(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Make the LR images and say what came of them."""
    done = make_lr_images(
        args.hr,
        args.output,
        args.scale or (4,),
        layout=args.layout,
        hr_out=args.hr_out,
        jobs=args.jobs,
        overwrite=args.overwrite,
    )
    exit_code = report(done.summary)
    if advice := done.advice():
        print(advice)
    return exit_code
