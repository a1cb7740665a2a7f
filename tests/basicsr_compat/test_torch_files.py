"""Checkpoints execute nothing, and are written whole or not at all."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from basicsr.models import base_model
from basicsr.models.base_model import BaseModel

from rgt_arch.basicsr_compat import torch_files
from rgt_arch.errors import UserError


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
    with pytest.raises(UserError, match=r"net.pth: not a readable checkpoint \(holds code, which is never run\)"):
        model.load_network(torch.nn.Linear(1, 1), str(checkpoint))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps({"params": 1})[:10]])
def test_damaged_file_is_named_in_one_line(tmp_path, content):
    checkpoint = tmp_path / "net.pth"
    checkpoint.write_bytes(content)
    with pytest.raises(UserError, match=r"net.pth: not a readable checkpoint") as caught:
        torch_files.load_data_only(checkpoint)
    assert "\n" not in str(caught.value)


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
    assert torch_files.load_data_only(path)["weight"].tolist() == [1, 1]


def test_everything_else_of_torch_is_torch():
    assert base_model.torch.device is torch.device
    assert base_model.torch.optim.Adam is torch.optim.Adam
