"""`rgt upscale`: larger pictures and videos."""

from __future__ import annotations

import argparse
from typing import Any

from rgt_arch.inference.jobs import run_jobs
from rgt_arch.inference.planning import EXTENSIONS, Output, plan_jobs
from rgt_arch.inference.upscaler import ALPHA_MODES, PRECISIONS, Upscaler


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The parser of `rgt upscale`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "upscale",
        help="enlarge pictures and videos",
        description="Enlarge pictures (PNG, JPEG, TIFF, WebP, AVIF, BMP; 8 and 16 bit, with alpha) and videos (mp4, "
        "mkv, webm). Colour profiles, EXIF and XMP data, alpha and sound are kept where the format has a place for "
        "them. Nothing is overwritten unless asked for.",
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="file, folder with its sub-folders, or pattern")
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="folder, or for one input a file (default: photo_x4.jpg beside photo.jpg, folder photos_x4 beside photos)",
    )
    parser.add_argument(
        "-w", "--weights", default="RGT_T_x4", help="a name that `rgt weights` lists, or a file (default: %(default)s)"
    )
    parser.add_argument(
        "-s",
        "--outscale",
        type=float,
        metavar="FACTOR",
        help="final size by a resize, such as 2.5 (default: the weights')",
    )
    parser.add_argument(
        "-t",
        "--tile",
        type=_tile,
        default="auto",
        metavar="auto|0|N",
        help="tiles of N input pixels; 0: whole pictures; auto: whole if the memory suffices (default: %(default)s)",
    )
    parser.add_argument(
        "--overlap", type=int, metavar="N", help="pixels that tiles share (default: 32, at most half a tile)"
    )
    parser.add_argument("--self-ensemble", action="store_true", help="RGT+: the mean of 8 runs, in 8 times the time")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="auto", help="inside the network (default: %(default)s)"
    )
    parser.add_argument(
        "--device", default="auto", metavar="auto|cpu|cuda|mps", help="where to compute (default: %(default)s)"
    )
    parser.add_argument(
        "--alpha", choices=ALPHA_MODES, default="rgt", help="how transparency is enlarged (default: %(default)s)"
    )
    parser.add_argument("--suffix", default="auto", help="end of output names (default: x and the factor)")
    parser.add_argument("--ext", choices=EXTENSIONS, default="auto", help="format of pictures (default: the input's)")
    parser.add_argument(
        "--quality", type=int, default=95, metavar="1-100", help="of JPEG, WebP and AVIF (default: %(default)s)"
    )
    parser.add_argument(
        "--crf",
        type=int,
        metavar="0-63",
        help="of videos: lower is better and larger (default: 17 in H.264, 24 in VP9)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--compare", action="store_true", help="also write pictures beside bicubic, …_compare.png")
    return parser


def run(args: argparse.Namespace) -> int:
    """Upscale all inputs; 1 if one of them failed."""
    output = Output(
        args.output,
        args.suffix,
        args.ext,
        args.outscale,
        args.quality,
        args.crf,
        overwrite=args.overwrite,
        compare=args.compare,
    )
    upscaler = Upscaler(
        args.weights,
        device=args.device,
        precision=args.precision,
        tile=args.tile,
        overlap=args.overlap,
        self_ensemble=args.self_ensemble,
        alpha=args.alpha,
    )
    outcome = run_jobs(plan_jobs(args.inputs, output, upscaler.scale), upscaler, output)
    print(outcome.line())
    return outcome.exit_code


def _tile(text: str) -> int | str:
    if text != "auto" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is neither auto nor a number of pixels")
    return text if text == "auto" else int(text)
