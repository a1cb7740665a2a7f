"""Tiny benchmark folders, a tiny RGT, and `rgt table` on them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from skimage import data

from rgt_arch import RGT
from rgt_arch.cli import main
from rgt_arch.data.bicubic import hr_lr_pair

from ...data.image_files import save

NETWORK = {"depth": [2], "embed_dim": 96, "num_heads": [6], "mlp_ratio": 1, "split_size": [8, 16]}
Write = Callable[..., Path]


@pytest.fixture
def write_set(tmp_path: Path) -> Write:
    """write_set(name, scales, ending): write HR (49×62, 45×50, grey 46×51) and LR images; return the data folder."""

    def write(name: str = "Set5", scales: tuple[int, ...] = (2,), ending: str = "x") -> Path:
        photograph = data.astronaut()[..., ::-1]
        pictures = {
            "face": photograph[60:109, 180:242],
            "flag": photograph[200:245, 20:70],
            "grey": photograph[300:346, 330:381, 1],
        }
        folder = tmp_path / "benchmark" / name
        for stem, hr in pictures.items():
            save(folder / "HR" / f"{stem}.png", hr)
            for scale in scales:
                save(folder / f"LR_bicubic/X{scale}/{stem}{ending}{scale}.png", hr_lr_pair(hr, scale)[1])
        return tmp_path / "benchmark"

    return write


@pytest.fixture
def write_weights(tmp_path: Path) -> Write:
    """write_weights(name, seed, scale): save a checkpoint of a tiny RGT and return its path."""

    def write(name: str = "tiny.pth", seed: int = 0, scale: int = 2) -> Path:
        torch.manual_seed(seed)
        network = RGT(upscale=scale, **NETWORK)
        torch.save({"params": network.state_dict()}, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def table(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """table(*arguments, code=0): run `rgt table --format json`, return its results by (method, scale, set).

    With another --format, return the printed table (CSV: its rows); without a table, return stderr.
    `table.said` is always the stderr of the last run.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RGT_CACHE", str(tmp_path / "cache"))

    def run(*arguments: object, code: int = 0) -> Any:
        words = ["table", *map(str, arguments), "--data", "benchmark", "--device", "cpu"]
        words += [] if "--format" in words else ["--format", "json"]
        capsys.readouterr()
        assert main(words) == code
        out, err = capsys.readouterr()
        run.said = err  # type: ignore[attr-defined]
        if not out:
            return err
        form = words[words.index("--format") + 1]
        if form.startswith("csv"):
            return list(csv.DictReader(io.StringIO(out)))
        if form != "json":
            return out
        results = json.loads(out)["results"]
        return {(result["method"], result["scale"], result["set"]): result for result in results}

    return run
