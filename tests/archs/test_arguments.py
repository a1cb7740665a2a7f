"""Constructor arguments: errors for invalid values, and the switches for research."""

import functools
import logging

import pytest
import torch
from fill import fill

from rgt_arch import RGT
from rgt_arch.archs import rgt_arch as arch
from rgt_arch.archs.rgt_arch import LocalAttention

CONFIG = {"upscale": 2, "embed_dim": 96, "depth": [4], "num_heads": [6], "split_size": (8, 16), "mlp_ratio": 2.0}
GROUP = CONFIG | {"depth": [3]}  # L-SA, RG-SA, shifted L-SA


def test_unknown_argument_suggests_the_nearest_and_upsampler_is_ignored_with_a_log_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TypeError, match="`num_head`: did you mean `num_heads`"):
        RGT(**CONFIG, num_head=[6])
    monkeypatch.setattr(logging.getLogger("basicsr"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="basicsr"):
        RGT(**CONFIG, upsampler="pixelshuffle")
    assert "upsampler" in caplog.text


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("upscale", 5, "upscale 5 .* 3 or a power of two"),
        ("num_heads", [6, 6], "one entry for each group"),
        ("num_heads", [5], "cannot be shared out|divisible"),
        ("split_size", (8,), "two positive integers"),
        ("split_size", (8, 12), "one a multiple of the other"),
        ("drop_path_rate", 1.0, "drop_path_rate 1.0 must be from 0 to below 1"),
        ("resi_connection", "2conv", "'2conv' is not one of 1conv, 3conv"),
        ("c_ratio", 0.3, "c_ratio 0.3 gives 28 channels for 6 heads"),
        ("hai", "no", "learned, identity, none"),
        ("global_blocks", "all", "rg_sa, none"),
        ("recursion", -1, "`auto` or a depth"),
        ("reduction_stride", 1, "at least 2"),
    ],
)
def test_invalid_value_is_refused_with_the_valid_ones(argument: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RGT(**(CONFIG | {argument: value}))


@functools.cache
def paper_output() -> tuple[torch.Tensor, torch.Tensor]:
    """An image and the network's output for it with the paper's settings."""
    image = torch.rand(1, 3, 53, 37, generator=torch.Generator().manual_seed(0)).double()
    return image, fill(RGT(**GROUP).double()).eval()(image).detach()


@pytest.mark.parametrize(
    ("switch", "fewer"),
    [
        ({"hai": "identity"}, {"gamma"}),
        ({"hai": "none"}, {"gamma"}),
        ({"cpe": False}, {"cpe"}),
        ({"global_blocks": "none"}, {"reduction1", "cpe"}),
        ({"recursion": 0}, set()),
        ({"recursion": 1}, set()),
        ({"reduction_stride": 2}, set()),
        ({"reduction_stride": 3}, set()),  # slices are multiples of 16, which is not a multiple of 3
        ({"c_ratio": 1.0}, set()),
    ],
)
def test_each_switch_changes_the_output_and_slicing_does_not(
    switch: dict, fewer: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(arch.SLICE_PIXELS, "cpu", 64)
    image, paper = paper_output()
    net = fill(RGT(**(GROUP | switch)).double()).eval()
    out = net(image)
    assert (out - paper).abs().max() > 1e-3
    with torch.no_grad():
        torch.testing.assert_close(net(image), out, rtol=0, atol=1e-10)
    names = {name for name, _ in net.named_parameters()}
    for part in fewer:
        assert not any(part in name for name in names)
    net.train()(image).mean().backward()


def test_hai_adds_the_weighted_input_of_the_block() -> None:
    block_input = torch.rand(1, 16, 16, 96).double()
    outputs = {}
    for hai in ("identity", "none", "learned"):
        net = fill(RGT(**CONFIG, hai=hai).double()).eval()
        block = net.layers[0].blocks[1]
        outputs[hai] = block(block_input, net.geometry(16, 16, block_input.device))
    torch.testing.assert_close(outputs["identity"] - outputs["none"], block_input)
    torch.testing.assert_close(outputs["learned"] - outputs["none"], block.gamma * block_input)


def test_without_global_blocks_every_second_block_is_shifted() -> None:
    net = RGT(**(CONFIG | {"depth": [4, 4], "num_heads": [6, 6]}), global_blocks="none")
    for group in net.layers:
        shifted = [block.attn.shifted for block in group.blocks]
        assert all(isinstance(block.attn, LocalAttention) for block in group.blocks)
        assert shifted[0] != shifted[1]
        assert shifted[2] != shifted[3]


def test_config_builds_the_same_network_again() -> None:
    arguments = CONFIG | {"num_heads": [3], "c_ratio": 0.51, "img_range": 255.0, "hai": "identity", "cpe": False}
    arguments |= {"rgb_mean": (0.5, 0.5, 0.25)}
    net = RGT(**arguments)
    twin = RGT(**net.config)
    assert twin.config == net.config
    assert twin.state_dict().keys() == net.state_dict().keys()
    assert all(net.config[name] == (list(v) if isinstance(v, tuple) else v) for name, v in arguments.items())
