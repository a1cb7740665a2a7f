"""`rgt bench data`."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt bench data`."""
    parser: argparse.ArgumentParser = subparsers.add_parser("data", help="data")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run it."""
    raise NotImplementedError
