"""`rgt convert`: one checkpoint into another file, layout, precision or size."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from rgt_arch.config.loading import parse_yaml
from rgt_arch.errors import UsageError
from rgt_arch.weights.converting import convert_checkpoint, describe_conversion


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt convert`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "convert",
        help="make a release file, safetensors or the official layout of a checkpoint",
        description="Write one set of weights as a release file. The output's suffix decides: .safetensors is small "
        "and for this package; .pth has the official layout, which the official code and spandrel load.",
    )
    parser.add_argument("input", help="checkpoint (.pth, .pt, .ckpt, .safetensors)")
    parser.add_argument("output", help="file to write (.safetensors, .pth, .pt, .ckpt)")
    parser.add_argument(
        "--key", choices=("params", "params_ema"), help="which weights (default: EMA if there are some)"
    )
    parser.add_argument("--half", action="store_true", help="float16 weights: half the size, slightly other results")
    parser.add_argument(
        "--slim",
        action=argparse.BooleanOptionalAction,
        help="leave out the derived tensors, which other programs need (default: in .safetensors only)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="ARGUMENT=VALUE",
        help="a constructor argument that the input cannot tell, such as img_range=255 or hai=identity; repeatable",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    return parser


def run(args: argparse.Namespace) -> None:
    """Convert and say what was written."""
    done = convert_checkpoint(
        args.input,
        args.output,
        param_key=args.key,
        half=args.half,
        slim=args.slim,
        overwrite=args.overwrite,
        known=_parse_arguments(args.set),
    )
    print(describe_conversion(done))


def _parse_arguments(assignments: Sequence[str]) -> dict[str, Any]:
    """`["img_range=255", "hai=identity"]` as constructor arguments; values are read as in option files."""
    arguments = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--set {assignment}: write ARGUMENT=VALUE, for example img_range=255")
        arguments[name] = parse_yaml(text, f"--set {assignment}")[0]
    return arguments
