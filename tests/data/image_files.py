"""Make image files and read them back, and prepare data as users do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from rgt_arch.cli import main

TURNED = Image.Exif()
"""EXIF data of a camera that was held on its side."""
TURNED[0x112] = 6


def noise(*shape: int, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return image


def files(folder: Path, suffix: str = "") -> dict[str, bytes]:
    """Contents of all files below a folder, including hidden ones, by relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob(f"*{suffix}")) if p.is_file()}


def prepare(*arguments: object) -> int:
    """Run a command of `rgt prepare`; returns its exit code."""
    return main(["prepare", *map(str, arguments)])
