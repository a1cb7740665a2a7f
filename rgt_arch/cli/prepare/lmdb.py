"""`rgt prepare lmdb`: a folder of images as an LMDB for `io_backend: lmdb`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rgt_arch.cli.prepare.arguments import add_jobs, add_overwrite, report
from rgt_arch.data.lmdb import create_lmdb_of_folder


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt prepare lmdb`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "lmdb",
        help="pack a folder of images into an LMDB",
        description="Pack the images of a folder and its sub-folders into an LMDB folder for BasicSR's io_backend "
        "lmdb. The keys are the names without suffix. HR and LR need the same keys, hence --ending.",
    )
    parser.add_argument("input", type=Path, metavar="DIR", help="folder of images")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.lmdb", help="folder to make (default: DIR.lmdb)")
    parser.add_argument(
        "--ending", default="", metavar="TEXT", help="end of the names that is no part of the keys, such as x2"
    )
    parser.add_argument(
        "--compression",
        type=int,
        metavar="0-9",
        help="encode all images anew with this PNG compression (default: PNG files are stored as they are)",
    )
    add_jobs(parser)
    add_overwrite(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Pack and say what came of it."""
    packed = create_lmdb_of_folder(
        args.input,
        args.output,
        ending=args.ending,
        compression=args.compression,
        jobs=args.jobs,
        overwrite=args.overwrite,
    )
    megabytes = (packed.path / "data.mdb").stat().st_size / 1e6
    state = "already there" if packed.summary.kept else "made"
    print(f"{packed.path}: {state}, {megabytes:.1f} MB")
    return report(packed.summary)
