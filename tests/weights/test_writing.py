"""Writing: files that others load strictly, small ones, and whole ones or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spandrel import ModelLoader
from spandrel.architectures.RGT import RGT as SpandrelRGT  # noqa: N811
from torch import Tensor

from rgt_arch import RGT
from rgt_arch.errors import UsageError
from rgt_arch.weights import load_model, read_checkpoint, save_checkpoint
from rgt_arch.weights.inspecting import is_derived


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert list(left) == list(right)
    for key in left:
        assert left[key].dtype == right[key].dtype, key
        assert torch.equal(left[key], right[key]), key


@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    depth=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    split_size=st.sampled_from([[8, 8], [4, 16], [2, 8]]),
    resi_connection=st.sampled_from(["1conv", "3conv"]),
    upscale=st.sampled_from([1, 2, 3, 4]),
    qkv_bias=st.booleans(),
)
def test_official_to_slim_to_official_round_trip_is_exact_and_loads_in_spandrel(
    tmp_path: Path, spandrel_network: Callable[..., SpandrelRGT], depth: list[int], **changes: Any
) -> None:
    network = spandrel_network(depth=depth, num_heads=[6] * len(depth), **changes)
    state_dict = network.state_dict()
    slim = save_checkpoint(tmp_path / "slim.safetensors", state_dict)
    checkpoint = read_checkpoint(slim)
    assert not any(is_derived(key) for key in checkpoint.state_dict())
    full = save_checkpoint(tmp_path / "full.pth", checkpoint.state_dict(), config=checkpoint.config)
    assert_equal(torch.load(full, weights_only=True)["params"], state_dict)
    loaded = ModelLoader().load_from_file(full).model.eval()
    image = torch.rand(1, 3, 18, 21)
    with torch.inference_mode():
        assert torch.equal(loaded(image), network(image))


def test_derived_tensors_are_stored_once(tmp_path: Path, spandrel_network: Callable[..., SpandrelRGT]) -> None:
    state_dict = spandrel_network(depth=[3, 3, 3], num_heads=[6] * 3, split_size=[8, 16]).state_dict()
    torch.save({"params": state_dict}, tmp_path / "unshared.pth")
    save_checkpoint(tmp_path / "shared.pth", state_dict)
    save_checkpoint(tmp_path / "slim.safetensors", state_dict)
    weights = sum(4 * tensor.numel() for key, tensor in state_dict.items() if not is_derived(key))
    one_of_each = sum(
        tensor.numel() * tensor.element_size()
        for key, tensor in state_dict.items()
        if key.startswith(("layers.0.blocks.0.", "layers.0.blocks.2.attn.attn_mask")) and is_derived(key)
    )
    overhead = 150_000
    assert (tmp_path / "slim.safetensors").stat().st_size < weights + overhead
    assert (tmp_path / "shared.pth").stat().st_size < weights + one_of_each + overhead
    assert (tmp_path / "unshared.pth").stat().st_size > weights + 3 * one_of_each


def test_full_safetensors_load_in_spandrel(tmp_path: Path, spandrel_network: Callable[..., SpandrelRGT]) -> None:
    network = spandrel_network()
    save_checkpoint(tmp_path / "full.safetensors", network.state_dict(), slim=False)
    loaded = ModelLoader().load_from_file(tmp_path / "full.safetensors").model
    assert_equal(dict(loaded.state_dict()), dict(network.state_dict()))


def test_equal_weights_make_equal_files(tmp_path: Path, official: dict[str, Tensor]) -> None:
    for suffix in ("safetensors", "pth"):
        contents = {
            save_checkpoint(tmp_path / f"{number}.{suffix}", official, info={"iteration": 5, "a": 1}).read_bytes()
            for number in range(3)
        }
        assert len(contents) == 1


def test_a_view_does_not_drag_its_storage_into_the_file(tmp_path: Path, official: dict[str, Tensor]) -> None:
    save_checkpoint(tmp_path / "own.pth", official)
    views = {
        key: torch.cat([tensor.flatten()] * 3)[: tensor.numel()].view(tensor.shape) for key, tensor in official.items()
    }
    for suffix in ("pth", "safetensors"):
        save_checkpoint(tmp_path / f"views.{suffix}", views)
    assert (tmp_path / "views.pth").stat().st_size < (tmp_path / "own.pth").stat().st_size + 1000
    assert_equal(
        read_checkpoint(tmp_path / "views.pth").state_dict(), read_checkpoint(tmp_path / "own.pth").state_dict()
    )


def test_wrapped_and_compiled_networks_are_saved_without_prefixes(tmp_path: Path, config: dict[str, Any]) -> None:
    network = RGT(**config, img_range=255.0)
    plain = read_checkpoint(save_checkpoint(tmp_path / "plain.safetensors", network))
    for wrapped in (
        torch.nn.DataParallel(network),
        torch.compile(network),
        torch.nn.DataParallel(torch.compile(network)),
    ):
        checkpoint = read_checkpoint(save_checkpoint(tmp_path / "wrapped.safetensors", wrapped))
        assert checkpoint.config == plain.config
        assert checkpoint.config["img_range"] == 255.0
        assert checkpoint.state_dict().keys() == plain.state_dict().keys()
    with pytest.raises(UsageError, match="a Linear is not an RGT"):
        save_checkpoint(tmp_path / "linear.pth", torch.nn.Linear(2, 2))


def test_pth_has_the_official_layout(tmp_path: Path, official: dict[str, Tensor]) -> None:
    path = save_checkpoint(tmp_path / "net.pth", official)
    assert_equal(torch.load(path, weights_only=True)["params"], official)
    assert load_model(path).upscale == 2


def test_nothing_assumed_is_recorded_as_known(tmp_path: Path, official: dict[str, Tensor]) -> None:
    checkpoint = read_checkpoint(save_checkpoint(tmp_path / "net.safetensors", official))
    assert checkpoint.config["split_size"] == [4, 8]
    assert "img_range" not in checkpoint.config
    recorded = read_checkpoint(save_checkpoint(tmp_path / "net.pth", official, config={"img_range": 255.0}))
    assert recorded.config["img_range"] == 255.0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net.onnx", "unknown suffix '.onnx'; take .safetensors, .pth"),
        ("net", "unknown suffix ''"),
        ("nowhere/net.pth", "does not exist; make it first"),
    ],
)
def test_unfit_targets_are_refused_before_anything_is_written(
    tmp_path: Path, official: dict[str, Tensor], name: str, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        save_checkpoint(tmp_path / name, official)
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_network_are_not_written(tmp_path: Path, official: dict[str, Tensor]) -> None:
    del official["norm.weight"]
    with pytest.raises(UsageError, match=r"without norm\.weight"):
        save_checkpoint(tmp_path / "net.pth", official)
    assert list(tmp_path.iterdir()) == []


def test_written_safetensors_are_readable_by_the_library_alone(tmp_path: Path, official: dict[str, Tensor]) -> None:
    save_checkpoint(tmp_path / "net.safetensors", official)
    tensors = safetensors.torch.load_file(tmp_path / "net.safetensors")
    assert tensors.keys() == {key for key in official if not is_derived(key)}
