"""`rgt figure compare`: parts of an image as methods see them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rgt_arch.cli.figure.arguments import add_output, whole_numbers
from rgt_arch.evaluation.figures.compare import CompareSettings, make_comparison, numbers
from rgt_arch.inference.upscaler import DEVICES

_EPILOG = """METHOD is one of
  RGT_T_x4, RGT_x4, RGT    published networks by name; weights are downloaded at first use
  RGT_x4+                  the same with x8 self-ensemble
  bicubic                  alone, for a figure without networks
  net_g_500000.pth         any RGT checkpoint; with + at its end: with self-ensemble
  results/mine             a folder with the image super-resolved already, called like HR or baby_x4.png, baby_mine.png
NAME=METHOD gives it another name. LR, bicubic and HR are always there.

PSNR and SSIM are BasicSR's, on Y of the whole image, border = scale; of grey images on Y of three equal channels.

examples:
  rgt figure compare datasets/benchmark/Set14/HR/barbara.png RGT_T_x4 RGT_x4 -o barbara.pdf
  rgt figure compare baby.png RGT_T_x2 mine=results/mine --box 200,120,60,40 --box 30,300,60,40
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt figure compare`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "compare",
        help="LR, bicubic, methods and HR with magnified boxes and PSNR/SSIM",
        description="Draw an HR image and beside it a part of it, magnified, as LR, bicubic, methods and HR show it, "
        "with PSNR/SSIM below.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("hr", metavar="HR", type=Path, help="the image; its LR is made as MATLAB's imresize makes it")
    parser.add_argument("methods", metavar="METHOD", nargs="+", help="what to compare, see below")
    parser.add_argument("--lr", metavar="FILE", type=Path, help="LR of the image, in the place of a made one")
    parser.add_argument("--scale", metavar="N", type=int, choices=(2, 3, 4, 8), help="(default: that of the methods)")
    parser.add_argument(
        "--box",
        metavar="X,Y,W,H",
        dest="boxes",
        action="append",
        type=whole_numbers(4, "X,Y,W,H"),
        help="what to magnify, in HR pixels; may be given several times (default: where the methods differ most from "
        "bicubic)",
    )
    add_output(parser, "compare.png")
    parser.add_argument(
        "--device", default="auto", metavar="|".join(DEVICES), help="where to compute (default: %(default)s)"
    )
    parser.add_argument(
        "--tile", metavar="N", type=int, help="networks run in tiles of N LR pixels (default: whole if memory suffices)"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Draw, and print what the figure shows."""
    contestants, boxes = make_comparison(
        CompareSettings(
            args.hr,
            args.methods,
            args.lr,
            args.scale,
            args.boxes or (),
            args.output,
            args.overwrite,
            args.width,
            args.device,
            "auto" if args.tile is None else args.tile,
        )
    )
    for one in contestants:
        print(f"{one.label}: {numbers(one)}")
    shown = " ".join(f"--box {box.left},{box.top},{box.width},{box.height}" for box in boxes)
    print(f"{args.output}: shows {shown}")
