"""Reading: every layout and prefix gives the same weights; other files are refused in one line and run no code."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from rgt_arch.errors import UsageError
from rgt_arch.torch_files import load_data_only
from rgt_arch.weights.reading import read_checkpoint

WEIGHTS = {
    key: torch.arange(6.0).view(2, 3)
    for key in ("conv_first.weight", "before_RG.1.weight", "layers.0.blocks.0.mlp.sg.conv.weight", "conv_last.weight")
}
SWINIR = {key: torch.ones(2) for key in ("conv_first.weight", "layers.0.residual_group.conv.weight")}
EMA = {key: tensor + 1 for key, tensor in WEIGHTS.items()}
PREFIXES = ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module._orig_mod."]
LAYOUTS = {
    "plain": lambda weights: weights,
    "params": lambda weights: {"params": weights},
    "params_ema": lambda weights: {"params_ema": weights},
    "Lightning": lambda weights: {"state_dict": weights, "epoch": 3, "hyper_parameters": {"lr": 0.1}},
    "a prefix of the program's": lambda weights: {
        "state_dict": {"loss.weight": torch.ones(1)} | {f"net_g.{key}": tensor for key, tensor in weights.items()}
    },
    "averaged by torch": lambda weights: {"n_averaged": torch.tensor(5), **weights},
    "two networks": lambda weights: {"net_d": {"conv0.weight": torch.ones(1)}, "net_g": weights},
    "averaged, with a number": lambda weights: {"n_averaged": 5, **weights},
    "SwinIR and RGT": lambda weights: {"student": SWINIR, "teacher": weights},
    "dashed": lambda weights: {"params": EMA, "params-ema": weights},
    "model and ema": lambda weights: {"model": EMA, "ema": weights, "optimizer": {"state": {0: EMA}}},
    "one in the other": lambda weights: {"checkpoint": {"state_dict": EMA, "ema_state_dict": weights}, "iter": 5},
    "two prefixes": lambda weights: {
        "state_dict": {f"generator.{key}": tensor for key, tensor in EMA.items()}
        | {f"generator_ema.{key}": tensor for key, tensor in weights.items()}
        | {"step_counter": torch.tensor(5), "discriminator.conv0.weight": torch.ones(2)}
    },
    "settings": lambda weights: {
        "model": weights,
        "psnr": np.float64(31.5),
        "args": argparse.Namespace(seed=np.int64(3), betas=np.array([[0.9, 0.99]])),
        "hyper_parameters": {"root": Path("data"), "name": np.str_("rgt"), "ok": np.bool_(True)},
        "random": np.random.get_state(),
    },
}


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: "), message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_and_prefix_gives_the_same_weights(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "net.pth"
    for prefix in PREFIXES:
        wrapped = {prefix + key: tensor for key, tensor in WEIGHTS.items()}
        for zipped in (True, False):
            torch.save(LAYOUTS[layout](wrapped), path, _use_new_zipfile_serialization=zipped)
            assert_equal(read_checkpoint(path).state_dict(), WEIGHTS)


def test_numpy_data_of_a_file_is_read_as_it_was(tmp_path: Path) -> None:
    arrays = [np.arange(6).astype(kind).reshape(2, 3) for kind in ("f4", ">i2", "c16", "?", "U3")]
    arrays += [np.asfortranarray(arrays[0]), np.zeros((0, 3)), np.array(7)]
    numbers = [
        np.float16(0.5),
        np.int64(-3),
        np.bool_(True),
        np.complex64(1j),
        np.float64("inf"),
        np.str_("a"),
    ]
    torch.save({"arrays": arrays, "numbers": numbers}, tmp_path / "data.pth")
    read = load_data_only(tmp_path / "data.pth")
    for array, other in zip(arrays, read["arrays"], strict=True):
        assert (array.shape, array.dtype.kind) == (other.shape, other.dtype.kind)
        np.testing.assert_array_equal(array, other)
    assert read["numbers"] == [0.5, -3, True, 1j, float("inf"), "a"]


def test_times_and_other_plain_data_beside_weights_are_read(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, 6)
    data = [
        now,
        now.replace(tzinfo=timezone.utc),
        now.date(),
        timedelta(1, 2),
        frozenset({1}),
        SimpleNamespace(a=date.min),
    ]
    for zipped in (True, False):
        torch.save({"data": data}, tmp_path / "data.pth", _use_new_zipfile_serialization=zipped)
        assert load_data_only(tmp_path / "data.pth") == {"data": data}


def test_archive_of_checkpoints_is_to_be_unpacked(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "RGT_x4.pth")
    with zipfile.ZipFile(tmp_path / "models.zip", "w") as archive:
        archive.write(tmp_path / "RGT_x4.pth", "RGT/RGT_x4.pth")
    text = f"{tmp_path / 'models.zip'}: is an archive of RGT/RGT_x4.pth; unpack it and name the weights in it"
    assert refusal(tmp_path / "models.zip") == text


@pytest.mark.parametrize("build", [True, False], ids=["a state that breaks NumPy", "an object of Python"])
def test_numpy_data_that_would_point_into_memory_is_refused(tmp_path: Path, build: bool) -> None:
    """NumPy's own functions would take eight bytes of the file for the address of an object."""
    state = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)

    class Type:
        def __reduce__(self) -> Any:
            return (np.dtype, ("V8", False, True), state) if build else (np.dtype, ("O", False, True))

    torch.save({"a": Asks(np.float64(0).__reduce__()[0], Type(), bytes(range(8)))}, tmp_path / "net.pth")
    if build:
        assert load_data_only(tmp_path / "net.pth") == {"a": bytes(range(8))}
    else:
        refusal(tmp_path / "net.pth")


def test_weights_of_several_networks_are_named_if_none_is_an_rgt(tmp_path: Path) -> None:
    torch.save({"net_d": {"conv0_0.weight": torch.ones(1)}, "net_g": SWINIR}, tmp_path / "net.pth")
    assert read_checkpoint(tmp_path / "net.pth").label == f"{tmp_path / 'net.pth'} (net_d, net_g)"


def test_wrappers_around_submodules_are_stripped(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    plain = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    network[1] = torch.compile(network[1])
    torch.save(torch.nn.DataParallel(network).state_dict(), tmp_path / "net.pth")
    assert_equal(read_checkpoint(tmp_path / "net.pth").state_dict(), plain)


def test_safetensors_are_recognised_by_content_and_ema_is_preferred(tmp_path: Path) -> None:
    for name in ("net.safetensors", "net.pth"):
        safetensors.torch.save_file(WEIGHTS, tmp_path / name)
        assert_equal(read_checkpoint(tmp_path / name).state_dict(), WEIGHTS)
    torch.save({"params": WEIGHTS, "params_ema": EMA}, tmp_path / "both.pth")
    both = read_checkpoint(tmp_path / "both.pth")
    assert both.resolve_key() == "params_ema"
    assert_equal(both.state_dict(), EMA)
    assert_equal(both.state_dict("params"), WEIGHTS)
    torch.save({"params": WEIGHTS}, tmp_path / "one.pth")
    one = read_checkpoint(tmp_path / "one.pth")
    assert one.resolve_key("params_ema") == "params"
    assert_equal(one.state_dict("params_ema"), WEIGHTS)


def test_iteration_comes_from_basicsr_file_names(tmp_path: Path) -> None:
    for name, iteration in {"net_g_5000": 5000, "net_g_latest": None, "RGT_x4": None, "net_g_ema_20": 20}.items():
        torch.save({"params": WEIGHTS}, tmp_path / f"{name}.pth")
        assert read_checkpoint(tmp_path / f"{name}.pth").iteration == iteration


class Asks:
    """Is pickled as a function call, as in a malicious file."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("environment", [False, True], ids=["plain", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
@pytest.mark.parametrize("form", ["zip", "legacy", "bare", "bare protocol 0"])
@pytest.mark.parametrize("function", [os.system, eval], ids=["os.system", "eval"])
def test_file_that_would_run_code_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, environment: bool, function: Any
) -> None:
    if environment:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trace, path = tmp_path / "ran", tmp_path / "net.pth"
    script = f"touch '{trace}'" if function is os.system else f"open({str(trace)!r}, 'w')"
    content = {"params": WEIGHTS, "extra": Asks(function, script)}
    if form.startswith("bare"):
        path.write_bytes(pickle.dumps(Asks(function, script), protocol=0 if form.endswith("0") else 2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    message = refusal(path)
    assert not trace.exists()
    assert "refused, because loading it would run code" in message
    assert ("system" if function is os.system else "eval") in message


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.*deprecated")
def test_a_pickled_network_and_torchscript_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pth")
    assert "would run code (torch.nn.modules.linear.Linear)" in refusal(tmp_path / "whole.pth")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    assert "TorchScript" in refusal(tmp_path / "script.pt")


def test_file_that_is_not_a_checkpoint_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    for content, words in (
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html><body>Google Drive", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"404: Not Found", "damaged (it starts with b'404: Not Found')"),
        (bytes(range(200, 256)), "not a PyTorch checkpoint"),
    ):
        path.write_bytes(content)
        assert words in refusal(path)


def test_pth_with_unusable_content_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    for content, words in (
        (torch.ones(2), "is of type Tensor, not a state dict"),
        ([WEIGHTS], "is of type list"),
        ({}, "holds no weights"),
        ({"epoch": 3, "lr": 0.1}, r"holds no weights (its entries: epoch (int), lr (float))"),
        ({**WEIGHTS, **{"module." + key: tensor for key, tensor in WEIGHTS.items()}}, "with and without a wrapper"),
        ({"params": WEIGHTS, "rgt_config": [1, 2]}, "rgt_config is not a table of plain values"),
        ({"params": WEIGHTS, "rgt_config": {"depth": torch.ones(1)}}, "rgt_config is not a table of plain values"),
    ):
        torch.save(content, path)
        assert words in refusal(path)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_damaged_file_is_refused_in_one_line(tmp_path: Path, form: str) -> None:
    whole, path = tmp_path / "whole", tmp_path / "cut.pth"
    weights = {"a": torch.rand(3000), "b": torch.rand(3000)}
    if form == "safetensors":
        safetensors.torch.save_file(weights, whole)
    else:
        torch.save(weights, whole, _use_new_zipfile_serialization=form == "zip")
    data = whole.read_bytes()
    for kept in (4, 9, 70, int(0.3 * len(data)), int(0.7 * len(data)), len(data) - 1):
        path.write_bytes(data[:kept])
        assert "damaged" in refusal(path)
    path.write_bytes(data[:60] + b"\xff" * 30 + data[90:])
    assert "damaged" in refusal(path)


def test_errors_for_missing_files_and_folders_list_nearby_checkpoints(tmp_path: Path) -> None:
    for name in ("RGT_x4.pth", "RGT_x2.pth", "c.pth", "d.pth", "e.pth"):
        torch.save(WEIGHTS, tmp_path / name)
    os.utime(tmp_path / "RGT_x4.pth", (0, 0))
    missing = refusal(tmp_path / "RGT_x4.safetensors")
    assert f"no such file; checkpoints there: {tmp_path / 'RGT_x4.pth'}, " in missing
    assert missing.count(".pth") == 3
    assert f"is a folder; name a checkpoint; checkpoints there: {tmp_path}" in refusal(tmp_path)
    assert refusal(tmp_path / "nowhere" / "RGT.pth").endswith("no such file")
