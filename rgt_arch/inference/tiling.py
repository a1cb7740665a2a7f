"""Running a network several times for one image: blended tiles, the official RGT code's chops, the ×8 self-ensemble."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]

# The official RGTModel.test (use_chop): pieces of at most 200 pixels, 16 more on each inner side.
CHOP_SIZE = 200
CHOP_SHAVE = 16


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles along one axis: `tile - overlap` apart, the last one moved inward to end at `length`.

    Returns [0] if the image is not longer than a tile.
    """
    if length <= tile:
        return [0]
    starts = list(range(0, length - tile, tile - overlap))
    return [*starts, length - tile]


def blend_weights(length: int, tile: int, overlap: int, scale: int) -> list[tuple[int, Tensor]]:
    """First pixel of each tile along one axis, and its weights at output resolution, which add up to 1 at every pixel.

    Each is 0 within a quarter of the overlap of an inner edge, then rises as a smoothstep to 1. The edge of the image
    is not an inner edge; without overlap there is no rise, and pixels shared by the last two tiles are averaged.
    The weights are float64 tensors of min(tile, length) * scale.
    """
    starts = tile_starts(length, tile, overlap)
    size, margin = min(tile, length), overlap // 4
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
        (start, w / total[start * scale : (start + size) * scale]) for start, w in zip(starts, weights, strict=True)
    ]


def tiled_forward(network: Network, image: Tensor, scale: int, tile: int, overlap: int, *, batch: int = 1) -> Tensor:
    """Run a network on overlapping tiles and blend the results without seams.

    network: (B, C, h, w) -> (B, C', h * scale, w * scale); it sees tiles of one size, min(tile, H) × min(tile, W).
    image: (B, C, H, W), any device; results are gathered on it, so the network may move tiles to another device and
    a large image can stay in main memory. tile: side in pixels, overlap included; overlap: pixels that neighbours
    share, at most half of a tile. batch: tiles run together, which keeps a GPU busy. Returns
    (B, C', H * scale, W * scale), added up in float32 (float64 if the network's output is).

    Guarantee: a network that looks at most overlap // 4 pixels far in each direction gives the same output as without
    tiles, to rounding: a tile has no weight that near to an inner edge. Tiles are blended over half of the overlap,
    which hides the seams of networks that look further, as RGT does.
    Memory: the output, one batch of tiles, and one weight per row and column.

    Raises ValueError if the network's output has another size.
    """
    height, width = image.shape[-2:]
    if max(height, width) <= tile:
        result = _checked_call(network, image, scale).to(image.device)
        return result.to(torch.promote_types(result.dtype, torch.float32))
    rows, columns = (blend_weights(length, tile, overlap, scale) for length in (height, width))
    places = list(product(rows, columns))
    output: Tensor | None = None
    for first in range(0, len(places), batch):
        group = places[first : first + batch]
        tiles = [image[..., top : top + tile, left : left + tile] for (top, _), (left, _) in group]
        results = _checked_call(network, torch.cat(tiles), scale).to(image.device)
        dtype = torch.promote_types(results.dtype, torch.float32)
        for ((top, row_weight), (left, column_weight)), result in zip(group, results.chunk(len(group)), strict=True):
            if output is None:
                output = result.new_zeros((*result.shape[:-2], height * scale, width * scale), dtype=dtype)
            place = output[..., top * scale : (top + tile) * scale, left * scale : (left + tile) * scale]
            place.addcmul_(result.to(dtype) * row_weight.to(place)[:, None], column_weight.to(place))
    assert output is not None  # there is at least one tile
    return output


def chop_forward(network: Network, image: Tensor, scale: int) -> Tensor:
    """The official code's `use_chop`: hard-edged pieces of at most 200 pixels, each run with 16 more on inner sides.

    Height and width are mirrored (edge pixel repeated) up to a multiple of the number of pieces, H // 200 + 1 by
    W // 200 + 1. image: (B, C, H, W). Returns (B, C', H * scale, W * scale) on the image's device, any batch size.
    Kept for comparison with published numbers; `tiled_forward` blends. Source: official RGTModel.test, use_chop.
    """
    height, width = image.shape[-2:]
    sides = []
    for axis, length in ((-2, height), (-1, width)):
        count = length // CHOP_SIZE + 1
        sides.append(-(-length // count))
        index = torch.arange(sides[-1] * count, device=image.device)
        image = image.index_select(axis, torch.minimum(index, 2 * length - 1 - index))

    def piece(top: int, left: int) -> Tensor:
        shaves = [min(CHOP_SHAVE, start) for start in (top, left)]
        ends = [start + side + CHOP_SHAVE for start, side in zip((top, left), sides, strict=True)]
        result = _checked_call(network, image[..., top - shaves[0] : ends[0], left - shaves[1] : ends[1]], scale)
        result = result[..., shaves[0] * scale :, shaves[1] * scale :]
        return result[..., : sides[0] * scale, : sides[1] * scale].to(image.device)

    tops, lefts = (range(0, length, side) for length, side in zip(image.shape[-2:], sides, strict=True))
    rows = [torch.cat([piece(top, left) for left in lefts], -1) for top in tops]
    return torch.cat(rows, -2)[..., : height * scale, : width * scale]


def _checked_call(network: Network, image: Tensor, scale: int) -> Tensor:
    result = network(image)
    expected = (image.shape[-2] * scale, image.shape[-1] * scale)
    if tuple(result.shape[-2:]) != expected:
        raise ValueError(
            f"the network turned {tuple(image.shape[-2:])} pixels into {tuple(result.shape[-2:])}, "
            f"expected {expected} at scale {scale}"
        )
    return result


def self_ensemble(network: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Return the mean of a network's outputs over the 8 flips and transposes of its input, each undone on the output.

    image: (B, C, H, W), H and W may differ. Returns (B, C', H * s, W * s), added up in float32 (float64 if the
    network's output is). Memory: two outputs and one plane, not eight outputs. With tiles:
    `self_ensemble(partial(tiled_forward, network, ...), image)`. Source: Timofte et al., CVPR 2016, section 3.3, as in
    the paper's RGT+.
    """
    total: Tensor | None = None
    for transposed, *flips in product((False, True), repeat=3):
        axes = [axis for axis, flip in zip((-2, -1), flips, strict=True) if flip]
        view = image.transpose(-2, -1) if transposed else image
        result = network(view.flip(axes).contiguous())
        if total is None:
            dtype = torch.promote_types(result.dtype, torch.float32)
            total = result.to(dtype, copy=True, memory_format=torch.contiguous_format)
        else:
            _add_restored(total, result, axes, transposed)
        del result  # before the next pass needs the memory
    assert total is not None  # eight passes
    return total.div_(8)


def _add_restored(total: Tensor, result: Tensor, axes: list[int], transposed: bool) -> None:
    """Undo flips, then the transpose, and add; plane by plane, because flip copies."""
    planes = result.reshape(-1, *result.shape[-2:])
    for sum_plane, plane in zip(total.view(-1, *total.shape[-2:]), planes, strict=True):
        restored = plane.flip(axes)
        sum_plane.add_(restored.transpose(-2, -1) if transposed else restored)
