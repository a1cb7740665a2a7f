"""`rgt bench`: measurements against a peer, in one run on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from rgt_arch.cli.groups import add_group, run_in_group

COMMANDS = ("latency", "memory", "scaling", "train", "data", "tiles")

__all__ = ["COMMANDS", "add_parser", "run"]


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt bench` with its commands."""
    return add_group(
        subparsers,
        "bench",
        COMMANDS,
        summary="measure speed and memory against a peer",
        description="Measure on this machine, next to what is commonly used, in one run.",
    )


run = run_in_group
