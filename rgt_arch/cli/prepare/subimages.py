"""`rgt prepare subimages`."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt prepare subimages`."""
    parser: argparse.ArgumentParser = subparsers.add_parser("subimages", help="subimages")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run it."""
    raise NotImplementedError
