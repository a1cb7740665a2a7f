"""`rgt prepare meta`: meta-info files and pair lists."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rgt_arch.cli.prepare.arguments import add_jobs, add_overwrite, report
from rgt_arch.data.meta_info import write_meta_info, write_pair_list
from rgt_arch.errors import UsageError


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt prepare meta`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "meta",
        help="list images for meta_info_file, or pairs of images",
        description="List the images of a folder and its sub-folders: `name (h,w,c)` for BasicSR's meta_info_file; "
        "with --lr `gt, lq` pairs, and with --names-only plain names, for Real-ESRGAN's meta_info.",
    )
    parser.add_argument("input", type=Path, metavar="DIR", help="folder of images")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", required=True, help="text file to write")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--lr",
        type=Path,
        metavar="DIR",
        help="list pairs; LR images are named like HR, all with the same addition, such as x2",
    )
    kind.add_argument("--names-only", action="store_true", help="list names without sizes")
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="what names are relative to: the option file's dataroot_gt (default: the input folder; "
        "for pairs and plain names its parent)",
    )
    parser.add_argument(
        "--lr-root", type=Path, metavar="DIR", help="the same for LR images: dataroot_lq (default: parent of --lr)"
    )
    add_jobs(parser)
    add_overwrite(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the list and say what came of it."""
    common = {"root": args.root, "jobs": args.jobs, "overwrite": args.overwrite}
    if args.lr is None:
        if args.lr_root is not None:
            raise UsageError(f"--lr-root {args.lr_root} goes with --lr only; name the folder of LR images with --lr")
        summary = write_meta_info(args.input, args.output, names_only=args.names_only, **common)
    else:
        summary = write_pair_list(args.input, args.lr, args.output, lr_root=args.lr_root, **common)
    print(f"{args.output}: {'already there' if summary.kept else 'made'}")
    return report(summary)
