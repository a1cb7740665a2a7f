"""`rgt export`: networks for other programs."""

from __future__ import annotations

import argparse
import re
from typing import Any

from rgt_arch.cli.commands import command, flag


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


COMMANDS = (export,)
