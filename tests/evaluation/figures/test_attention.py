"""The attention weights of a figure are the network's own: they reproduce its output at the query."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgt_arch import RGT
from rgt_arch.evaluation.figures.attention import blocks_of, global_weights, is_global, watch, window_weights

SIZES = [(21, 34), (32, 16)]  # with padding and without


def image(size: tuple[int, int]) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(5))


def own_output(network: RGT, place: tuple[int, int], entering: Tensor) -> Tensor:
    """Output of the block's attention for these features, before the residual addition: (1, H, W, C)."""
    block = blocks_of(network)[place]
    geometry = network.geometry(*entering.shape[1:3], entering.device)
    with torch.no_grad():
        return block.attn(block.norm1(entering), geometry)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("query", [(0, 0), (13, 9), (20, 15)])
def test_weights_over_the_representative_map_give_the_networks_output(network, size, query):
    place = (0, 1)
    block = blocks_of(network)[place]
    seen = watch(network, image(size), [place])
    weights = global_weights(block, seen.entering[place], seen.representative[place], query)
    torch.testing.assert_close(weights.sum(dim=(1, 2)), torch.ones(6))
    with torch.no_grad():
        value = block.attn.v(seen.representative[place]).permute(0, 3, 1, 2)
        value = (value + block.attn.cpe(value))[0].view(6, 16, *weights.shape[1:])
        output = block.attn.proj(torch.einsum("nhw,nchw->nc", weights, value).reshape(-1))
    expected = own_output(network, place, seen.entering[place])[0, query[0], query[1]]
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", [(0, 0), (0, 2), (1, 0)])
@pytest.mark.parametrize("query", [(0, 0), (13, 9), (20, 15)])
def test_weights_inside_windows_give_the_networks_output(network, size, place, query):
    """One unshifted block and two shifted ones; queries in wrapped and in padded windows."""
    block = blocks_of(network)[place]
    seen = watch(network, image(size), [place])
    geometry = network.geometry(*size, torch.device("cpu"))
    branches = window_weights(block, seen.entering[place], geometry, query)
    with torch.no_grad():
        value = block.attn.qkv(block.norm1(seen.entering[place]))[0, ..., 2 * 96 :]
        parts = []
        for number, branch in enumerate(branches):
            torch.testing.assert_close(branch.weights.nansum(dim=(1, 2)) + branch.padding, torch.ones(3))
            v = value[..., number * 48 : (number + 1) * 48].view(*size, 3, 16)
            parts.append(torch.einsum("nhw,hwnc->nc", branch.weights.nan_to_num(0), v).reshape(-1))
        planes = value.permute(2, 0, 1)[None]
        local = F.conv2d(planes, block.attn.get_v.weight, block.attn.get_v.bias, padding=1, groups=96)
        output = block.attn.proj(torch.cat(parts) + local[0, :, query[0], query[1]])
    expected = own_output(network, place, seen.entering[place])[0, query[0], query[1]]
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def test_watching_changes_nothing_and_leaves_no_hooks(network):
    before = network(image((24, 24)))
    seen = watch(network, image((24, 24)), [(0, 0)])
    assert set(seen.entering) == {(0, 0)}
    assert set(seen.representative) == {place for place, block in blocks_of(network).items() if is_global(block)}
    assert torch.equal(network(image((24, 24))), before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
