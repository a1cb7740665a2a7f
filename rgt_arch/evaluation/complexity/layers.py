"""One layer of each attention at work: plain global attention to compare with, and the time that each takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import HEAD_MULTIPLE, RGT, attend, pointwise
from rgt_arch.evaluation.complexity.counting import LSA, RGSA
from rgt_arch.evaluation.speed.clock import seconds
from rgt_arch.evaluation.speed.networks import build
from rgt_arch.evaluation.speed.settings import Size
from rgt_arch.inference.memory import free_memory
from rgt_arch.progress import Progress

GLOBAL = "global attention"
LAYERS = (GLOBAL, LSA, RGSA)
# Feature maps that are in memory at the same time at most: those of queries, keys and values, and temporaries.
_MAPS = 8
_SEED = 10
_SMALLEST = Size(16, 16)


class GlobalAttention(nn.Module):
    """Plain multi-head self-attention over a whole map (B, H, W, C), as wide as the network's layers."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x plus the attention of every position to every other."""
        batch, height, width, channels = x.shape
        head_dim = channels // self.num_heads
        qkv = pointwise(x, self.qkv.weight, self.qkv.bias).reshape(batch, -1, 3, self.num_heads, head_dim)
        # fused attention on a GPU wants heads of such widths, as the network's own are
        q, k, v = F.pad(qkv, (0, -head_dim % HEAD_MULTIPLE)).permute(2, 0, 3, 1, 4)
        attended = attend(q, k, v, None, head_dim**-0.5)[..., :head_dim]
        attended = attended.transpose(1, 2).reshape(batch, height, width, channels)
        return x + pointwise(attended, self.proj.weight, self.proj.bias)


def global_products(channels: int, size: Size) -> int:
    """Multiply-adds of `GlobalAttention`: four projections, queries times keys, weights times values."""
    return 4 * channels**2 * size.pixels + 2 * channels * size.pixels**2


def measure_layers(
    config: dict[str, Any], products: Mapping[Size, Mapping[str, int]], limit: float, device: torch.device
) -> dict[Size, dict[str, float]]:
    """Seconds of each layer at each size, {size: {layer: seconds}}, without gradients.

    products: multiply-adds of each layer at each size, small sizes first. Left out are layers that would take longer
    than `limit` seconds at the speed of the size before, and sizes for which the free memory does not suffice.
    """
    network = build("ours", config, _SEED, device)
    assert isinstance(network, RGT)
    plain = GlobalAttention(config["embed_dim"], config["num_heads"][0]).eval().to(device)
    result: dict[Size, dict[str, float]] = {size: {} for size in products}
    speed: dict[str, float] = {}
    with torch.inference_mode(), Progress(len(products) * len(LAYERS), "measuring", "layer") as progress:
        for layer, work in _works(network, plain, torch.zeros(1, *_SMALLEST, network.embed_dim, device=device)).items():
            work()  # loads libraries
            speed[layer] = 0.0
        for size, of_size in products.items():
            fits = 4 * network.embed_dim * size.pixels * _MAPS < free_memory(device)
            x = torch.randn(1, *size, network.embed_dim, device=device) if fits else None
            for layer in LAYERS:
                if x is not None and (not speed[layer] or of_size[layer] / speed[layer] <= limit):
                    took = seconds(_works(network, plain, x)[layer], device)
                    result[size][layer] = took
                    speed[layer] = of_size[layer] / took
                progress.advance()
    return result


def _works(network: RGT, plain: GlobalAttention, x: Tensor) -> dict[str, Callable[[], object]]:
    """What each layer does with features (B, H, W, C), as the network does it without gradients."""
    group: Any = network.layers[0]
    local, recursive = (block.attn for block in group.blocks)
    geometry = network.geometry(x.shape[1], x.shape[2], x.device)
    return {
        GLOBAL: partial(plain, x),
        LSA: partial(local.add_sliced, x, nn.Identity(), geometry),
        RGSA: partial(recursive.add_sliced, x, nn.Identity(), geometry),
    }
