"""`rgt bench train`: time and memory of training steps, next to the official network."""

from __future__ import annotations

import argparse
from typing import Any

from rgt_arch.cli.bench.arguments import (
    PEER,
    add_dtypes,
    add_memory_limit,
    add_no_peer,
    add_rounds,
    add_subject,
    settings_from,
)
from rgt_arch.evaluation.speed.training import TrainSettings, run_train


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt bench train`."""
    defaults = TrainSettings()
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "train",
        help="seconds and gigabytes of a training step",
        description="Measure training steps (forward, L1, backward, Adam) on 64×64 LR patches: times in turns, peak "
        "memory in fresh processes, ours with and without use_chk. The peer is " + PEER,
    )
    add_subject(parser, defaults)
    add_no_peer(parser)
    parser.add_argument(
        "--batch", metavar="N", type=int, default=defaults.batch, help="patches in a step (default: %(default)s)"
    )
    add_dtypes(parser, defaults.dtypes)
    add_rounds(parser, defaults.rounds)
    add_memory_limit(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    run_train(settings_from(TrainSettings, args))
