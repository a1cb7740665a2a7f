"""Writing: other programs load the files strictly, files are small, and are written completely or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from spandrel import ModelLoader, UnsupportedModelError
from spandrel.architectures.RGT import RGT as SpandrelRGT  # noqa: N811
from torch import Tensor

from rgt_arch import RGT
from rgt_arch.errors import UsageError, UserError
from rgt_arch.weights.inspecting import PUBLISHED, is_derived, readers
from rgt_arch.weights.reading import read_checkpoint
from rgt_arch.weights.writing import save_checkpoint


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert list(left) == list(right)
    for key in left:
        assert left[key].dtype == right[key].dtype, key
        assert torch.equal(left[key], right[key]), key


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": [3, 1], "num_heads": [6, 6], "split_size": [4, 16], "upscale": 4},
        {"depth": [2], "num_heads": [6], "split_size": [8, 8], "resi_connection": "3conv", "upscale": 3},
        {"depth": [1, 2], "num_heads": [6, 4], "split_size": [2, 8], "qkv_bias": False, "upscale": 1},
    ],
)
def test_official_to_slim_to_official_round_trip_is_exact_and_loads_in_spandrel(
    tmp_path: Path, spandrel_network: Callable[..., SpandrelRGT], changes: dict[str, Any]
) -> None:
    network = spandrel_network(**changes)
    state_dict = dict(network.state_dict())
    checkpoint = read_checkpoint(save_checkpoint(tmp_path / "slim.safetensors", state_dict))
    kept = {key for key in state_dict if not is_derived(key)}
    assert kept == checkpoint.state_dict().keys() == safetensors.torch.load_file(checkpoint.path).keys()
    image = torch.rand(1, 3, 18, 21)
    for name in ("full.pth", "full.safetensors"):
        full = save_checkpoint(tmp_path / name, checkpoint.state_dict(), config=checkpoint.config, slim=False)
        written = read_checkpoint(full).state_dict()
        assert_equal({key: written[key] for key in state_dict}, state_dict)
        loaded = ModelLoader().load_from_file(full).model.eval()
        with torch.inference_mode():
            assert torch.equal(loaded(image), network(image))
    # the order of keys must match too: optimiser states refer to parameters by their order
    assert_equal(torch.load(tmp_path / "full.pth", weights_only=True)["params"], state_dict)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "this package, the official code and spandrel"),
        ({"img_range": 255.0}, "if its option file has img_range: 255.0; spandrel reads another network"),
        ({"qk_scale": 0.3}, "if its option file has qk_scale: 0.3"),
        ({"split_size": [8, 4]}, r"if its option file has split_size: \[8, 4\]"),
        ({"recursion": 1}, "others read another network, because they have no recursion: 1"),
        (
            {"rgb_mean": [0.5, 0.5, 0.25]},
            r"others read another network, because they have no rgb_mean: \[0.5, 0.5, 0.25\]",
        ),
        ({"hai": "none"}, "this package alone, because other programs have no hai: none"),
        ({"cpe": False}, "no cpe: false"),
        ({"reduction_stride": 2}, "no reduction_stride: 2"),
        ({"global_blocks": "none"}, "no global_blocks: none"),
        ({"split_size": [12, 12]}, r"no split_size: \[12, 12\]"),
        ({"split_size": [4, 12], "depth": [2], "num_heads": [6]}, r"no split_size: \[4, 12\]"),
    ],
)
def test_readers_of_a_file_are_those_whose_results_are_equal(
    tmp_path: Path, config: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    torch.manual_seed(0)
    network = RGT(**{**config, **changes}).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    path = save_checkpoint(tmp_path / "net.pth", network)
    assert re.search(words, readers({**PUBLISHED, **read_checkpoint(path).config}))
    assert all(read_checkpoint(path).config[name] == value for name, value in changes.items())
    try:
        other = ModelLoader().load_from_file(path).model.eval()
    except (UnsupportedModelError, RuntimeError, KeyError, ValueError):
        assert "this package alone" in words or words.startswith("no ")
        return
    image = torch.rand(1, 3, 24, 24)
    with torch.inference_mode():
        assert torch.allclose(other(image), network(image), atol=1e-4) == ("spandrel" in words and not changes)


def test_derived_tensors_are_stored_once(tmp_path: Path, spandrel_network: Callable[..., SpandrelRGT]) -> None:
    state_dict = spandrel_network(depth=[3, 3, 3], num_heads=[6] * 3, split_size=[8, 16]).state_dict()
    torch.save({"params": state_dict}, tmp_path / "unshared.pth")
    save_checkpoint(tmp_path / "shared.pth", state_dict)
    save_checkpoint(tmp_path / "slim.safetensors", state_dict)
    weights = sum(4 * tensor.numel() for key, tensor in state_dict.items() if not is_derived(key))
    unshared, shared, slim = (
        (tmp_path / name).stat().st_size - weights for name in ("unshared.pth", "shared.pth", "slim.safetensors")
    )
    assert slim < 150_000
    assert shared < unshared / 3


def test_equal_weights_give_identical_files(tmp_path: Path, official: dict[str, Tensor]) -> None:
    for suffix in ("safetensors", "pth"):
        contents = {
            save_checkpoint(tmp_path / f"{number}.{suffix}", official, info={"iteration": 5, "a": 1}).read_bytes()
            for number in range(3)
        }
        assert len(contents) == 1


def test_wrapped_and_compiled_networks_are_saved_without_prefixes(tmp_path: Path, config: dict[str, Any]) -> None:
    network = RGT(**config, img_range=255.0)
    plain = read_checkpoint(save_checkpoint(tmp_path / "plain.safetensors", network))
    compiled = torch.compile(network)
    for wrapped in (torch.nn.DataParallel(network), compiled, torch.nn.DataParallel(compiled)):
        checkpoint = read_checkpoint(save_checkpoint(tmp_path / "wrapped.safetensors", wrapped))
        assert checkpoint.config == plain.config
        assert checkpoint.config["img_range"] == 255.0
        assert checkpoint.state_dict().keys() == plain.state_dict().keys()
    with pytest.raises(UsageError, match="a Linear is not an RGT"):
        save_checkpoint(tmp_path / "linear.pth", torch.nn.Linear(2, 2))


def test_assumed_argument_is_not_recorded_as_known(tmp_path: Path, official: dict[str, Tensor]) -> None:
    checkpoint = read_checkpoint(save_checkpoint(tmp_path / "net.safetensors", official))
    assert checkpoint.config["split_size"] == [4, 8]
    assert "img_range" not in checkpoint.config
    recorded = read_checkpoint(save_checkpoint(tmp_path / "net.pth", official, config={"img_range": 255.0}))
    assert recorded.config["img_range"] == 255.0


def test_invalid_targets_and_weights_are_refused_and_leave_no_file(tmp_path: Path, official: dict[str, Tensor]) -> None:
    for name, words in (("net.onnx", "unknown suffix '.onnx'"), ("net", "unknown suffix"), ("no/net.pth", "No such")):
        with pytest.raises(UserError, match=words):
            save_checkpoint(tmp_path / name, official)
    del official["norm.weight"]
    for name in ("net.pth", "net.safetensors"):
        with pytest.raises(UsageError, match=r"without norm\.weight"):
            save_checkpoint(tmp_path / name, official)
    assert list(tmp_path.iterdir()) == []
