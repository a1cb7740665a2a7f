"""`rgt weights`: the weights that have names, and their files."""

from __future__ import annotations

import argparse
from typing import Any

from rgt_arch.weights.zoo import describe_zoo, fetch, named


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt weights`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "weights",
        help="list the weights that have names, or get their files",
        description="Without a name, list the weights that every command takes by name and where their files are. "
        "With names, download what is not here yet and print the paths.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="weights to get, such as RGT_x4")
    return parser


def run(args: argparse.Namespace) -> None:
    """Print the table, or the path of each named file."""
    entries = [named(name) for name in args.names]
    if not entries:
        print(describe_zoo())
    for entry in entries:
        print(fetch(entry))
