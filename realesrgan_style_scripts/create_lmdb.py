"""Pack a folder of images into an LMDB folder for `io_backend: lmdb`.

HR and LR folders need the same keys, so what LR names carry in addition is taken off:

    python realesrgan_style_scripts/create_lmdb.py DF2K/HR DF2K/HR.lmdb
    python realesrgan_style_scripts/create_lmdb.py DF2K/LR_bicubic/X2 DF2K/LR_bicubic/X2.lmdb --ending x2
"""

import argparse
import sys
from pathlib import Path

from rgt_arch.cli import run_guarded
from rgt_arch.data.lmdb import create_lmdb
from rgt_arch.errors import UsageError


def run(args: argparse.Namespace) -> None:
    """Pack `args.input` into `args.output`."""
    if not args.input.is_dir():
        raise UsageError(f"{args.input} is no folder")
    images = sorted(path for path in args.input.iterdir() if path.is_file() and not path.name.startswith("."))
    if other := [path for path in images if not path.stem.endswith(args.ending)]:
        raise UsageError(f"{other[0]}: its name does not end with {args.ending!r}, as --ending asks")
    create_lmdb(images, args.output, keys=[path.stem.removesuffix(args.ending) for path in images])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=Path, help="folder of images")
    parser.add_argument("output", type=Path, help="folder to make; its name ends with .lmdb")
    parser.add_argument("--ending", default="", help="end of the names that is no part of the keys, such as x2")
    sys.exit(run_guarded(lambda: run(parser.parse_args()), Path(__file__).name))
