"""PSNR and time of tiles, for each size and overlap, compared with whole images."""

from __future__ import annotations

import rgt_arch  # noqa: F401  (makes BasicSR importable)

# isort: split

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from basicsr.metrics import calculate_psnr
from common import Result, make_parser, positive, run_script
from PIL import Image

from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.errors import UsageError
from rgt_arch.inference.pictures.writing import PICTURE_SUFFIXES
from rgt_arch.inference.upscaler import Upscaler
from rgt_arch.progress import Progress


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = make_parser(
        "Upscale the bicubic LR images of a folder of HR images, whole and in tiles, and print what tiles lose in "
        "PSNR-Y and take in time. Tiles whose overlap is half of them or more are left out."
    )
    parser.add_argument("images", metavar="HR_DIR", help="HR images, such as datasets/benchmark/Set14/HR")
    parser.add_argument("-w", "--weights", default="RGT_T_x4", help="name or file (default: %(default)s)")
    tiles, overlaps = [48, 64, 96, 128], [0, 8, 16, 32]
    parser.add_argument("--tiles", type=positive, nargs="+", default=tiles, help="input pixels (%(default)s)")
    parser.add_argument("--overlaps", type=int, nargs="+", default=overlaps, help="input pixels (%(default)s)")
    return run_script(parser, measure, argv)


def measure(args: argparse.Namespace) -> Result:
    """Return a row for whole images, then one for each tile size and overlap."""
    folder = Path(args.images)
    files = [file for file in sorted(folder.glob("*")) if file.suffix.lower() in PICTURE_SUFFIXES]
    if not files:
        raise UsageError(f"{folder}: there are no pictures in it; name a folder of HR images")
    upscaler = Upscaler(args.weights, device=args.device, tile=0)
    scale = upscaler.scale
    tilings = [(tile, overlap) for tile in args.tiles for overlap in args.overlaps if 2 * overlap < tile]
    psnr = np.zeros((1 + len(tilings), len(files)))
    times = np.zeros_like(psnr)
    with Progress(psnr.size, "upscaling", "image") as progress:
        for column, file in enumerate(files):
            hr, lr = hr_lr_pair(np.asarray(Image.open(file).convert("RGB")), scale)
            for row, (upscaler.tile, upscaler.overlap) in enumerate([(0, 0), *tilings]):
                start = time.perf_counter()
                sr = upscaler.upscale(lr)
                times[row, column] = time.perf_counter() - start
                psnr[row, column] = calculate_psnr(sr[..., ::-1], hr[..., ::-1], scale, test_y_channel=True)
                progress.advance()
    lost = psnr[0] - psnr
    rows = [
        {
            "tile": tile or "whole",
            "overlap": overlap,
            "psnr": float(psnr[row].mean()),
            "lost": float(lost[row].mean()),
            "most_lost": float(lost[row].max()),
            "time_ratio": float(times[row].sum() / times[0].sum()),
        }
        for row, (tile, overlap) in enumerate([(0, 0), *tilings])
    ]
    return f"{len(files)} images of {folder}, bicubic ×{scale}, weights {args.weights}; dB of PSNR-Y", {"rows": rows}


if __name__ == "__main__":
    raise SystemExit(main())
