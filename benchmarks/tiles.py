"""What tiles cost in PSNR and in time, for each size and overlap, next to whole images."""

from __future__ import annotations

import rgt_arch  # noqa: F401  (makes BasicSR importable)

# isort: split

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from basicsr.metrics import calculate_psnr
from common import add_report_flags, describe_machine, run_script, whole

from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.figures.plotting import read_rgb
from rgt_arch.evaluation.reports import deliver, text_table
from rgt_arch.inference.pictures import PICTURE_SUFFIXES
from rgt_arch.inference.upscaler import Upscaler
from rgt_arch.progress import Progress


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = argparse.ArgumentParser(
        description="Upscale the bicubic LR images of a folder of HR images, whole and in tiles, and print what tiles "
        "lose in PSNR-Y and take in time. Tiles whose overlap is half of them or more are left out."
    )
    result.add_argument("images", metavar="HR_DIR", type=Path, help="HR images, such as datasets/benchmark/Set14/HR")
    result.add_argument("-w", "--weights", default="RGT_T_x4", help="name or file (default: %(default)s)")
    tiles, overlaps = [48, 64, 96, 128], [0, 8, 16, 32]
    result.add_argument("--tiles", type=whole(1), nargs="+", default=tiles, help="input pixels (%(default)s)")
    result.add_argument("--overlaps", type=whole(0), nargs="+", default=overlaps, help="input pixels (%(default)s)")
    result.add_argument("--limit", type=whole(1), metavar="N", help="only the first N images")
    add_report_flags(result)
    return result


def main(args: argparse.Namespace) -> None:
    """Measure and print."""
    if not args.images.is_dir():
        raise UsageError(f"{args.images}: no such folder; name a folder of HR images")
    files = [file for file in sorted(args.images.iterdir()) if file.suffix.lower() in PICTURE_SUFFIXES][: args.limit]
    if not files:
        raise UsageError(f"{args.images}: there are no pictures in it")
    tilings = [(tile, overlap) for tile in args.tiles for overlap in args.overlaps if 2 * overlap < tile]
    if not tilings:
        raise UsageError("--overlaps: none is less than half of one of --tiles; give larger tiles or smaller overlaps")
    upscaler = Upscaler(args.weights, tile=0)
    scale = upscaler.scale
    psnr: dict[tuple[int, int], list[float]] = {(0, 0): [], **{tiling: [] for tiling in tilings}}
    seconds = dict.fromkeys(psnr, 0.0)
    with Progress(len(files) * len(psnr), "upscaling", "image") as progress:
        for file in files:
            image = read_rgb(file)
            if min(image.shape[:2]) < 3 * scale:
                raise UserError(f"{file}: has fewer than {3 * scale} pixels on a side; leave it out")
            hr, lr = hr_lr_pair(image, scale)
            for tiling in psnr:
                upscaler.tile, upscaler.overlap = tiling
                start = time.perf_counter()
                result = upscaler.upscale(lr)
                if upscaler.device.type == "cuda":
                    torch.cuda.synchronize()
                seconds[tiling] += time.perf_counter() - start
                value = calculate_psnr(result[..., ::-1], hr[..., ::-1], crop_border=scale, test_y_channel=True)
                psnr[tiling].append(float(value))
                progress.advance()
    whole_psnr, whole_seconds = np.array(psnr[0, 0]), seconds[0, 0]
    rows = [
        {
            "tile": tile,
            "overlap": overlap,
            "psnr": float(np.mean(values)),
            "lost": float(np.mean(whole_psnr - values)),
            "most_lost": float(np.max(whole_psnr - values)),
            "time_ratio": seconds[tile, overlap] / whole_seconds,
        }
        for (tile, overlap), values in psnr.items()
    ]
    machine = describe_machine(upscaler.device)
    body = [
        [f"{row['tile']}, {row['overlap']}" if row["tile"] else "whole", f"{row['psnr']:.3f}", f"{row['lost']:.4f}",
         f"{row['most_lost']:.4f}", f"{row['time_ratio']:.2f}"]
        for row in rows
    ]  # fmt: skip
    table = text_table(["tile, overlap", "PSNR-Y, dB", "lost, dB", "worst image, dB", "time / whole"], body)
    heading = f"{machine}\n{len(files)} images of {args.images}, bicubic ×{scale}, weights {args.weights}"
    deliver({"command": "tiles", "machine": machine, "rows": rows}, f"{heading}\n\n{table}", args.json)


if __name__ == "__main__":
    raise SystemExit(run_script(parser(), main))
