"""Reading: every layout and prefix gives the same weights; anything else ends in one line of words."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from rgt_arch.errors import UsageError
from rgt_arch.weights import read_checkpoint

WEIGHTS = {"conv_first.weight": torch.arange(6.0).view(2, 3), "conv_first.bias": torch.ones(2)}
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
    "dashed": lambda weights: {"params": EMA, "params-ema": weights},
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


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_layout_and_prefix_gives_the_same_weights(tmp_path: Path, layout: str, prefix: str, zipped: bool) -> None:
    wrapped = {prefix + key: tensor for key, tensor in WEIGHTS.items()}
    path = tmp_path / "net.pth"
    torch.save(LAYOUTS[layout](wrapped), path, _use_new_zipfile_serialization=zipped)
    assert_equal(read_checkpoint(path).state_dict(), WEIGHTS)


def test_wrappers_around_submodules_are_stripped(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    plain = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    network[1] = torch.compile(network[1])
    torch.save(torch.nn.DataParallel(network).state_dict(), tmp_path / "net.pth")
    assert_equal(read_checkpoint(tmp_path / "net.pth").state_dict(), plain)


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth"])
def test_safetensors_are_known_by_content(tmp_path: Path, name: str) -> None:
    safetensors.torch.save_file(WEIGHTS, tmp_path / name)
    assert_equal(read_checkpoint(tmp_path / name).state_dict(), WEIGHTS)


def test_ema_is_preferred_and_a_missing_key_falls_back_to_params(tmp_path: Path) -> None:
    torch.save({"params": WEIGHTS, "params_ema": EMA}, tmp_path / "both.pth")
    both = read_checkpoint(tmp_path / "both.pth")
    assert both.resolve_key() == "params_ema"
    assert_equal(both.state_dict(), EMA)
    assert_equal(both.state_dict("params"), WEIGHTS)
    torch.save({"params": WEIGHTS}, tmp_path / "one.pth")
    one = read_checkpoint(tmp_path / "one.pth")
    assert one.resolve_key("params_ema") == "params"
    assert_equal(one.state_dict("params_ema"), WEIGHTS)


def test_shared_storage_stays_shared(tmp_path: Path) -> None:
    mask = torch.zeros(100)
    torch.save({"params": {"a": mask, "b": mask}}, tmp_path / "net.pth")
    state_dict = read_checkpoint(tmp_path / "net.pth").state_dict()
    assert state_dict["a"].data_ptr() == state_dict["b"].data_ptr()


@pytest.mark.parametrize(
    ("name", "iteration"),
    [("net_g_5000.pth", 5000), ("net_g_latest.pth", None), ("RGT_x4.pth", None), ("net_g_ema_20.pth", 20)],
)
def test_iteration_comes_from_basicsr_file_names(tmp_path: Path, name: str, iteration: int | None) -> None:
    torch.save({"params": WEIGHTS}, tmp_path / name)
    assert read_checkpoint(tmp_path / name).iteration == iteration


def test_training_state_of_basicsr_is_recognised(tmp_path: Path) -> None:
    from basicsr.models.base_model import BaseModel

    folder = tmp_path / "training_states"
    folder.mkdir()
    model = BaseModel({"num_gpu": 0, "is_train": True, "path": {"training_states": str(folder)}})
    model.optimizers = [torch.optim.Adam([torch.nn.Parameter(torch.ones(3))], lr=2e-4)]
    model.schedulers = [torch.optim.lr_scheduler.MultiStepLR(model.optimizers[0], [2, 4])]
    model.save_training_state(epoch=3, current_iter=40)
    checkpoint = read_checkpoint(folder / "40.state")
    assert checkpoint.training is not None
    assert (checkpoint.iteration, checkpoint.training["epoch"]) == (40, 3)
    with pytest.raises(UsageError, match=r"40\.state: is a training state .*net_g_\*\.pth"):
        checkpoint.state_dict()
    (tmp_path / "models").mkdir()
    torch.save({"params": WEIGHTS}, tmp_path / "models" / "net_g_40.pth")
    with pytest.raises(UsageError, match=r"models.net_g_40\.pth"):
        checkpoint.resolve_key()


class Asks:
    """Pickles as a call, the way a malicious file does."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("environment", [False, True], ids=["plain", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
@pytest.mark.parametrize("form", ["zip", "legacy", "bare", "bare protocol 0"])
@pytest.mark.parametrize("function", [os.system, eval], ids=["os.system", "eval"])
def test_a_file_that_asks_to_run_code_is_refused_and_not_run(
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
    if not form.startswith("bare"):
        assert "refused, because loading it would run code" in message
        assert ("system" if function is os.system else "eval") in message


def test_a_pickled_network_and_torchscript_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pth")
    assert "would run code (torch.nn.modules.linear.Linear)" in refusal(tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        for name in ("script/data.pkl", "script/constants.pkl", "script/code/__torch__.py"):
            archive.writestr(name, b"")
    assert "TorchScript" in refusal(tmp_path / "script.pt")


FOREIGN = [
    ("empty.pth", b"", "is empty"),
    ("page.pth", b"\n<!DOCTYPE html><html><body>Google Drive", "is a web page"),
    ("pointer.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    ("model.onnx", b"\x08\x07\x12\x07pytorch\x1a\x052.10", "is an ONNX model"),
    ("train_RGT_x2.yml", b"name: train_RGT_x2\n", "is an option file"),
    ("text.pth", b"404: Not Found", "starts with b'404: Not Found'"),
    ("random.pth", bytes(range(200, 256)), "is not a PyTorch checkpoint"),
]


@pytest.mark.parametrize(("name", "content", "words"), FOREIGN, ids=[row[0] for row in FOREIGN])
def test_what_is_no_checkpoint_is_named_in_one_line(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert words in refusal(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.ones(2), "holds a Tensor"),
        ([WEIGHTS], "holds a list"),
        ({}, "holds no weights"),
        ({"epoch": 3, "lr": 0.1}, r"holds no weights (its entries: epoch (int), lr (float))"),
        ({**WEIGHTS, **{"module." + key: tensor for key, tensor in WEIGHTS.items()}}, "with and without a wrapper"),
        ({"params": WEIGHTS, "rgt_config": [1, 2]}, "rgt_config is not a table of plain values"),
        ({"params": WEIGHTS, "rgt_config": {"depth": torch.ones(1)}}, "rgt_config is not a table of plain values"),
    ],
)
def test_a_pth_that_holds_something_else_is_named_in_one_line(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "net.pth")
    assert words in refusal(tmp_path / "net.pth")


def test_a_zip_archive_names_the_checkpoint_in_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "RGT.zip", "w") as archive:
        archive.writestr("RGT/RGT_x4.pth", b"")
    assert "unpack it and name RGT/RGT_x4.pth in it" in refusal(tmp_path / "RGT.zip")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [4, 9, 70, 0.3, 0.7, -1])
def test_a_truncated_file_is_refused_in_one_line(tmp_path: Path, form: str, kept: float) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut.pth"
    weights = {"a": torch.rand(3000), "b": torch.rand(3000)}
    if form == "safetensors":
        safetensors.torch.save_file(weights, whole)
    else:
        torch.save(weights, whole, _use_new_zipfile_serialization=form == "zip")
    data = whole.read_bytes()
    cut.write_bytes(data[: int(kept * len(data)) if 0 < kept < 1 else int(kept)])
    refusal(cut)


def test_overwritten_bytes_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    for zipped in (True, False):
        torch.save({"params": WEIGHTS}, path, _use_new_zipfile_serialization=zipped)
        data = bytearray(path.read_bytes())
        data[60:90] = b"\xff" * 30
        path.write_bytes(data)
        assert "is damaged" in refusal(path)


def test_missing_files_and_folders_are_answered_with_what_is_there(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "RGT_x2.pth")
    assert f"did you mean {tmp_path / 'RGT_x2.pth'}?" in refusal(tmp_path / "RGT_x2.safetensors")
    assert str(tmp_path / "RGT_x2.pth") in refusal(tmp_path / "RGT_x3.pth")
    assert f"folder {tmp_path / 'nowhere'} does not exist" in refusal(tmp_path / "nowhere" / "RGT.pth")
    message = refusal(tmp_path)
    assert "is a folder" in message
    assert str(tmp_path / "RGT_x2.pth") in message
