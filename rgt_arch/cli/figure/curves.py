"""`rgt figure curves`: losses and validation results of runs."""

from __future__ import annotations

import argparse
from typing import Any

from rgt_arch.cli.figure.arguments import add_output
from rgt_arch.evaluation.figures.curves import SHOWN, CurveSettings, make_curves
from rgt_arch.evaluation.figures.plotting import COLOURS

_EPILOG = f"""RUN is experiments/NAME (its metrics.csv, which `logger: csv: true` writes),
tb_logger/NAME (its TensorBoard files), or one such file. LABEL=RUN gives it another name. Up to {len(COLOURS)} runs.

examples:
  rgt figure curves experiments/train_RGT_T_x2
  rgt figure curves "with RG-SA"=experiments/a "without"=experiments/b --show loss psnr ssim -o curves.pdf
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt figure curves`."""
    defaults = CurveSettings(())
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "curves",
        help="loss and PSNR of one or more trainings",
        description="Draw losses and validation results from metrics.csv or TensorBoard files.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="trainings, see below")
    parser.add_argument(
        "--show",
        metavar="NAME",
        nargs="+",
        help="loss, psnr, ssim, lr, or another name in the file; a panel for each validation set "
        f"(default: {' '.join(SHOWN)})",
    )
    parser.add_argument(
        "--smooth",
        metavar="W",
        type=float,
        default=defaults.smooth,
        help="of losses, as in TensorBoard: from 0 to below 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--from", metavar="N", dest="start", type=int, default=defaults.start, help="first iteration to be drawn"
    )
    parser.add_argument("--log", action="store_true", help="losses on a logarithmic axis")
    add_output(parser, str(defaults.output))
    return parser


def run(args: argparse.Namespace) -> None:
    """Draw, and print the last and best values."""
    lines = make_curves(
        CurveSettings(args.runs, args.show, args.smooth, args.start, args.log, args.output, args.overwrite, args.width)
    )
    for line in [*lines, f"{args.output}: written"]:
        print(line)
