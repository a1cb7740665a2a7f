"""Arguments that the commands of `rgt prepare` share, and how they end."""

from __future__ import annotations

import argparse

from rgt_arch.data.parallel import Summary, default_jobs


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """`--jobs N`."""
    parser.add_argument(
        "-j",
        "--jobs",
        metavar="N",
        type=_positive,
        default=default_jobs(),
        help="worker processes (default: %(default)s)",
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """`--overwrite`."""
    parser.add_argument(
        "--overwrite", action="store_true", help="make everything anew, also over files that this command did not make"
    )


def report(summary: Summary, unit: str = "image") -> int:
    """Print the counts; returns the exit code, 1 if a file failed."""
    print(summary.line(unit))
    return summary.exit_code
