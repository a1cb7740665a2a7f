"""load_model: the network of a file gives the outputs of the official code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from spandrel.architectures.RGT import RGT as SpandrelRGT  # noqa: N811
from torch import Tensor

from rgt_arch import RGT
from rgt_arch.errors import UsageError
from rgt_arch.weights.building import load_model
from rgt_arch.weights.writing import convert_checkpoint, save_checkpoint

IMAGE = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(1))
SMALL = {"embed_dim": 96, "depth": [2], "num_heads": [6], "split_size": [4, 8]}


def outputs(network: torch.nn.Module) -> Tensor:
    """Output in float64, in which two implementations with equal weights agree to many digits."""
    with torch.inference_mode():
        return network.double()(IMAGE.double())


@pytest.mark.parametrize(
    "changes",
    [{}, {"resi_connection": "3conv", "qkv_bias": False, "upscale": 3}, {"depth": [1], "num_heads": [2], "upscale": 1}],
)
def test_official_file_gives_the_official_outputs_of_its_ema_weights(
    tmp_path: Path, spandrel_network: Callable[..., SpandrelRGT], changes: dict[str, Any]
) -> None:
    network, path = spandrel_network(**changes), tmp_path / "net.pth"
    ema = network.state_dict()
    other = {key: tensor + 1 if tensor.is_floating_point() else tensor for key, tensor in ema.items()}
    expected = outputs(network)
    for content in ({"params": ema}, {"params": other, "params_ema": ema}):
        torch.save(content, path)
        loaded = load_model(path)
        assert isinstance(loaded, RGT)
        assert not loaded.training
        assert torch.allclose(outputs(loaded), expected, atol=1e-9)
    before = outputs(loaded)
    path.write_bytes(bytes(path.stat().st_size))  # in place, as BasicSR overwrites net_g_latest.pth
    assert torch.equal(outputs(loaded), before)


def test_weights_of_another_rgb_mean_load_with_it(tmp_path: Path, spandrel_network: Callable[..., SpandrelRGT]) -> None:
    """As of programs that changed the mean in their copy of the official code; a converted file carries it."""
    network, mean = spandrel_network(), [0.5, 0.25, 0.75]
    torch.save(network.state_dict(), tmp_path / "net.pth")
    network.mean = torch.tensor(mean).view(1, 3, 1, 1)
    expected = outputs(network)
    assert not torch.allclose(outputs(load_model(tmp_path / "net.pth")), expected, atol=1e-3)
    assert torch.allclose(outputs(load_model(tmp_path / "net.pth", rgb_mean=mean)), expected, atol=1e-9)
    convert_checkpoint(tmp_path / "net.pth", tmp_path / "net.safetensors", known={"rgb_mean": mean})
    assert torch.allclose(outputs(load_model(tmp_path / "net.safetensors")), expected, atol=1e-9)
    for wrong in (0.5, [0.5], [0.5, 0.5, "a"], {"a": 1}):
        with pytest.raises(UsageError, match=r"net\.pth: no RGT has these arguments: .+"):
            load_model(tmp_path / "net.pth", rgb_mean=wrong)


def test_arguments_not_visible_in_weights_come_from_the_record_or_the_caller(tmp_path: Path) -> None:
    torch.manual_seed(0)
    known = {"img_range": 255.0, "qk_scale": 0.3, "hai": "identity", "recursion": 1}
    network = RGT(**SMALL, **known, reduction_stride=2).eval()
    expected = outputs(network)
    for name in ("slim.safetensors", "slim.pth", "full.pth"):
        save_checkpoint(tmp_path / name, network, slim=name.startswith("slim"))
        assert torch.allclose(outputs(load_model(tmp_path / name)), expected, atol=1e-9), name
    torch.save({"params": network.state_dict()}, tmp_path / "bare.pth")
    assert torch.allclose(outputs(load_model(tmp_path / "bare.pth", **known)), expected, atol=1e-9)
    with pytest.raises(UsageError, match=r"bare\.pth: it holds no HAI weights .* pass hai=identity or hai=none"):
        load_model(tmp_path / "bare.pth")


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_heads": [3]},
        {"num_heads": [3, 2], "depth": [2, 1]},
        {"c_ratio": 0.508},
        {"mlp_ratio": 1.337},
        {"depth": [1], "c_ratio": 0.25, "reduction_stride": 2, "cpe": False, "global_blocks": "none"},
    ],
)
def test_ambiguous_arguments_come_from_the_record(tmp_path: Path, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = RGT(**{**SMALL, **arguments}).eval()
    for name in ("net.pth", "net.safetensors"):
        loaded = load_model(save_checkpoint(tmp_path / name, network))
        assert loaded.config == network.config
        assert torch.equal(outputs(loaded), outputs(network))


def test_half_precision_files_give_float32_networks_and_accept_overrides(
    tmp_path: Path, official: dict[str, Tensor]
) -> None:
    halved = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in official.items()}
    torch.save({"params": halved}, tmp_path / "half.pth")
    network = load_model(tmp_path / "half.pth", use_chk=True)
    assert network.use_chk
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert outputs(network).isfinite().all()
    with pytest.raises(UsageError, match=r"half\.pth: .*unknown argument `use_chck`: did you mean `use_chk`"):
        load_model(tmp_path / "half.pth", use_chck=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("norm.weight"), r"does not fit RGT: without norm\.weight"),
        (lambda w: w.update(extra=torch.ones(1)), "with unknown extra"),
        (
            lambda w: w.update({"norm.bias": torch.ones(5)}),
            r"other shapes of norm\.bias \(5 in the file, 96 in the network\)",
        ),
        (lambda w: w.update({"layers.0.blocks.2.attn.attns.0.rpe_biases": torch.ones(5, 2)}), "made for other windows"),
        (lambda w: [w.pop(key) for key in list(w) if "norm2" in key], "without .* and 5 more"),
        (lambda w: [w.pop(key) for key in list(w) if "blocks.1." in key], r"without layers\.0\.blocks\.1\."),
        (
            lambda w: [w.pop(key) for key in list(w) if "s.0.pos." in key],
            "no RGT's position bias, which shows num_heads",
        ),
        (lambda w: w.update({key: tensor.to(torch.complex64) for key, tensor in w.items()}), "not a complete RGT's"),
    ],
)
def test_mismatched_weights_are_named_in_one_line(
    tmp_path: Path, official: dict[str, Tensor], change: Callable[[dict[str, Tensor]], Any], words: str
) -> None:
    change(official)
    torch.save({"params": official}, tmp_path / "net.pth")
    with pytest.raises(UsageError, match=rf"net\.pth: .*{words}") as caught:
        load_model(tmp_path / "net.pth")
    assert "\n" not in str(caught.value)
