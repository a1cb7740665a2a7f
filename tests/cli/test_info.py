"""`rgt info`: its output for checkpoints, training states and other files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rgt_arch import rgt_t
from rgt_arch.cli import main
from rgt_arch.errors import UsageError
from rgt_arch.weights.reading import read_checkpoint

PARAMETERS = sum(parameter.numel() for parameter in rgt_t(2).parameters())


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """The folders of a BasicSR run of RGT-T ×2 with EMA, stopped after 40 iterations, written by BasicSR itself."""
    from basicsr.models.base_model import BaseModel

    for folder in ("models", "training_states"):
        (tmp_path / folder).mkdir()
    paths = {"models": str(tmp_path / "models"), "training_states": str(tmp_path / "training_states")}
    model = BaseModel({"num_gpu": 0, "is_train": True, "path": paths})
    network = rgt_t(2)
    model.optimizers = [torch.optim.AdamW(network.parameters(), lr=2e-4)]
    model.schedulers = [torch.optim.lr_scheduler.MultiStepLR(model.optimizers[0], [2, 4])]
    model.save_network([network, network], "net_g", 40, param_key=["params", "params_ema"])
    model.save_training_state(epoch=3, current_iter=40)
    return tmp_path


def rows(text: str) -> dict[str, str]:
    """The table's rows; all values start in the same column."""
    lines = text.splitlines()
    column = len(lines[0]) - len(lines[0].split(maxsplit=1)[1])
    assert all(line[column - 1] == " " != line[column] for line in lines)
    return {line[:column].strip(): line[column:] for line in lines}


def test_a_checkpoint_of_basicsr_is_described(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_folder / "models" / "net_g_40.pth"
    assert main(["info", str(path)]) == 0
    table = rows(capsys.readouterr().out)
    assert table["architecture"] == "RGT-T ×2"
    assert table["parameters"] == f"{PARAMETERS:,} in float32"
    assert table["weights"] == "params, params_ema (params_ema shown)"
    assert table["EMA"] == "yes"
    assert table["iteration"] == f"40 (training state: {run_folder / 'training_states' / '40.state'})"
    assert table["split_size"] == "[8, 16]"
    assert table["qkv_bias"] == "true"
    assert "img_range 1.0" in table["not in file"]
    assert f"{path.stat().st_size / 1e6:.1f} MB" in table["size"]


def test_json_holds_the_same_facts(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(run_folder / "models" / "net_g_40.pth"), "--json"]) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert facts["preset"] == "RGT-T"
    assert facts["parameters"] == PARAMETERS
    assert facts["arguments"]["depth"] == [4, 4]
    assert (facts["iteration"], facts["ema"], facts["scale"]) == (40, True, 2)
    # masks of one shifted block, offsets and index of both windows: written once for all blocks, in both sets
    grid, window = 64 * 64 // 128, 8 * 16
    branch = 15 * 31 * 2 * 4 + window * window * 8
    assert facts["derived_bytes"] == 2 * 2 * (branch + grid * window * window * 4)


def test_a_training_state_is_described(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = run_folder / "training_states" / "40.state"
    assert main(["info", str(state)]) == 0
    table = rows(capsys.readouterr().out)
    assert table["content"] == "training state"
    assert (table["iteration"], table["epoch"], table["learning rate"]) == ("40", "3", "0.0002")
    assert table["optimiser"].startswith("AdamW over ")
    with pytest.raises(UsageError, match=r"40\.state: is a training state .*models.net_g_40\.pth"):
        read_checkpoint(state).state_dict()


def test_ambiguous_arguments_are_not_guessed_and_nan_weights_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = rgt_t(2, hai="none")
    with torch.no_grad():
        network.conv_last.bias[:2] = torch.nan
    torch.save({"params": network.state_dict()}, tmp_path / "net.pth")
    assert main(["info", str(tmp_path / "net.pth")]) == 0
    table = rows(capsys.readouterr().out)
    assert table["hai"] == "identity or none"
    assert table["architecture"] == "RGT ×2, arguments of its own"
    assert table["damage"].startswith("2 values are NaN")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"params": {"body.0.rdb1.conv1.weight": torch.ones(1)}}, "not an RGT's: they look like RRDBNet"),
        ({"iter": 3, "optimizers": [{"state": {}}], "schedulers": []}, "is not a training state of BasicSR"),
        (b"<!DOCTYPE html><html>Google Drive can't scan this file</html>", "is a web page"),
    ],
)
def test_file_without_an_rgt_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, words: str
) -> None:
    file = tmp_path / "other.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    assert main(["info", str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"rgt info: error: {file}: ")
    assert words in captured.err
    assert captured.err.count("\n") == 1
