"""`rgt figure`: figures for papers and for a look into a network."""

from __future__ import annotations

import argparse
from typing import Any

from rgt_arch.cli.groups import add_group, run_in_group

COMMANDS = ("compare", "features", "curves")

__all__ = ["COMMANDS", "add_parser", "run"]


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt figure` with its commands."""
    return add_group(
        subparsers,
        "figure",
        COMMANDS,
        summary="draw comparisons, attention and training curves",
        description="Draw figures at a column's width, as PNG, PDF or SVG. Needs matplotlib: pip install "
        "'rgt-arch[figures]'.",
    )


run = run_in_group
