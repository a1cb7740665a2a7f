"""`rgt prepare check`: whether data is whole and fits together, before a training run finds out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rgt_arch.cli.prepare.arguments import add_jobs


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt prepare check`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "check",
        help="check images, pairs, LMDBs, or all data of an option file",
        description="Decode every image and say what is there and what is wrong: damaged files, equal images, HR and "
        "LR that do not fit, lists that do not agree with the files, and whether BasicSR can train on it. Nothing is "
        "changed. Exit code 0: all is well; 1: something is wrong; 2: the target cannot be checked.",
    )
    parser.add_argument(
        "target", metavar="TARGET", type=Path, help="folder, LMDB folder (.lmdb), meta-info text or option file (.yml)"
    )
    parser.add_argument("--lr", metavar="TARGET", type=Path, help="LR images (folder or LMDB) of the HR images TARGET")
    parser.add_argument("--scale", metavar="N", type=int, help="what HR size / LR size should be (default: what it is)")
    parser.add_argument(
        "--root",
        metavar="FOLDER",
        type=Path,
        help="what the names in a meta-info text are relative to (default: its folder, or one beside it)",
    )
    parser.add_argument(
        "--bicubic", action="store_true", help="also count LR images that are MATLAB's bicubic of HR, bit for bit"
    )
    parser.add_argument("--all", action="store_true", help="list everything, not the first lines of each problem")
    add_jobs(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Check and print the report; returns 1 if there is a problem."""
    from rgt_arch.data.inspect import LINES_SHOWN, check_target, summary

    sections = check_target(
        args.target, args.lr, scale=args.scale, root=args.root, bicubic=args.bicubic, jobs=args.jobs
    )
    texts = [section.text(None if args.all else LINES_SHOWN) for section in sections]
    report = "\n\n".join([*texts, summary(sections)])
    encoding = sys.stdout.encoding or "utf-8"
    print(report.encode(encoding, "backslashreplace").decode(encoding))  # whatever the terminal can show
    return int(any(section.problems for section in sections))
