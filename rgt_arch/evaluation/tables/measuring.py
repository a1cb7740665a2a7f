"""Measuring one image: RGTModel's validation on BasicSR's data set, with the option file's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.data import build_dataset
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from rgt_arch.config.settings import default_overlap
from rgt_arch.data.bicubic import imresize
from rgt_arch.errors import UserError
from rgt_arch.evaluation.tables.images import Images
from rgt_arch.evaluation.tables.methods import Runnable
from rgt_arch.evaluation.tables.results import Score
from rgt_arch.inference.memory import is_out_of_memory
from rgt_arch.models.rgt_model import RGTModel


@ARCH_REGISTRY.register()
class MatlabBicubic(nn.Module):
    """MATLAB's imresize of 8-bit images, which is the field's bicubic row, in the place of a network."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        """image: (B, C, H, W), 8-bit samples divided by 255. Returns (B, C, H·scale, W·scale) of the same kind."""
        samples = image.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        larger = np.stack([imresize(one, self.scale) for one in samples])
        return torch.from_numpy(larger).permute(0, 3, 1, 2).to(image) / 255


@ARCH_REGISTRY.register()
class GivenImages(nn.Identity):
    """Returns images that others super-resolved."""


class Measurer:
    """A method at one scale with its network loaded."""

    def __init__(self, runnable: Runnable, scale: int, *, tile: int, num_gpu: int) -> None:
        """tile: side in LR pixels, 0 for whole images. Raises UsageError for weights that do not fit."""
        self._runnable = runnable
        self._given = runnable.network["type"] == "GivenImages"
        self._scale = scale
        self._datasets: dict[tuple[str, str], Dataset] = {}
        metric = {"crop_border": scale, "test_y_channel": True}
        tiled = {"tile": {"size": tile, "overlap": default_overlap(tile)}} if tile and runnable.weights else {}
        self._model = RGTModel(
            {
                "name": "table",
                "model_type": "RGTModel",
                "scale": scale,
                "num_gpu": num_gpu,
                "dist": False,  # ranks share out the images of all sets together
                "rank": 0,
                "world_size": 1,
                "is_train": False,
                "network_g": dict(runnable.network),
                "path": {
                    "pretrain_network_g": None if runnable.weights is None else str(runnable.weights),
                    "strict_load_g": True,
                    "param_key_g": None,
                },
                "val": {
                    "save_img": False,
                    "self_ensemble": runnable.self_ensemble,
                    **tiled,
                    "metrics": {
                        "psnr": {"type": "calculate_psnr", **metric},
                        "ssim": {"type": "calculate_ssim", **metric},
                    },
                },
            }
        )

    def measure(self, images: Images, name: str) -> Score:
        """PSNR and SSIM of the HR image with this file name.

        Raises UserError for images that cannot be read or do not fit into memory.
        """
        where = f"{images.benchmark} ×{self._scale}: {name}"
        data = self._image(images, name, where)
        for metric in self._model.opt["val"]["metrics"].values():
            metric["test_y_channel"] = not (self._runnable.grey_as_it_is and name in images.grey)
        try:
            self._model.validation(DataLoader(data, batch_size=1), "table", None, False)
        except Exception as error:
            if is_out_of_memory(error):
                raise UserError(f"{where}: out of memory; add --tile 256, or less") from error
            raise
        return Score(**self._model.metric_results)

    def _image(self, images: Images, name: str, where: str) -> OneImage:
        key = (str(images.hr), str(images.lq))
        if key not in self._datasets:
            self._datasets[key] = build_dataset(self._data_options(images))
        dataset: Any = self._datasets[key]
        # BasicSR lists folders in the file system's order
        index = next(number for number, paths in enumerate(dataset.paths) if Path(paths["gt_path"]).name == name)
        try:
            return OneImage(dataset.opt, dataset[index])
        except (AttributeError, OSError, TypeError, cv2.error) as error:  # OpenCV returns None for a damaged file
            raise UserError(f"{where}: it or the image that belongs to it cannot be read; replace them") from error

    def _data_options(self, images: Images) -> dict[str, Any]:
        return {
            "name": images.benchmark,
            "type": "PairedImageDataset",
            "phase": "val",
            # results are as large as HR, and BasicSR crops HR to `scale` times its LQ
            "scale": 1 if self._given else self._scale,
            "dataroot_gt": str(images.hr),
            "dataroot_lq": str(images.lq),
            "filename_tmpl": images.template,
            "io_backend": {"type": "disk"},
        }


class OneImage(Dataset):
    """One image that a BasicSR data set has read, with the data set's options."""

    def __init__(self, opt: Mapping[str, Any], item: Mapping[str, Any]) -> None:
        self.opt = opt
        self._item = item

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self._item
