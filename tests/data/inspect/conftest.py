"""Six valid HR/LR pairs, an option file that trains on them, and `rgt prepare check` as users run it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rgt_arch.cli import main
from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.data.inspect.targets import validate_options
from rgt_arch.errors import UsageError

from ..image_files import save

Run = Callable[..., tuple[int, str]]


def noise(seed: int, height: int = 24, width: int = 32, channels: int = 3) -> np.ndarray:
    """Random pixels, different for each seed and shape."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng([seed, height, width, channels]).integers(0, 256, shape, dtype=np.uint8)


def write_pairs(folder: Path, seed: int = 0) -> None:
    """Write HR/0.png … and LR/0x2.png …, downsampled like MATLAB's bicubic."""
    for index in range(6):
        hr, lr = hr_lr_pair(noise(seed + index), 2)
        save(folder / "HR" / f"{index}.png", hr)
        save(folder / "LR" / f"{index}x2.png", lr)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with six pairs."""
    write_pairs(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """run(*arguments): exit code, and the report or error lines of the command."""

    def run(*arguments: object) -> tuple[int, str]:
        code = main(["prepare", "check", "--jobs", "1", *map(str, arguments)])
        captured = capsys.readouterr()
        error = captured.err.partition("rgt prepare check: error: ")[2]  # without the progress bar before it
        return code, captured.out + error

    return run


class OptionFile:
    """train.yml in the current folder: trains on HR and LR, and validates on the pairs of val/."""

    def __init__(self) -> None:
        common = {"type": "PairedImageDataset", "filename_tmpl": "{}x2", "io_backend": {"type": "disk"}}
        loading = {"num_worker_per_gpu": 0, "batch_size_per_gpu": 1, "use_hflip": True, "use_rot": True, "gt_size": 16}
        self.train: dict[str, Any] = {"name": "t", "dataroot_gt": "HR", "dataroot_lq": "LR", **common, **loading}
        self.val: dict[str, Any] = {"name": "v", "dataroot_gt": "val/HR", "dataroot_lq": "val/LR", **common}
        self.options: dict[str, Any] = {
            "name": "run", "model_type": "RGTModel", "scale": 2, "num_gpu": 0,
            "datasets": {"train": self.train, "val": self.val},
            "network_g": {"type": "RGT", "upscale": 2, "embed_dim": 16, "depth": [2], "num_heads": [2]},
            "train": {
                "total_iter": 1, "optim_g": {"type": "Adam", "lr": 1e-3}, "pixel_opt": {"type": "L1Loss"},
                "scheduler": {"type": "MultiStepLR", "milestones": [1], "gamma": 0.5},
            },
            "logger": {"print_freq": 1, "save_checkpoint_freq": 1, "use_tb_logger": False},
        }  # fmt: skip

    def write(self) -> Path:
        Path("train.yml").write_text(yaml.safe_dump(copy.deepcopy(self.options), sort_keys=False))
        return Path("train.yml")

    def errors(self) -> list[str]:
        """Return the mistakes that stop a run before it starts."""
        try:
            validate_options(copy.deepcopy(self.options), file="train.yml", is_train=True, root=Path.cwd())
        except UsageError as error:
            return [line.strip() for line in str(error).splitlines() if "problems in" not in line]
        return []

    def warnings(self) -> list[str]:
        """Return the warnings for options without mistakes."""
        return validate_options(copy.deepcopy(self.options), file="train.yml", is_train=True, root=Path.cwd())


@pytest.fixture
def option_file(data: Path) -> OptionFile:
    write_pairs(data / "val", seed=100)
    return OptionFile()
