"""`rgt figure features`: what a network looks at."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from rgt_arch.cli.figure.arguments import add_output, whole_numbers
from rgt_arch.evaluation.figures.features import PARTS, FeatureSettings, make_features
from rgt_arch.inference.upscaler import DEVICES

_EPILOG = """Parts of the figure:
  attention   weights of one query: inside its two windows of L-SA, and over the representative map of RG-SA
  maps        the representative map of every RG-SA, by its norm over channels, each on a scale of its own
  hai         the adaptive weights of HAI, one for each channel, by depth

examples:
  rgt figure features photo.png -w RGT_x4 --query 96,40 --block 8.6
  rgt figure features --parts hai -w experiments/mine/models/net_g_latest.pth -o hai.pdf
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt figure features`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "features",
        help="representative maps, attention of a query, HAI by depth",
        description="Draw what a network does with an image: the attention of one position, the representative maps "
        "of RG-SA, and the values of HAI.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image", metavar="IMAGE", type=Path, nargs="?", help="the network's input, an LR image")
    parser.add_argument("-w", "--weights", default="RGT_T_x4", help="name or file (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to draw (default: all)")
    parser.add_argument(
        "--query", metavar="X,Y", type=whole_numbers(2, "X,Y"), help="a pixel of IMAGE (default: its middle)"
    )
    parser.add_argument(
        "--block",
        metavar="G.B",
        type=_block,
        help="group and block, from 1; its neighbour of the other kind is drawn too (default: the last RG-SA)",
    )
    parser.add_argument("--head", metavar="N", type=int, help="one head, from 1 (default: the mean over all)")
    add_output(parser, "features.png")
    parser.add_argument(
        "--device", default="auto", metavar="|".join(DEVICES), help="where to compute (default: %(default)s)"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Draw, and print what the figure shows."""
    lines = make_features(
        FeatureSettings(
            args.image,
            args.weights,
            args.parts,
            args.query,
            args.block,
            args.head,
            args.output,
            args.overwrite,
            args.width,
            args.device,
        )
    )
    for line in [*lines, f"{args.output}: written"]:
        print(line)


def _block(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)\.(\d+)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not group.block, such as 8.6")
    return int(found[1]), int(found[2])
