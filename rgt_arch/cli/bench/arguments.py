"""Arguments that the speed measurements of `rgt bench` share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

from rgt_arch.evaluation.speed.settings import DEVICES, DTYPES, NETWORKS, SpeedSettings

S = TypeVar("S", bound=SpeedSettings)

PEER = (
    "the official forward, unchanged, as spandrel ships it (pip install 'rgt-arch[bench]'). Outputs are compared "
    "first: where they differ, nothing is measured. Other programs should not be running."
)


def add_subject(parser: argparse.ArgumentParser, defaults: SpeedSettings) -> None:
    """What is measured, on what, and where the figures go."""
    parser.add_argument(
        "--network", choices=tuple(NETWORKS), default=defaults.network, help="preset (default: %(default)s)"
    )
    parser.add_argument(
        "--scale", metavar="N", type=int, default=defaults.scale, help="output pixels a side for an input pixel "
        "(default: %(default)s)"
    )  # fmt: skip
    parser.add_argument(
        "--groups", metavar="N", type=int, help="only the first N residual groups of the network (default: all)"
    )
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default=defaults.device,
        help="where to compute (default: the GPU, if there is one)",
    )
    parser.add_argument("--threads", metavar="N", type=int, help="CPU threads of torch (default: torch's own choice)")
    parser.add_argument(
        "--seed", metavar="N", type=int, default=defaults.seed, help="of weights and images (default: %(default)s)"
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the figures to FILE too; - prints them in place of the table"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def add_no_peer(parser: argparse.ArgumentParser) -> None:
    """`--no-peer`."""
    parser.add_argument(
        "--no-peer",
        dest="peer",
        action="store_false",
        help="measure ours alone, as at sizes that the official forward cannot do",
    )


def add_sizes(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    """`--sizes HxW …`."""
    parser.add_argument(
        "--sizes",
        metavar="HxW",
        nargs="+",
        default=tuple(default),
        help=f"height and width in input pixels (default: {' '.join(default)})",
    )


def add_dtypes(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    """`--dtypes fp32 bf16`."""
    parser.add_argument(
        "--dtypes",
        choices=tuple(DTYPES),
        nargs="+",
        default=tuple(default),
        help=f"bf16: float32 in and out, bfloat16 inside by autocast (default: {' '.join(default)})",
    )


def add_rounds(parser: argparse.ArgumentParser, default: int) -> None:
    """`--rounds N`."""
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=int,
        default=default,
        help="timed runs of each, medians count (default: %(default)s)",
    )


def add_memory_limit(parser: argparse.ArgumentParser) -> None:
    """`--memory-limit GB`."""
    parser.add_argument(
        "--memory-limit",
        metavar="GB",
        type=float,
        help="gigabytes above the loaded network that a run may take (default: what is free, but for 1 GB)",
    )


def settings_from(kind: type[S], args: argparse.Namespace) -> S:
    """Settings from parsed arguments of the same names; lists become tuples."""
    values: dict[str, Any] = {field.name: getattr(args, field.name) for field in fields(kind)}
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    return kind(**values)
