"""A data set of six HR/LR pairs for a check to find nothing wrong with, and `rgt prepare check` as users run it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rgt_arch.cli import main
from rgt_arch.data.bicubic import hr_lr_pair

from ..image_files import save

Run = Callable[..., tuple[int, str]]


def noise(seed: int, height: int = 24, width: int = 32, channels: int = 3) -> np.ndarray:
    """An image like no other."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng([seed, height, width, channels]).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with HR/0.png … and LR/0x2.png …, MATLAB's bicubic."""
    for index in range(6):
        hr, lr = hr_lr_pair(noise(index), 2)
        save(tmp_path / "HR" / f"{index}.png", hr)
        save(tmp_path / "LR" / f"{index}x2.png", lr)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command with these arguments; gives exit code and report, or the lines of an error."""

    def run(*arguments: object) -> tuple[int, str]:
        code = main(["prepare", "check", *map(str, arguments)])
        captured = capsys.readouterr()
        error = captured.err.partition("rgt prepare check: error: ")[2]  # what is before shows progress
        return code, captured.out + error

    return run
