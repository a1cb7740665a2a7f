"""`rgt prepare`: from a folder of photographs to data that BasicSR trains on."""

from __future__ import annotations

import argparse
from typing import Any

from rgt_arch.cli.groups import add_group, run_in_group

COMMANDS = ("lr", "subimages", "meta", "lmdb", "check")

__all__ = ["COMMANDS", "add_parser", "run"]


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt prepare` with its commands."""
    return add_group(
        subparsers,
        "prepare",
        COMMANDS,
        summary="make LR images, sub-images, meta-info and LMDBs, and check them",
        description="From a folder of photographs to data that BasicSR trains on. Each command can be stopped and run "
        "again: what is complete is kept. Files that cannot be used are named, and do not stop the others.",
    )


run = run_in_group
