"""`rgt prepare subimages`: overlapping crops of HR and LR, which training reads faster than whole photographs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rgt_arch.cli.prepare.arguments import add_jobs, add_overwrite, report
from rgt_arch.data.sub_images import Cutting, make_sub_images


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt prepare subimages`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "subimages",
        help="cut photographs into overlapping crops, HR and LR together",
        description="Cut HR images, and the same places out of their LR images, into overlapping crops of equal names: "
        "OUT/HR/name_s001.png and OUT/LR_bicubic/X2/name_s001.png. Training reads them faster than whole photographs. "
        "LR images are named like HR, all with the same addition, such as x2; the scale follows from their sizes.",
    )
    parser.add_argument("hr", metavar="HR_DIR", type=Path, help="folder of HR images")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="folder for the sub-images")
    parser.add_argument(
        "--lr", metavar="LR_DIR", type=Path, action="append", default=[], help="folder of LR images; repeatable"
    )
    default = Cutting()
    parser.add_argument(
        "--size", type=int, default=default.size, help="side of an HR crop in pixels (default: %(default)s)"
    )
    parser.add_argument(
        "--step", type=int, default=default.step, help="pixels from one HR crop to the next (default: %(default)s)"
    )
    parser.add_argument(
        "--threshold",
        type=int,
        default=default.threshold,
        help="rests of up to so many HR pixels at the bottom and right are left out (default: %(default)s)",
    )
    add_jobs(parser)
    add_overwrite(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Cut, and say what came of it."""
    done = make_sub_images(
        args.hr,
        args.output,
        args.lr,
        cutting=Cutting(args.size, args.step, args.threshold),
        jobs=args.jobs,
        overwrite=args.overwrite,
    )
    if done.small:
        what = f"{done.small} images are" if done.small > 1 else "1 image is"
        print(f"{what} smaller than {args.size} pixels in a direction and kept whole there")
    each = "each of " if len(done.folders) > 1 else ""
    print(f"sub-images in {each}{', '.join(map(str, done.folders))}: {done.crops}")
    return report(done.summary)
