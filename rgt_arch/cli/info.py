"""`rgt info`: what a checkpoint or training state is."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rgt_arch.weights.summarising import format_summary, summarise


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt info`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "info",
        help="say what a checkpoint is",
        description="Say what a checkpoint (.pth, .safetensors) or a training state (.state) is: architecture, preset, "
        "arguments, parameters, iteration, EMA, size. Nothing in the file is executed.",
    )
    parser.add_argument("file", help="checkpoint or training state")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    return parser


def run(args: argparse.Namespace) -> None:
    """Print the facts about `args.file`."""
    facts = summarise(args.file)
    print(json.dumps(facts, indent=2) if args.json else format_summary(facts))
