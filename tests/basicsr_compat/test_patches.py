"""Checkpoints execute nothing, and are written whole or not at all."""

from __future__ import annotations

import io
import os
import pickle

import pytest
import torch
from basicsr.models import base_model
from basicsr.models.base_model import BaseModel

from rgt_arch.basicsr_compat import torch_files
from rgt_arch.errors import UserError
from rgt_arch.torch_files import load_data_only


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("forced", ["0", "1"])
def test_basicsr_loads_no_code_even_when_the_environment_asks_for_it(tmp_path, monkeypatch, forced):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    checkpoint = tmp_path / "net.pth"
    torch.save({"params": Malicious(str(tmp_path / "executed"))}, checkpoint)
    model = BaseModel({"num_gpu": 0, "is_train": False})
    with pytest.raises(UserError, match=r"net.pth: refused, because loading it would run code \(posix.mkdir\)"):
        model.load_network(torch.nn.Linear(1, 1), str(checkpoint))
    assert not (tmp_path / "executed").exists()


def _torch_file():
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(3000)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b"no checkpoint", "(it starts with b'no checkpoint')"),
        (pickle.dumps({"params": 1})[:10], "is a bare pickle, which could run code"),
        (_torch_file()[:5000], "is truncated or damaged"),
        (_torch_file().replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v2"[::-1]), "would run code"),
        (_torch_file().replace(b"collections\nOrderedDict", b"\xff" * 23), "is damaged and cannot be read"),
    ],
)
def test_file_that_cannot_be_read_is_told_for_what_it_is(tmp_path, content, words):
    checkpoint = tmp_path / "net.pth"
    checkpoint.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_data_only(checkpoint)
    assert str(caught.value).startswith(f"{checkpoint}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ("run code" in str(caught.value)) is ("run code" in words)


def test_failed_save_keeps_the_old_file_and_leaves_nothing_beside(tmp_path, monkeypatch):
    path = tmp_path / "net.pth"
    base_model.torch.save({"weight": torch.ones(2)}, str(path))

    def break_off(value, file):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", break_off)
    with pytest.raises(OSError, match="no space"):
        base_model.torch.save({}, str(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.pth"]
    assert load_data_only(path)["weight"].tolist() == [1, 1]


def test_everything_else_of_torch_is_torch():
    assert base_model.torch.device is torch.device
    assert base_model.torch.optim.Adam is torch.optim.Adam


@pytest.fixture
def full_disk(tmp_path, monkeypatch):
    """Refuses that many of the next writes, as a full disk does; counts all."""
    seen = {"refused": 0, "attempts": 0}

    def save_whole(value, path, **_kwargs):
        seen["attempts"] += 1
        if seen["attempts"] <= seen["refused"]:
            raise UserError(f"{path}: cannot be written: No space left on device; nothing was changed")
        torch.save(value, path)

    monkeypatch.setattr(torch_files, "save_whole", save_whole)
    monkeypatch.setattr(torch_files.time, "sleep", lambda _seconds: None)
    return seen


@pytest.mark.parametrize("method", ["save_network", "save_training_state"])
@pytest.mark.parametrize("refused", [2, 3])
def test_checkpoint_of_basicsr_that_cannot_be_written_ends_the_run_at_the_third_attempt(
    tmp_path, full_disk, method, refused
):
    full_disk["refused"] = refused
    model = BaseModel(
        {"num_gpu": 0, "is_train": True, "path": {"models": str(tmp_path), "training_states": str(tmp_path)}}
    )
    arguments = (torch.nn.Linear(1, 1), "net_g", 4) if method == "save_network" else (0, 4)
    if refused == 3:
        with pytest.raises(UserError, match=r"No space left on device; nothing was changed"):
            getattr(model, method)(*arguments)
    else:
        getattr(model, method)(*arguments)
        assert [entry.suffix for entry in tmp_path.iterdir()] in ([".pth"], [".state"])
    assert full_disk["attempts"] == 3
