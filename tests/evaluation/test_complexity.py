"""Counted parameters and multiply-adds equal those of the paper and of the official forward."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from spandrel.architectures.RGT import RGT as OfficialRGT  # noqa: N811
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.evaluation.complexity import LSA, RGSA, Size, count
from rgt_arch.evaluation.tables.results import paper

SMALL = {"upscale": 2, "embed_dim": 96, "split_size": [4, 8], "mlp_ratio": 2.0, "depth": [2], "num_heads": [6]}


@pytest.mark.parametrize("name", ["RGT-S", "RGT"])
def test_counts_equal_the_published_figures_to_the_last_digit(name):
    whole = count({"upscale": 4, **PRESETS[name]}, Size(128, 128)).whole
    published = paper()["complexity_x4_output_3x512x512"][name]
    assert whole.parameters == paper()["exact_params"][name]["x4"]
    assert round(whole.parameters / 1e6, 2) == published["params_M"]
    assert round(whole.total / 1e9, 2) == published["flops_G"]
    assert abs(whole.products / 1e9 / published["flops_G"] - 1) < 0.01


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"depth": [4, 3], "num_heads": [6, 4]}, Size(20, 44)),  # many equal blocks, some with other head counts
        ({"c_ratio": 0.25}, Size(32, 32)),
        ({"c_ratio": 1.0}, Size(33, 32)),
        ({"resi_connection": "3conv", "upscale": 3, "qkv_bias": False}, Size(16, 16)),
    ],
)
def test_products_and_norms_equal_those_of_the_official_forward(changes, size):
    config = {**SMALL, **changes}
    official = OfficialRGT(**config).eval()
    norms = []
    for module in official.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(partial(lambda norms, _, __, out: norms.append(5 * out.numel()), norms))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        official(torch.rand(1, 3, *size))
    counted = count(config, size).whole
    assert 2 * counted.products == counter.get_total_flops()
    assert counted.norm == sum(norms)
    assert counted.parameters == sum(parameter.numel() for parameter in official.parameters())


def test_parts_are_counted_separately():
    counted = count({**SMALL, "depth": [4, 2], "num_heads": [6, 6]}, Size(32, 32))
    assert counted.part("HAI").parameters == 6 * 96
    assert counted.part(RGSA).parameters + counted.part(LSA).parameters < counted.whole.parameters
    assert counted.part("first convolution").products == 32 * 32 * 9 * 3 * 96
    assert counted.part("convolutions of groups and body").products == 3 * 32 * 32 * 9 * 96 * 96
    mlp = counted.part("gated MLP")
    assert mlp.linear == 6 * 32 * 32 * (96 * 192 + 96 * 96)
    assert mlp.convolution == 6 * 32 * 32 * 9 * 96
    assert mlp.attention == 0
    # L-SA: 32 keys in a window of 4×8, queries times keys and weights times values
    assert counted.part(LSA).attention == 3 * 32 * 32 * 2 * 32 * 96
    # RG-SA: 2×2 keys, half as wide as the values
    assert counted.representative == (2, 2)
    assert counted.part(RGSA).attention == 3 * 32 * 32 * 4 * (48 + 96)


def test_switches_change_the_parts():
    size = Size(32, 32)
    assert count({**SMALL, "hai": "none"}, size).part("HAI").parameters == 0
    assert count({**SMALL, "global_blocks": "none"}, size).part(RGSA).parameters == 0
    plain, without = count(SMALL, size), count({**SMALL, "cpe": False}, size)
    assert plain.part(RGSA).parameters - without.part(RGSA).parameters == 10 * 96
    assert plain.part(RGSA).products - without.part(RGSA).products == 2 * 2 * 9 * 96
    assert count({**SMALL, "recursion": 1}, size).representative == (8, 8)
