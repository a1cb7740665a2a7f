"""×8 geometric self-ensemble (RGT+): the mean over flips and transposes of the input."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor


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
