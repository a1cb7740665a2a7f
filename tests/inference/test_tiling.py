"""Tiles without seams, exact if the receptive field is within the margin; official chops; the ×8 self-ensemble."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rgt_arch.inference.tiling import blend_weights, chop_forward, self_ensemble, tiled_forward

torch.set_num_threads(2)


def enlarge(scale: int):
    return lambda image: image.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


def local_network(radius: int, scale: int):
    """A network with a receptive field of exactly `radius` pixels and zero padding, which then enlarges."""
    kernel = torch.rand(1, 1, 2 * radius + 1, 2 * radius + 1, dtype=torch.float64, generator=torch.manual_seed(radius))

    def run(image: Tensor) -> Tensor:
        return enlarge(scale)(F.conv2d(image, kernel, padding=radius).sin())

    return run


@st.composite
def tilings(draw):
    tile = draw(st.integers(16, 32))
    return tile, draw(st.integers(0, tile // 2)), draw(st.integers(1, 70)), draw(st.integers(1, 70))


@settings(max_examples=150, deadline=None)
@given(tilings(), st.integers(1, 3))
def test_equals_untiled_if_the_receptive_field_is_a_quarter_of_the_overlap(tiling, scale):
    tile, overlap, height, width = tiling
    network = local_network(overlap // 4, scale)
    image = torch.rand(2, 1, height, width, dtype=torch.float64, generator=torch.manual_seed(7))
    output = tiled_forward(network, image, scale, tile, overlap, batch=1 + scale)
    torch.testing.assert_close(output, network(image), rtol=0, atol=1e-12)


def test_larger_receptive_fields_are_blended():
    image = torch.rand(1, 1, 61, 83, dtype=torch.float64)
    farther = local_network(5, 2)
    assert (tiled_forward(farther, image, 2, 24, 12) - farther(image)).abs().max() > 1e-6


@settings(max_examples=200, deadline=None)
@given(tilings(), st.integers(1, 4))
def test_weights_sum_to_one_and_are_not_zero_at_the_image_border(tiling, scale):
    tile, overlap, length, _ = tiling
    margin = overlap // 4
    total = torch.zeros(length * scale, dtype=torch.float64)
    found = blend_weights(length, tile, overlap, scale)
    for start, weight in found:
        assert len(weight) == min(tile, length) * scale
        total[start * scale : start * scale + len(weight)] += weight
        if start > 0:
            assert not weight[: margin * scale].any()
        if start + tile < length:
            assert not weight[len(weight) - margin * scale :].any()
    torch.testing.assert_close(total, torch.ones_like(total))
    assert found[0][1][0] > 0
    assert found[-1][1][-1] > 0
    assert found[-1][0] + min(tile, length) == length
    assert all(0 < b - a <= tile - overlap for (a, _), (b, _) in pairwise(found))


def test_seam_between_different_tiles_is_a_smooth_slope():
    """Between tiles that differ by 1, neighbouring output pixels differ little."""
    calls = iter(range(100))
    output = tiled_forward(
        lambda image: enlarge(4)(torch.full_like(image, next(calls) % 2)), torch.zeros(1, 1, 20, 80), 4, 48, 16
    )
    assert output.max() == 1
    assert output.min() == 0
    assert output.diff(dim=-1).abs().max() < 0.06


@settings(max_examples=60, deadline=None)
@given(tilings())
def test_tiles_have_equal_size(tiling):
    tile, overlap, height, width = tiling
    sizes = []
    image = torch.rand(1, 1, height, width)
    tiled_forward(lambda x: sizes.append(tuple(x.shape[-2:])) or x, image, 1, tile, overlap)
    assert set(sizes) == {(min(tile, height), min(tile, width))}


def test_tile_larger_than_image_is_one_call_on_the_image_itself():
    seen = []
    image = torch.rand(1, 3, 9, 30)
    output = tiled_forward(lambda x: seen.append(x) or x * 2, image, 1, 30, 8)
    assert len(seen) == 1
    assert seen[0] is image
    assert torch.equal(output, image * 2)


def test_half_precision_outputs_are_summed_in_float32_and_channels_may_change():
    image = torch.full((1, 2, 40, 40), 0.7)
    output = tiled_forward(lambda x: x[:, :1].to(torch.float16), image, 1, 16, 8)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, image[:, :1].half().float(), rtol=0, atol=1e-6)


def test_output_of_another_scale_is_a_value_error():
    with pytest.raises(ValueError, match="expected"):
        tiled_forward(lambda x: x, torch.rand(1, 1, 40, 40), 2, 16, 8)


def official_chop(network, image: Tensor, scale: int) -> Tensor:
    """The official use_chop rule with an index per pixel: each pixel has one piece and one position in it."""

    def axis(length: int):
        count = length // 200 + 1
        padded = -(-length // count) * count
        source = [i if i < length else 2 * length - 1 - i for i in range(padded)]
        size = padded // count
        spans = [(max(0, i * size - 16), min(padded, (i + 1) * size + 16)) for i in range(count)]
        return source, size, spans

    source_y, size_y, spans_y = axis(image.shape[-2])
    source_x, size_x, spans_x = axis(image.shape[-1])
    padded = image[..., source_y, :][..., source_x]
    rows = []
    for i, (top, bottom) in enumerate(spans_y):
        row = []
        for j, (left, right) in enumerate(spans_x):
            result = network(padded[..., top:bottom, left:right])
            y, x = (i * size_y - top) * scale, (j * size_x - left) * scale
            row.append(result[..., y : y + size_y * scale, x : x + size_x * scale])
        rows.append(torch.cat(row, -1))
    return torch.cat(rows, -2)[..., : image.shape[-2] * scale, : image.shape[-1] * scale]


@pytest.mark.parametrize("size", [(7, 5), (199, 200), (201, 399), (400, 601), (20, 1001)])
@pytest.mark.parametrize("scale", [1, 2])
def test_chop_equals_official_rule(size, scale):
    def network(image: Tensor) -> Tensor:  # depends on the whole piece, so another cut gives other values
        return enlarge(scale)(F.avg_pool2d(image, 5, 1, 2) + image.mean((-2, -1), keepdim=True))

    image = torch.rand(2, 3, *size)
    torch.testing.assert_close(
        chop_forward(network, image, scale), official_chop(network, image, scale), rtol=0, atol=0
    )


def asymmetric(image: Tensor) -> Tensor:
    """A non-linear ×2 network without symmetry, with two output channels."""
    kernel = torch.rand(8, image.shape[1], 3, 3, dtype=image.dtype, generator=torch.manual_seed(3))
    return F.pixel_shuffle(F.conv2d(image, kernel, padding=1).sin(), 2)


def ensemble_in_numpy(image: Tensor) -> Tensor:
    """Self-ensemble in NumPy: rot90 and left-right flips, averaged at the end."""
    outputs = []
    for turns in range(4):
        for mirror in (False, True):
            view = np.rot90(image.numpy(), turns, (-2, -1))
            view = view[..., ::-1] if mirror else view
            output = asymmetric(torch.from_numpy(view.copy())).numpy()
            output = output[..., ::-1] if mirror else output
            outputs.append(np.rot90(output, -turns, (-2, -1)))
    return torch.from_numpy(np.mean(outputs, 0))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(7, 12), (12, 7), (1, 5), (8, 8)])
def test_ensemble_equals_rotations_and_mirrors_in_numpy(size, layout):
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    result = self_ensemble(lambda x: asymmetric(x).contiguous(memory_format=layout), image)
    torch.testing.assert_close(result, ensemble_in_numpy(image), rtol=0, atol=1e-14)


def test_tiled_ensemble_equals_untiled_ensemble():
    image = torch.rand(1, 3, 33, 50, dtype=torch.float64)
    tiled = self_ensemble(partial(tiled_forward, asymmetric, scale=2, tile=16, overlap=8), image)
    torch.testing.assert_close(tiled, self_ensemble(asymmetric, image), rtol=0, atol=1e-12)


def test_ensemble_sums_half_precision_in_float32_and_does_not_change_the_input():
    image = torch.rand(1, 1, 16, 24)
    before = image.clone()
    result = self_ensemble(lambda x: x.half(), image)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, image.half().float(), rtol=0, atol=1e-6)
    torch.testing.assert_close(self_ensemble(lambda x: x, image), image, rtol=0, atol=1e-6)
    assert torch.equal(image, before)


def test_memory_of_the_ensemble_is_two_outputs_not_eight():
    """Peak of torch's allocations, counted by its profiler: the sum, one output and one plane."""
    image = torch.rand(1, 3, 64, 96)
    live = peak = 0
    with torch.profiler.profile(profile_memory=True) as profile:
        self_ensemble(lambda x: x.repeat_interleave(4, -1).repeat_interleave(4, -2), image)
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    output = 3 * 256 * 384 * 4
    assert 2 * output < peak < 2.7 * output  # repeat_interleave briefly needs a quarter of an output
