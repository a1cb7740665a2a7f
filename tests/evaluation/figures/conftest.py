"""Fixtures: a photograph, a network in which every part matters, and the command `rgt figure`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from rgt_arch import RGT
from rgt_arch.cli import main

NETWORK = {
    "qkv_bias": True,
    "depth": [3, 2],
    "embed_dim": 96,
    "num_heads": [6, 6],
    "mlp_ratio": 1,
    "split_size": [4, 8],
}


@pytest.fixture
def network() -> RGT:
    """An RGT with larger weights than at initialisation, so that its attention is far from uniform."""
    torch.manual_seed(3)
    network = RGT(upscale=2, **NETWORK).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return network


@pytest.fixture
def weights(tmp_path: Path, network: RGT) -> Path:
    """A checkpoint of the network."""
    torch.save({"params": network.state_dict()}, tmp_path / "net.pth")
    return tmp_path / "net.pth"


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """72×60 pixels of a face."""
    path = tmp_path / "face.png"
    cv2.imwrite(str(path), np.ascontiguousarray(data.astronaut()[60:120, 180:252, ::-1]))
    return path


@pytest.fixture
def figure(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """figure(*arguments, code=0): run `rgt figure` in tmp_path; return its stdout, or its stderr if code is not 0."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, code: int = 0) -> str:
        capsys.readouterr()
        assert main(["figure", *map(str, arguments)]) == code
        out, err = capsys.readouterr()
        return err if code else out

    return run
