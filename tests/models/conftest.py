"""Tiny networks, real PNG folders and BasicSR options for the tests of RGTModel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import rgt_arch  # noqa: F401 - makes BasicSR importable
from rgt_arch.models.rgt_model import RGTModel

FOLDERS = ("models", "training_states", "visualization")
CONV = {"type": "MSRResNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}
RGT = {"type": "RGT", "upscale": 2, "in_chans": 3, "img_size": 64, "img_range": 1.0, "depth": [2], "embed_dim": 96}
RGT |= {"num_heads": [6], "mlp_ratio": 1, "resi_connection": "1conv", "split_size": [8, 16], "drop_path_rate": 0.0}


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """options(network, is_train=…, train={…}, val={…}, path={…}): the options of a model."""

    def make(network: dict[str, Any] = CONV, is_train: bool = True, **sections: dict[str, Any]) -> dict[str, Any]:
        for folder in FOLDERS:
            (tmp_path / folder).mkdir(exist_ok=True)
        opt = {
            "name": "tiny",
            "model_type": "RGTModel",
            "scale": 2,
            "num_gpu": 0,
            "dist": False,
            "rank": 0,
            "world_size": 1,
            "is_train": is_train,
            "network_g": deepcopy(network),
            "path": {folder: str(tmp_path / folder) for folder in FOLDERS},
            "train": {
                "optim_g": {"type": "Adam", "lr": 1e-3},
                "scheduler": {"type": "MultiStepLR", "milestones": [3], "gamma": 0.5},
                "total_iter": 10,
                "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
            },
            "val": {"save_img": False, "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 2}}},
        }
        for name, section in sections.items():
            opt[name] = {**opt.get(name, {}), **deepcopy(section)}
        return opt

    return make


@pytest.fixture
def build(options: Callable[..., dict[str, Any]]) -> Callable[..., RGTModel]:
    """build(…): an RGTModel of `options(…)`, seeded."""

    def make(*args: Any, **kwargs: Any) -> RGTModel:
        torch.manual_seed(0)
        return RGTModel(options(*args, **kwargs))

    return make


@pytest.fixture
def batch() -> Callable[..., dict[str, torch.Tensor]]:
    """batch(images, channels=3, dtype=…): random LQ of 12×16 pixels and GT of 24×32."""

    def make(images: int, channels: int = 3, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
        random = torch.manual_seed(images)
        lq = torch.rand(images, channels, 12, 16, generator=random, dtype=dtype)
        return {"lq": lq, "gt": torch.rand(images, channels, 24, 32, generator=random, dtype=dtype)}

    return make


@pytest.fixture
def loader(tmp_path: Path) -> Callable[..., torch.utils.data.DataLoader]:
    """loader(images, …): BasicSR's own validation loader over PNG files of different sizes."""
    from basicsr.data import build_dataloader, build_dataset

    def make(images: int, grey: bool = False, gt: bool = True, name: str = "Set", **extra: Any) -> Any:
        random = np.random.default_rng(images)
        for number in range(images):
            height, width = 10 + number, 14 + 2 * number
            for folder, scale in (("lq", 1), ("gt", 2)):
                shape = (height * scale, width * scale) if grey else (height * scale, width * scale, 3)
                (tmp_path / name / folder).mkdir(parents=True, exist_ok=True)
                picture = random.integers(0, 256, shape, dtype=np.uint8)
                assert cv2.imwrite(str(tmp_path / name / folder / f"img{number}.png"), picture)
        opt = {"name": name, "type": "SingleImageDataset", "dataroot_lq": str(tmp_path / name / "lq"), "phase": "val"}
        if gt:
            opt |= {"type": "PairedImageDataset", "dataroot_gt": str(tmp_path / name / "gt")}
        opt |= {"io_backend": {"type": "disk"}, "scale": 2, **extra}
        return build_dataloader(build_dataset(opt), opt, num_gpu=0, dist=False)

    return make


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Messages of BasicSR's logger, which does not propagate to pytest's."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("basicsr")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield messages
    logger.removeHandler(handler)
    logger.setLevel(level)
