"""Arguments that the figures share."""

from __future__ import annotations

import argparse
from pathlib import Path

from rgt_arch.evaluation.figures.plotting import COLUMN


def add_output(parser: argparse.ArgumentParser, default: str) -> None:
    """`--output`, `--overwrite` and `--width`."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        default=Path(default),
        help=".png, .pdf or .svg (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    parser.add_argument(
        "--width", metavar="CM", type=float, default=COLUMN, help="of the figure (default: %(default)s, a column)"
    )


def whole_numbers(count: int, example: str) -> type:
    """A type of arguments: so many whole numbers with commas between them, as a tuple."""

    def read(text: str) -> tuple[int, ...]:
        parts = text.split(",")
        if len(parts) != count or not all(part.strip().isdecimal() for part in parts):
            raise argparse.ArgumentTypeError(f"{text!r} is not {example}, in pixels from 0 on")
        return tuple(int(part) for part in parts)

    return read  # type: ignore[return-value]
