"""The arithmetic of a network, and how fast the machine can do arithmetic at best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from rgt_arch.evaluation.complexity.counting import count
from rgt_arch.evaluation.speed.clock import Work, seconds
from rgt_arch.evaluation.speed.settings import Size

KINDS = {"pointwise": "1×1 conv", "conv3x3": "3×3 conv", "linear": "linear"}
"""Products that a network is made of, and their names in tables."""

_REPEATS = 5
# (input channels, output channels, side of the map); a linear layer's rows are the map's pixels
_SHAPES = {
    "pointwise": ((180, 540, 96), (256, 256, 96), (512, 512, 96)),
    "conv3x3": ((180, 180, 96), (64, 256, 128), (256, 256, 64)),
    "linear": ((180, 540, 96), (512, 512, 96), (1024, 1024, 64)),
}
_GPU_BATCH = 16  # a GPU needs more work at a time to show its rate


def plain_flops(config: dict[str, Any], size: Size) -> int:
    """Floating-point operations of the network as published, two for a multiply-add, SDPA included, for one image.

    Counts only products, as `torch.utils.flop_counter` does.
    """
    return 2 * count(config, size).whole.products


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Counts the operations that are done within this context, without gradients: `.get_total_flops()`."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        yield counter


def best_rates(device: torch.device, dtypes: Sequence[str]) -> dict[str, dict[str, float]]:
    """The machine's best measured FLOP/s by dtype and kind of product, over a few shapes like the network's."""
    with torch.inference_mode():
        return {dtype: {kind: _best_rate(kind, dtype, device) for kind in KINDS} for dtype in dtypes}


def _best_rate(kind: str, dtype: str, device: torch.device) -> float:
    best = 0.0
    for inputs, outputs, side in _SHAPES[kind]:
        work, flops = _product(kind, inputs, outputs, side, dtype, device)
        work()  # loads libraries and fills caches
        best = max(best, *(flops / seconds(work, device) for _ in range(_REPEATS)))
    return best


def _product(kind: str, inputs: int, outputs: int, side: int, dtype: str, device: torch.device) -> tuple[Work, int]:
    """The work and its operations."""
    kernel = 3 if kind == "conv3x3" else 1
    batch = _GPU_BATCH if device.type == "cuda" else 1
    make = partial(torch.randn, dtype=torch.bfloat16 if dtype == "bf16" else torch.float32, device=device)
    flops = 2 * batch * side * side * inputs * outputs * kernel * kernel
    if kind == "linear":
        return partial(F.linear, make(batch * side * side, inputs), make(outputs, inputs)), flops
    image = make(batch, inputs, side, side).contiguous(memory_format=torch.channels_last)
    weight = make(outputs, inputs, kernel, kernel).contiguous(memory_format=torch.channels_last)
    return partial(F.conv2d, image, weight, padding=kernel // 2), flops
