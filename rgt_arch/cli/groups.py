"""Commands of commands, such as `rgt prepare lr`: one module for each of them, in a package named like the group."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from typing import Any


def add_group(
    subparsers: Any, name: str, commands: Sequence[str], *, summary: str, description: str
) -> argparse.ArgumentParser:
    """The parser of `rgt NAME` with its commands, modules of `rgt_arch.cli.NAME` with `add_parser` and `run`.

    commands: in the order in which `rgt NAME --help` lists them.
    """
    group: argparse.ArgumentParser = subparsers.add_parser(name, help=summary, description=description)
    members = group.add_subparsers(dest=f"{name}_command", required=True, metavar="COMMAND")
    for command in commands:
        module = importlib.import_module(f"rgt_arch.cli.{name}.{command}")
        parser = module.add_parser(members)
        parser.add_argument(
            "--verbose",
            action="store_true",
            default=argparse.SUPPRESS,  # or the group's own --verbose would be forgotten
            help="show a traceback when something fails",
        )
        parser.set_defaults(run_in_group=module.run, prog=parser.prog)
    return group


def run_in_group(args: argparse.Namespace) -> int | None:
    """Run the chosen command of a group."""
    result: int | None = args.run_in_group(args)
    return result
