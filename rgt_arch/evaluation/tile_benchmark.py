"""`rgt bench tiles`: how many dB and how much time tiles cost, for each size and overlap, next to whole images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.metrics import calculate_psnr
from numpy.typing import NDArray

from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.machine import describe_machine
from rgt_arch.inference.pictures import PICTURE_SUFFIXES, read_picture
from rgt_arch.inference.upscaler import Upscaler
from rgt_arch.progress import Progress

Tiling = tuple[int, int]  # side and overlap in input pixels


@dataclass
class TileCost:
    """What one tiling did over all images."""

    tile: int
    """Side in input pixels; 0: whole images."""
    overlap: int
    psnr: float
    """Mean PSNR-Y to HR in dB."""
    lost: float
    """Mean of what is lost against whole images, in dB."""
    most_lost: float
    """The worst image's loss, in dB."""
    seconds: float
    """Of all images together."""


def run_tile_benchmark(
    folder: Path, weights: str | Path, *, tiles: Sequence[int], overlaps: Sequence[int], limit: int | None = None
) -> list[TileCost]:
    """Upscale bicubic LR images of the HR images in a folder whole and in tiles; the first result is the whole one's.

    tiles, overlaps: input pixels; pairs where the overlap is no less than half the tile are left out. limit: so many
    images at most. PSNR is measured on Y of 8-bit results with a border of `scale` pixels cut off, as in the paper.
    Raises UsageError if there is nothing to measure, UserError naming a picture that cannot be measured.
    """
    upscaler = Upscaler(weights, tile=0)
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in PICTURE_SUFFIXES][:limit]
    if not files:
        raise UsageError(f"{folder}: there are no pictures in it")
    tilings = [(tile, overlap) for tile in tiles for overlap in overlaps if 2 * overlap < tile]
    if not tilings:
        raise UsageError(
            f"--overlaps {' '.join(map(str, overlaps))}: none is less than half of --tiles "
            f"{' '.join(map(str, tiles))}; give larger tiles or smaller overlaps"
        )
    print(describe_machine(upscaler.device))
    print(f"{len(files)} images of {folder}, bicubic ×{upscaler.scale}, weights {weights}\n")

    scores: dict[Tiling, list[float]] = {(0, 0): [], **{tiling: [] for tiling in tilings}}
    seconds = dict.fromkeys(scores, 0.0)
    with Progress(len(files) * len(scores), "upscaling", "image") as progress:
        for file in files:
            hr, lr = hr_lr_pair(_rgb(file, least=3 * upscaler.scale), upscaler.scale)
            for tiling in scores:
                upscaler.tile, upscaler.overlap = tiling
                start = time.perf_counter()
                result = upscaler.upscale(lr)
                if upscaler.device.type == "cuda":
                    torch.cuda.synchronize()
                seconds[tiling] += time.perf_counter() - start
                scores[tiling].append(_psnr(result, hr, upscaler.scale))
                progress.advance()
    whole = np.array(scores[0, 0])
    return [
        TileCost(
            *tiling,
            psnr=float(np.mean(values)),
            lost=float(np.mean(whole - values)),
            most_lost=float(np.max(whole - values)),
            seconds=seconds[tiling],
        )
        for tiling, values in scores.items()
    ]


def format_costs(costs: Sequence[TileCost]) -> str:
    """A text table; times as ratios to whole images."""
    whole = costs[0].seconds
    lines = [" tile  overlap  PSNR-Y, dB  lost, dB  worst image, dB  time / whole"]
    for cost in costs:
        tiling = f"{cost.tile:5d}  {cost.overlap:7d}" if cost.tile else "whole         "
        ratio = cost.seconds / whole
        lines.append(f"{tiling}  {cost.psnr:10.3f}  {cost.lost:8.4f}  {cost.most_lost:15.4f}  {ratio:12.2f}")
    return "\n".join(lines)


def _rgb(file: Path, least: int) -> NDArray[Any]:
    """8-bit RGB; grey three times, as the benchmarks' grey images are run. least: pixels along each side, so that some
    are left inside the border that is cut off."""
    pixels = read_picture(file).pixels
    height, width = pixels.shape[:2]
    if min(height, width) < least:
        raise UserError(f"{file}: has {height}×{width} pixels; at least {least}×{least} can be measured; leave it out")
    if pixels.dtype != np.uint8:
        raise UserError(f"{file}: has 16 bits; measure on 8-bit pictures")
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    return pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)


def _psnr(image: NDArray[Any], hr: NDArray[Any], scale: int) -> float:
    return float(calculate_psnr(image[..., ::-1], hr[..., ::-1], crop_border=scale, test_y_channel=True))
