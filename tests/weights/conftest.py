"""Small networks in which every part affects the output; spandrel's RGT is the independent source of files."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from spandrel.architectures.RGT import RGT as SpandrelRGT  # noqa: N811
from torch import Tensor

torch.set_num_threads(2)

CONFIG: dict[str, Any] = {
    "upscale": 2,
    "in_chans": 3,
    "depth": [3, 1],
    "embed_dim": 96,
    "num_heads": [6, 4],
    "mlp_ratio": 1.5,
    "qkv_bias": True,
    "resi_connection": "1conv",
    "split_size": [4, 8],
    "c_ratio": 0.5,
}


@pytest.fixture
def config() -> dict[str, Any]:
    return dict(CONFIG)


@pytest.fixture
def spandrel_network() -> Callable[..., SpandrelRGT]:
    """spandrel_network(**changes to CONFIG): an official network in eval mode, seeded."""

    def make(**changes: Any) -> SpandrelRGT:
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.meshgrid without indexing
            network = SpandrelRGT(**{**CONFIG, **changes}).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return network

    return make


@pytest.fixture
def official(spandrel_network: Callable[..., SpandrelRGT]) -> dict[str, Tensor]:
    """The state dict of an official file, derived tensors included."""
    return dict(spandrel_network().state_dict())
