"""Running a network on a large image piece by piece: blended tiles, and the official RGT code's chops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from rgt_arch.config.settings import SMALLEST_TILE, largest_overlap

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tile:
    """Square tiles in input pixels, with the bounds that option files have too.

    size: side of a tile, overlap included, at least 16. overlap: pixels that neighbours share, from 0 to half of size.
    Raises ValueError for anything else.
    """

    size: int
    overlap: int

    def __post_init__(self) -> None:
        if not _is_whole(self.size) or self.size < SMALLEST_TILE:
            raise ValueError(f"tile is {self.size!r}; it must be a whole number of pixels from {SMALLEST_TILE} up")
        most = largest_overlap(int(self.size))
        if not _is_whole(self.overlap) or not 0 <= self.overlap <= most:
            raise ValueError(
                f"overlap is {self.overlap!r}; it must be a whole number of pixels from 0 to half of the tile ({most})"
            )
        object.__setattr__(self, "size", int(self.size))  # from NumPy's
        object.__setattr__(self, "overlap", int(self.overlap))


def _is_whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


# The official RGTModel.test (use_chop): pieces of at most 200 pixels, 16 more on each inner side.
CHOP_SIZE = 200
CHOP_SHAVE = 16


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles along one axis: `tile - overlap` apart, the last one moved inward to end at `length`.

    One tile at 0 where the image is no longer than a tile.
    """
    if length <= tile:
        return [0]
    starts = list(range(0, length - tile, tile - overlap))
    return [*starts, length - tile]


def blend_weights(length: int, tile: int, overlap: int, margin: int, scale: int) -> list[Tensor]:
    """Weights of each tile along one axis, at output resolution; over the tiles they add up to 1 at every pixel.

    Each is 0 within `margin` input pixels of an inner edge, then rises as a smoothstep over `overlap - 2 * margin`
    pixels to 1. The edge of the image is not an inner edge; without overlap there is no rise, and pixels shared by the
    last two tiles are averaged. Returns float64 tensors of min(tile, length) * scale.
    """
    starts = tile_starts(length, tile, overlap)
    size = min(tile, length)
    centres = (torch.arange(size * scale, dtype=torch.float64) + 0.5) / scale
    rise = ((centres - margin) / max(overlap - 2 * margin, 1)).clamp(0, 1)
    rise = rise * rise * (3 - 2 * rise)
    total = torch.zeros(length * scale, dtype=torch.float64)
    weights = []
    for start in starts:
        weight = torch.ones(size * scale, dtype=torch.float64)
        if overlap and start > 0:
            weight = weight * rise
        if overlap and start + size < length:
            weight = weight * rise.flip(0)
        total[start * scale : (start + size) * scale] += weight
        weights.append(weight)
    return [
        weight / total[start * scale : (start + size) * scale] for start, weight in zip(starts, weights, strict=True)
    ]


def tiled_forward(
    network: Network,
    image: Tensor,
    scale: int,
    tile: int,
    overlap: int,
    *,
    margin: int | None = None,
    batch: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Run a network on overlapping tiles and blend the results without seams.

    network: (B, C, h, w) -> (B, C', h * scale, w * scale); it sees tiles of one size, min(tile, H) × min(tile, W).
    image: (B, C, H, W), any device; results are gathered on it, so the network may move tiles to another device and
    a large image can stay in main memory. tile, overlap: see `Tile`. margin: input pixels. batch: tiles run
    together, which keeps a GPU busy. progress(done, tiles) is called after each batch. Returns
    (B, C', H * scale, W * scale), added up in float32 (float64 if the network's output is).

    Guarantee: a tile has no say within `margin` pixels of an inner edge, and every pixel is at least `margin` pixels
    inside some tile. So a network that looks at most `margin` pixels far in each direction gives the same output as
    without tiles, to rounding. The default, overlap // 4, leaves half of the overlap to blend in, which is what hides
    seams of networks that look further, as RGT does; (overlap - 1) // 2 is the largest possible.
    Memory: the output, one batch of tiles, and one weight per row and column.

    Raises ValueError where tile, overlap, margin, batch or scale are out of range, or the network's output has another
    size.
    """
    Tile(tile, overlap)
    margin = overlap // 4 if margin is None else margin
    if scale < 1:
        raise ValueError(f"scale must be at least 1, got {scale}")
    if not 0 <= margin <= max(overlap - 1, 0) // 2:
        raise ValueError(f"margin must be from 0 to (overlap - 1) // 2 = {max(overlap - 1, 0) // 2}, got {margin}")
    if batch < 1:
        raise ValueError(f"batch must be at least 1 tile, got {batch}")
    height, width = image.shape[-2:]
    if height <= tile and width <= tile:
        result = _checked_call(network, image, scale).to(image.device)
        if progress:
            progress(1, 1)
        return result.to(torch.promote_types(result.dtype, torch.float32))
    rows = list(
        zip(tile_starts(height, tile, overlap), blend_weights(height, tile, overlap, margin, scale), strict=True)
    )
    columns = list(
        zip(tile_starts(width, tile, overlap), blend_weights(width, tile, overlap, margin, scale), strict=True)
    )
    output: Tensor | None = None
    places = list(product(rows, columns))
    for first in range(0, len(places), batch):
        group = places[first : first + batch]
        tiles = [image[..., top : top + tile, left : left + tile] for (top, _), (left, _) in group]
        results = _checked_call(network, torch.cat(tiles), scale).to(image.device)
        dtype = torch.promote_types(results.dtype, torch.float32)
        for ((top, row_weight), (left, column_weight)), result in zip(group, results.chunk(len(group)), strict=True):
            if output is None:
                output = result.new_zeros((*result.shape[:-2], height * scale, width * scale), dtype=dtype)
            place = output[..., top * scale : (top + tile) * scale, left * scale : (left + tile) * scale]
            weighted = result.to(dtype) * row_weight.to(place)[:, None]
            place.addcmul_(weighted, column_weight.to(place))
        if progress:
            progress(first + len(group), len(places))
    assert output is not None  # there is at least one tile
    return output


def chop_forward(network: Network, image: Tensor, scale: int) -> Tensor:
    """The official code's `use_chop`: hard-edged pieces of at most 200 pixels, each run with 16 more on inner sides.

    Height and width are mirrored (edge pixel repeated) up to a multiple of the number of pieces, H // 200 + 1 by
    W // 200 + 1. image: (B, C, H, W). Returns (B, C', H * scale, W * scale) on the image's device, any batch size.
    Kept for comparison with published numbers; `tiled_forward` blends. Source: official RGTModel.test, use_chop.
    """
    height, width = image.shape[-2:]
    counts = (height // CHOP_SIZE + 1, width // CHOP_SIZE + 1)
    for axis, (length, count) in zip((-2, -1), zip((height, width), counts, strict=True), strict=True):
        missing = -length % count
        if missing:
            mirrored = image.narrow(axis, length - missing, missing).flip(axis)
            image = torch.cat([image, mirrored], axis)
    piece = (image.shape[-2] // counts[0], image.shape[-1] // counts[1])
    output: Tensor | None = None
    for row in range(counts[0]):
        for column in range(counts[1]):
            top, bottom = _with_shave(row, counts[0], piece[0])
            left, right = _with_shave(column, counts[1], piece[1])
            result = _checked_call(network, image[..., top:bottom, left:right], scale)
            if output is None:
                shape = (*result.shape[:-2], image.shape[-2] * scale, image.shape[-1] * scale)
                output = result.new_empty(shape, device=image.device)
            y, x = row * piece[0], column * piece[1]
            core = result[..., (y - top) * scale :, (x - left) * scale :][..., : piece[0] * scale, : piece[1] * scale]
            output[..., y * scale : (y + piece[0]) * scale, x * scale : (x + piece[1]) * scale] = core
    assert output is not None  # there is at least one piece
    return output[..., : height * scale, : width * scale]


def _with_shave(index: int, count: int, size: int) -> tuple[int, int]:
    """First pixel and end of a piece with its shave on inner sides."""
    start = index * size - (CHOP_SHAVE if index else 0)
    return start, (index + 1) * size + (CHOP_SHAVE if index < count - 1 else 0)


def _checked_call(network: Network, image: Tensor, scale: int) -> Tensor:
    result = network(image)
    expected = (image.shape[-2] * scale, image.shape[-1] * scale)
    if tuple(result.shape[-2:]) != expected:
        raise ValueError(
            f"the network turned {tuple(image.shape[-2:])} pixels into {tuple(result.shape[-2:])}, "
            f"expected {expected} at scale {scale}"
        )
    return result
