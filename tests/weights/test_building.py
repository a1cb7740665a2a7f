"""load_model: the network a file holds, with the outputs of the official code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from spandrel.architectures.RGT import RGT as SpandrelRGT  # noqa: N811
from torch import Tensor

import rgt_arch.weights
from rgt_arch import RGT
from rgt_arch.errors import UsageError
from rgt_arch.weights import load_model, save_checkpoint
from rgt_arch.weights.inspecting import is_derived

IMAGE = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(1))


def outputs(network: torch.nn.Module) -> Tensor:
    """In float64, where two implementations with the same weights agree to many digits."""
    with torch.inference_mode():
        return network.double()(IMAGE.double())


@pytest.mark.parametrize(
    "changes",
    [{}, {"resi_connection": "3conv", "qkv_bias": False, "upscale": 3}, {"depth": [1], "num_heads": [2], "upscale": 1}],
)
def test_official_file_gives_the_official_outputs(
    tmp_path: Path, spandrel_network: Callable[..., SpandrelRGT], changes: dict[str, Any]
) -> None:
    network = spandrel_network(**changes)
    torch.save({"params": network.state_dict()}, tmp_path / "net.pth")
    loaded = load_model(tmp_path / "net.pth")
    assert isinstance(loaded, RGT)
    assert not loaded.training
    assert torch.allclose(outputs(loaded), outputs(network), atol=1e-9)


def test_ema_weights_are_taken(tmp_path: Path, spandrel_network: Callable[..., SpandrelRGT]) -> None:
    network = spandrel_network()
    ema = network.state_dict()
    other = {key: tensor + 1 if tensor.is_floating_point() else tensor for key, tensor in ema.items()}
    torch.save({"params": other, "params_ema": ema}, tmp_path / "net.pth")
    assert torch.allclose(outputs(load_model(tmp_path / "net.pth")), outputs(network), atol=1e-9)


def test_what_the_file_cannot_tell_comes_from_its_record_or_the_caller(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = RGT(
        embed_dim=96, depth=[2], num_heads=[6], split_size=[4, 8], img_range=255.0, qk_scale=0.3, hai="identity",
        recursion=1, reduction_stride=2,
    ).eval()  # fmt: skip
    expected = outputs(network)
    for name in ("slim.safetensors", "slim.pth", "full.pth"):
        save_checkpoint(tmp_path / name, network, slim=name.startswith("slim"))
        assert torch.allclose(outputs(load_model(tmp_path / name)), expected, atol=1e-9), name
    torch.save({"params": network.state_dict()}, tmp_path / "bare.pth")
    told = {"img_range": 255.0, "qk_scale": 0.3, "hai": "identity", "recursion": 1}
    assert torch.allclose(outputs(load_model(tmp_path / "bare.pth", **told)), expected, atol=1e-9)
    with pytest.raises(UsageError, match=r"bare\.pth: it holds no HAI weights"):
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
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_arguments_that_tensors_show_vaguely_come_from_the_record(
    tmp_path: Path, arguments: dict[str, Any], name: str
) -> None:
    torch.manual_seed(0)
    network = RGT(**{"embed_dim": 96, "depth": [2], "num_heads": [6], "split_size": [4, 8], **arguments}).eval()
    save_checkpoint(tmp_path / name, network)
    loaded = load_model(tmp_path / name)
    assert loaded.config == network.config
    assert torch.equal(outputs(loaded), outputs(network))


def test_half_precision_files_give_float32_networks(tmp_path: Path, official: dict[str, Tensor]) -> None:
    halved = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in official.items()}
    torch.save({"params": halved}, tmp_path / "half.pth")
    network = load_model(tmp_path / "half.pth")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert outputs(network).isfinite().all()


def test_overrides_reach_the_network_and_wrong_ones_are_named(tmp_path: Path, official: dict[str, Tensor]) -> None:
    torch.save({"params": official}, tmp_path / "net.pth")
    assert load_model(tmp_path / "net.pth", use_chk=True).use_chk
    with pytest.raises(UsageError, match=r"net\.pth: .*unknown argument `use_chck`: did you mean `use_chk`"):
        load_model(tmp_path / "net.pth", use_chck=True)


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
    ],
)
def test_weights_that_do_not_fit_are_named_in_one_line(
    tmp_path: Path, official: dict[str, Tensor], change: Callable[[dict[str, Tensor]], Any], words: str
) -> None:
    change(official)
    torch.save({"params": official}, tmp_path / "net.pth")
    with pytest.raises(UsageError, match=rf"net\.pth: .*{words}") as caught:
        load_model(tmp_path / "net.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"qk_scale": "abc"}, "qk_scale must be a finite number, not 'abc'"),
        ({"qk_scale": float("nan")}, "qk_scale must be a finite number"),
        ({"img_range": float("inf")}, "img_range must be a finite number"),
    ],
)
def test_records_that_no_network_can_have_are_refused_in_one_line(
    tmp_path: Path, official: dict[str, Tensor], record: dict[str, Any], words: str
) -> None:
    slim = {key: tensor for key, tensor in official.items() if not is_derived(key)}
    torch.save({"params": slim, "rgt_config": record}, tmp_path / "net.pth")
    with pytest.raises(UsageError, match=rf"net\.pth: .*{words}") as caught:
        load_model(tmp_path / "net.pth")
    assert "\n" not in str(caught.value)


def test_complex_weights_are_refused_in_one_line(tmp_path: Path, official: dict[str, Tensor]) -> None:
    torch.save({"params": {key: tensor.to(torch.complex64) for key, tensor in official.items()}}, tmp_path / "net.pth")
    with pytest.raises(UsageError, match=r"net\.pth: its weights are not a complete RGT's"):
        load_model(tmp_path / "net.pth")


def test_loaded_weights_do_not_depend_on_the_file(tmp_path: Path, official: dict[str, Tensor]) -> None:
    path = tmp_path / "net.pth"
    torch.save({"params": official}, path)
    network = load_model(path)
    before = outputs(network)
    path.write_bytes(bytes(path.stat().st_size))  # in place, as BasicSR overwrites net_g_latest.pth
    assert torch.equal(outputs(network), before)


def test_public_names() -> None:
    assert {"load_model", "read_checkpoint", "save_checkpoint", "infer_config"} <= set(rgt_arch.weights.__all__)
