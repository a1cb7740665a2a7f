"""Compare the network with spandrel's RGT (the unchanged official forward) on random configurations and sizes."""

import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from fill import fill
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spandrel.architectures.RGT import RGT as SpandrelRGT  # noqa: N811
from torch.nn.functional import scaled_dot_product_attention

from rgt_arch import RGT
from rgt_arch.archs import rgt_arch as arch


@st.composite
def configurations(draw: st.DrawFn) -> dict:
    groups = draw(st.integers(1, 2))
    heads, dim = draw(st.sampled_from([(4, 96), (6, 96), (6, 120), (8, 128), (4, 104)]))
    return {
        "embed_dim": dim,
        "depth": [draw(st.integers(1, 4)) for _ in range(groups)],
        "num_heads": [heads] * groups,
        "split_size": draw(st.sampled_from([(8, 8), (4, 8), (8, 16), (16, 8), (2, 8), (8, 32)])),
        "upscale": draw(st.sampled_from([1, 2, 3, 4, 8])),
        "mlp_ratio": draw(st.sampled_from([1.0, 2.0, 2.5])),
        "c_ratio": draw(st.sampled_from([0.25, 0.5, 1.0])) if dim % (4 * heads) == 0 else 0.5,
        "qkv_bias": draw(st.booleans()),
        "qk_scale": draw(st.sampled_from([None, 0.3])),
        "resi_connection": draw(st.sampled_from(["1conv", "3conv"])),
        "in_chans": draw(st.sampled_from([1, 3])),
        "img_range": draw(st.sampled_from([1.0, 255.0])),
        "drop_path_rate": 0.0,
    }


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(configurations(), st.integers(16, 36), st.integers(16, 44), st.booleans(), st.sampled_from([64, 512, 8192]))
def test_output_and_gradients_equal_spandrel(
    config: dict, height: int, width: int, training: bool, slice_pixels: int
) -> None:
    if (config["embed_dim"] * config["c_ratio"]) % config["num_heads"][0]:
        config["c_ratio"] = 0.5
    ours = fill(RGT(**config).double()).train(training)
    theirs = SpandrelRGT(**config).double().train(training)
    theirs.load_state_dict(ours.state_dict())
    image = torch.rand(2, config["in_chans"], height, width, generator=torch.Generator().manual_seed(0)).double()
    expected, out = theirs(image), ours(image)
    scale = expected.abs().max().item()
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-9 * scale)
    if training:
        expected.square().mean().backward()
        out.square().mean().backward()
        largest = max(p.grad.abs().max().item() for p in theirs.parameters() if p.grad is not None)
        for (name, p), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert (p.grad is None) == (other.grad is None), name
            if p.grad is not None:
                torch.testing.assert_close(p.grad, other.grad, rtol=0, atol=1e-9 * largest, msg=name)
    else:
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            # slices smaller than the map, so that they have borders inside it
            patch.setitem(arch.SLICE_PIXELS, "cpu", slice_pixels)
            torch.testing.assert_close(ours(image), expected, rtol=0, atol=1e-9 * scale)


def test_recursion_depth_follows_the_official_rule() -> None:
    for size in ((64, 64), (72, 200), (256, 40), (1030, 17), (16, 4100)):
        for training in (False, True):
            official = max(int(math.log(side // (4 if training else 16), 4)) for side in size)
            official = official if training else max(2, official)
            fits = min(size) >= 4**official
            assert arch.recursion_depth(*size, training) == (official if fits else int(math.log(min(size), 4)))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 3), (5, 2), (15, 15), (20, 260), (1024, 3), (31, 17)])
def test_any_size_works_and_slices_agree_with_the_whole(size: tuple[int, int], training: bool) -> None:
    net = fill(RGT(upscale=2, embed_dim=96, depth=[3], num_heads=[6], split_size=(4, 8), drop_path_rate=0.0).double())
    net.train(training)
    image = torch.rand(1, 3, *size).double()
    out = net(image)
    assert out.shape == (1, 3, 2 * size[0], 2 * size[1])
    assert out.isfinite().all()
    out.mean().backward()
    with torch.no_grad():
        torch.testing.assert_close(net(image), out, rtol=0, atol=1e-10)


@torch.no_grad()
def test_explicit_attention_equals_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fused_attention(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(args)
        return scaled_dot_product_attention(*args, **kwargs)

    monkeypatch.setattr(arch.F, "scaled_dot_product_attention", fused_attention)
    net = fill(RGT(upscale=2, embed_dim=96, depth=[2, 2], num_heads=[4, 4], split_size=(4, 8)).double()).eval()
    image = torch.rand(1, 3, 21, 34).double()
    fused = net(image)
    assert calls
    calls.clear()
    with arch.explicit_attention():
        torch.testing.assert_close(net(image), fused, rtol=0, atol=1e-10)
    assert not calls


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 2), (9, 12)])
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_joined_convolutions_equal_the_published_ones_and_so_do_gradients(scale: int, size: tuple[int, int]) -> None:
    net = fill(RGT(upscale=scale, embed_dim=96, depth=[1], num_heads=[4], split_size=(4, 8)).double())
    features = torch.rand(2, *size, 96, dtype=torch.float64)
    weighted = torch.rand(2, 3, scale * size[0], scale * size[1], dtype=torch.float64)
    results = []
    for context in (nullcontext, arch.explicit_attention):
        net.zero_grad()
        with context():
            out = net.reconstruct(features)
        (out * weighted).sum().backward()
        tail = [*net.conv_before_upsample.parameters(), *net.upsample.parameters(), *net.conv_last.parameters()]
        results.append([out, *(parameter.grad for parameter in tail)])
    for joined, published in zip(*results, strict=True):
        torch.testing.assert_close(joined, published, rtol=0, atol=1e-10 * published.abs().max().item())


def test_initial_weights_have_the_official_distribution() -> None:
    net = RGT(embed_dim=96, depth=[4], num_heads=[4], mlp_ratio=2.0)
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Linear):
            # truncated normal with deviation 0.02; small layers scatter around it
            assert module.weight.abs().max() < 0.2, name
            if module.weight.numel() > 1000:
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), name
            assert not module.bias.any(), name
        elif isinstance(module, torch.nn.LayerNorm):
            assert (module.weight == 1).all(), name
            assert not module.bias.any(), name
        elif isinstance(module, torch.nn.Conv2d):
            bound = (module.weight[0].numel()) ** -0.5  # torch's default: uniform within it
            assert 0.5 * bound < module.weight.abs().max() <= bound, name
            assert 0 < module.bias.abs().max() <= bound, name
    gammas = [value for name, value in net.named_parameters() if name.endswith("gamma")]
    assert len(gammas) == 4
    assert all(torch.equal(gamma, torch.full((96,), 1e-4)) for gamma in gammas)
