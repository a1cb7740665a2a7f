"""Ours and the peer's network with equal weights, and what the peer cannot do."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import recursion_depth
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.speed.settings import Size
from rgt_arch.weights.building import build_network

Maker = Literal["official", "ours"]
"""official: spandrel's RGT, which is the official forward unchanged."""


def build(maker: Maker, config: dict[str, Any], seed: int, device: torch.device) -> nn.Module:
    """A network in eval mode on `device`; with one seed and configuration both makers' weights are equal."""
    if maker == "ours":
        network: nn.Module = build_network(config)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.meshgrid without indexing
            network = peer_class()(**config)
    _strengthen(network, seed)
    return network.eval().to(device)


def peer_class() -> type[nn.Module]:
    """spandrel's RGT. Raises UserError where spandrel is not installed."""
    try:
        from spandrel.architectures.RGT import RGT as PeerRGT  # type: ignore[import-untyped]  # noqa: N811
    except ImportError as error:
        raise UserError(
            "the peer, spandrel, is not installed: pip install 'rgt-arch[bench]', or measure ours alone"
        ) from error
    return PeerRGT


def random_images(size: Size, config: dict[str, Any], seed: int, device: torch.device, batch: int = 1) -> Tensor:
    """Images (batch, C, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, config.get("in_chans", 3), *size, generator=generator).to(device)


@torch.no_grad()
def _strengthen(network: nn.Module, seed: int) -> None:
    """Weights that make every part matter: initial ones are so small that a wrong attention would not be seen."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("gamma"):
            value = 0.5 + 0.1 * noise
        elif parameter.dim() == 1:
            value = (1.0 if name.endswith("weight") else 0.0) + 0.1 * noise
        else:
            value = noise * parameter[0].numel() ** -0.5
        parameter.copy_(value)


def check_peer_size(size: Size) -> None:
    """Raise UsageError for a size at which the peer crashes: small and thin images leave nothing of its reduced map."""
    longer = max(size)
    if recursion_depth(*size, training=False) < max(2, recursion_depth(longer, longer, training=False)):
        raise UsageError(f"--sizes {size}: the peer crashes on images so small or thin; measure ours alone there")


def least_peer_memory(config: dict[str, Any], size: Size, dtype: str, batch: int = 1) -> int:
    """Bytes that the peer takes at the very least: the scores of one RG-SA, which it holds twice at a time.

    Scores are (batch, heads, H·W, h·w) with h·w the size of the representative map; 0 where there is no RG-SA.
    """
    heads = [heads for heads, blocks in zip(config["num_heads"], config["depth"], strict=True) if blocks > 1]
    if not heads:
        return 0
    longer = max(size)
    reduced = 4 ** max(2, recursion_depth(longer, longer, training=False))
    scores = batch * max(heads) * size.pixels * (size.height // reduced) * (size.width // reduced)
    return 2 * scores * (2 if dtype == "bf16" else 4)
