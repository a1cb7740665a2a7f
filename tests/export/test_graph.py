"""The graph that is exported computes what the network computes, with every switch and at every size."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch

from rgt_arch import RGT, rgt_t
from rgt_arch.archs.rgt_arch import recursion_depth
from rgt_arch.export.graph import GraphRGT

SIZES = [(1, 1), (3, 70), (5, 9), (15, 16), (16, 32), (17, 33)]  # windows are 8×16
SWITCHES: list[dict[str, Any]] = [
    {},
    {"hai": "identity", "resi_connection": "3conv", "qkv_bias": False, "upscale": 3},
    {"hai": "none", "cpe": False, "qk_scale": 0.3, "upscale": 1},
    {"global_blocks": "none", "num_heads": [5], "split_size": [16, 4]},
    {"recursion": 0, "in_chans": 1, "img_range": 255.0},
    {"recursion": 1, "c_ratio": 0.75, "mlp_ratio": 3.0, "upscale": 4},
    {"reduction_stride": 2, "in_chans": 4},
    {"reduction_stride": 3, "recursion": 3, "act_layer": torch.nn.ReLU},
]


def strong(network: RGT) -> RGT:
    """Give position biases and kernels large values, so that an error in any of them shows."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1 or "gamma" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return network.eval()


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_graph_equals_network(switches: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = strong(rgt_t(**{"upscale": 2, "depth": [3], "num_heads": [6], **switches}))
    graph = GraphRGT(copy.deepcopy(network), torch.float32).eval()
    for height, width in SIZES:
        image = torch.rand(2, network.in_chans, height, width)
        with torch.inference_mode():
            torch.testing.assert_close(graph(image), network(image), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("recursion", ["auto", 2])
def test_rounds_follow_the_rule_of_the_recursion(stride: int, recursion: str | int) -> None:
    network = rgt_t(2, depth=[2], num_heads=[6], reduction_stride=stride, recursion=recursion)
    graph = GraphRGT(network, torch.float32)
    sides = sorted({side + more for side in (stride**power for power in range(8)) for more in (-1, 0) if side + more})
    for height, width in itertools.product([*sides, 1023, 1024, 4095, 4096, 16384], repeat=2):
        expected = recursion_depth(height, width, False, stride)
        expected = network.geometry(height, width, torch.device("cpu")).depth if recursion != "auto" else expected
        rounds = graph._rounds(height, width)
        assert sum(each.applies for each in rounds) == expected, (height, width)
        assert (rounds[-1].height, rounds[-1].width) == (height // stride**expected, width // stride**expected)
