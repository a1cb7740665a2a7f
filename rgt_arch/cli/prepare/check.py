"""`rgt prepare check`."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt prepare check`."""
    parser: argparse.ArgumentParser = subparsers.add_parser("check", help="check")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run it."""
    raise NotImplementedError
