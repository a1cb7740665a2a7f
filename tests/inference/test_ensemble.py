"""Self-ensemble: the mean over the eight symmetries of the square, on inputs that are not square."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgt_arch.inference.ensemble import self_ensemble
from rgt_arch.inference.tiling import tiled_forward

torch.set_num_threads(2)


def network(image: Tensor) -> Tensor:
    """A non-linear ×2 network without symmetry, with two output channels."""
    kernel = torch.rand(8, image.shape[1], 3, 3, dtype=image.dtype, generator=torch.manual_seed(3))
    return F.pixel_shuffle(F.conv2d(image, kernel, padding=1).sin(), 2)


def reference(image: Tensor) -> Tensor:
    """Self-ensemble in NumPy: rot90 and left-right flips, averaged at the end."""
    outputs = []
    for turns in range(4):
        for mirror in (False, True):
            view = np.rot90(image.numpy(), turns, (-2, -1))
            view = view[..., ::-1] if mirror else view
            output = network(torch.from_numpy(view.copy())).numpy()
            output = output[..., ::-1] if mirror else output
            outputs.append(np.rot90(output, -turns, (-2, -1)))
    return torch.from_numpy(np.mean(outputs, 0))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(7, 12), (12, 7), (1, 5), (8, 8)])
def test_equals_rotations_and_mirrors_in_numpy(size, layout):
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    result = self_ensemble(lambda x: network(x).contiguous(memory_format=layout), image)
    torch.testing.assert_close(result, reference(image), rtol=0, atol=1e-14)


def test_tiled_ensemble_equals_untiled_ensemble():
    image = torch.rand(1, 3, 33, 50, dtype=torch.float64)
    tiled = self_ensemble(partial(tiled_forward, network, scale=2, tile=16, overlap=8), image)
    torch.testing.assert_close(tiled, self_ensemble(network, image), rtol=0, atol=1e-12)


def test_half_precision_is_summed_in_float32_and_the_input_is_unchanged():
    image = torch.rand(1, 1, 16, 24)
    before = image.clone()
    result = self_ensemble(lambda x: x.half(), image)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, image.half().float(), rtol=0, atol=1e-6)
    torch.testing.assert_close(self_ensemble(lambda x: x, image), image, rtol=0, atol=1e-6)
    assert torch.equal(image, before)


def test_memory_is_two_outputs_not_eight():
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
