"""`rgt info`, `rgt convert`, `rgt weights` and `rgt export`: describe, convert, download and export weights."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from typing import Any

from rgt_arch.cli.commands import command, flag
from rgt_arch.errors import UsageError

_YES_NO = argparse.BooleanOptionalAction


@command(
    "info",
    "describe a checkpoint",
    "Describe a checkpoint (.pth, .safetensors) or a training state (.state): architecture, preset, arguments, "
    "parameters, iteration, EMA, size. Nothing in the file is executed.",
    """examples:
  rgt info net_g_latest.pth
  rgt info experiments/mine/training_states/5000.state --json
""",
    flag("file", "checkpoint or training state"),
    flag("--json", "print the facts as JSON", action="store_true", dest="as_json"),
)
def info(file: str, as_json: bool = False) -> None:
    """Print the facts about a file."""
    from rgt_arch.weights.summarising import format_summary, summarise

    facts = summarise(file)
    print(json.dumps(facts, indent=2) if as_json else format_summary(facts))


@command(
    "convert",
    "make a release file, safetensors or the official layout of a checkpoint",
    "Write one set of weights as a release file. The output's suffix decides: .safetensors is small and for this "
    "package; .pth has the official layout, which the official code and spandrel load.",
    """examples:
  rgt convert experiments/mine/models/net_g_latest.pth RGT_x4_mine.safetensors
  rgt convert RGT_x4_mine.safetensors RGT_x4_mine.pth --set img_range=255
""",
    flag("source input", "checkpoint (.pth, .pt, .ckpt, .safetensors)"),
    flag("target output", "file to write (.safetensors, .pth, .pt, .ckpt)"),
    flag("--key NAME", "which weights of the file (default: EMA if there are some)", dest="param_key"),
    flag("--half", "float16 weights: half the size, slightly other results"),
    flag(
        "--slim", "without derived tensors, which other programs need (default: in .safetensors only)", action=_YES_NO
    ),
    flag(
        "--set ARGUMENT=VALUE", "a constructor argument that the input lacks; repeatable", action="append", dest="known"
    ),
    flag("--overwrite", "replace the output if it exists"),
)
def convert(known: Sequence[str] = (), **given: Any) -> None:
    """Convert, and print what was written."""
    from rgt_arch.weights.writing import convert_checkpoint

    print(convert_checkpoint(**given, known=_constructor_arguments(known)))


def _constructor_arguments(assignments: Sequence[str]) -> dict[str, Any]:
    """Parse `["img_range=255", "hai=identity"]`; values are read as in option files."""
    from rgt_arch.config.loading import parse_yaml

    arguments = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--set {assignment}: write ARGUMENT=VALUE, for example img_range=255")
        arguments[name] = parse_yaml(text, f"--set {assignment}")[0]
    return arguments


@command(
    "weights",
    "list the weights that have names, or get their files",
    "Without a name, list the weights that every command takes by name and where their files are. With names, "
    "download missing files and print the paths.",
    """examples:
  rgt weights
  rgt weights RGT_x4 RGT_S_x4
""",
    flag("names NAME", "weights to get, such as RGT_x4", nargs="*"),
)
def weights(names: Sequence[str] = ()) -> None:
    """Print the table, or the path of each named file."""
    from rgt_arch.weights.zoo import describe_zoo, fetch, named

    entries = [named(name) for name in names]
    if not entries:
        print(describe_zoo())
    for entry in entries:
        print(fetch(entry))


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)[xX×](\d+)", text)
    if not match or not all(16 <= int(side) <= 4096 for side in match.groups()):
        raise argparse.ArgumentTypeError(f"{text} is not HEIGHTxWIDTH of 16 to 4096 pixels, such as 64x64")
    return int(match[1]), int(match[2])


@command(
    "export",
    "write weights as an ONNX file or a torch.export program",
    "Write a network for other programs: an ONNX file (.onnx) or a program of torch.export (.pt2). It takes "
    "float32 images of shape (batch, channels, height, width) in [0, 1], RGB; ONNX files take any size and number. The "
    "file is compared with PyTorch, and kept only if the results are equal. `rgt upscale -w` runs ONNX files.",
    """examples:
  rgt export RGT_T_x4 -o RGT_T_x4.onnx
  rgt export RGT_T_x4 -o tile.onnx --size 64x64      for browsers and TensorRT
  rgt export net_g_latest.pth -o mine.pt2 --size 64x64
""",
    flag("weights WEIGHTS", "a name that `rgt weights` lists, or a file"),
    flag("-o --output FILE", "file to write (.onnx, .pt2)", dest="target", required=True),
    flag(
        "--size HEIGHTxWIDTH",
        "the only size that the file takes, in batches of one; required for .pt2 (default: any size)",
        _size,
    ),
    flag("--precision", "inside the network; bf16 for .pt2 only (default: fp32)", choices=("fp32", "fp16", "bf16")),
    flag("--overwrite", "replace the output if it exists"),
)
def export(**given: Any) -> None:
    """Export, and print the report."""
    from rgt_arch.export.exporting import export_network

    print(export_network(**given))


COMMANDS = (info, convert, weights, export)
