"""PSNR and SSIM of one image: RGTModel's validation on BasicSR's data set, with the metrics of option files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.data import build_dataset
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.utils.registry import ARCH_REGISTRY
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from rgt_arch.config.metrics import PYIQA
from rgt_arch.config.settings import default_overlap
from rgt_arch.data.bicubic import imresize
from rgt_arch.data.pairing import Pair
from rgt_arch.errors import UserError
from rgt_arch.evaluation.tables.methods import Images, Runnable
from rgt_arch.evaluation.tables.results import Score
from rgt_arch.inference.memory import is_out_of_memory
from rgt_arch.models.rgt_model import RGTModel


def score_pair(image: NDArray[np.uint8], hr: NDArray[np.uint8], scale: int) -> Score:
    """Return BasicSR's PSNR and SSIM on Y of an RGB image as large as HR (H, W, 3), border = scale."""
    psnr, ssim = (
        float(metric(image[..., ::-1], hr[..., ::-1], crop_border=scale, test_y_channel=True))  # BasicSR takes BGR
        for metric in (calculate_psnr, calculate_ssim)
    )
    return Score(psnr, ssim)


@ARCH_REGISTRY.register()
class MatlabBicubic(nn.Module):
    """MATLAB's imresize of 8-bit images in place of a network: the bicubic row of papers."""

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
    """Returns its input: images that are super-resolved already."""


def build_model(ready: Runnable, scale: int, *, tile: int, num_gpu: int, metrics: Sequence[str] = ()) -> RGTModel:
    """Build a method at one scale. tile: side in LR pixels, 0: whole images. metrics: names of pyiqa's.

    Raises UsageError for invalid weights.
    """
    metric = {"crop_border": scale, "test_y_channel": True}
    tiled = {"tile": {"size": tile, "overlap": default_overlap(tile)}} if tile and ready.weights else {}
    return RGTModel(
        {
            "name": "table",
            "model_type": "RGTModel",
            "scale": scale,
            "num_gpu": num_gpu,
            "dist": False,  # the ranks split the images of all sets themselves
            "rank": 0,
            "world_size": 1,
            "is_train": False,
            "network_g": dict(ready.network),
            "path": {
                "pretrain_network_g": ready.weights and str(ready.weights),
                "strict_load_g": True,
                "param_key_g": None,
            },
            "val": {
                "save_img": False,
                "self_ensemble": ready.self_ensemble,
                **tiled,
                "metrics": {name: {"type": f"calculate_{name}", **metric} for name in ("psnr", "ssim")}
                | {name: {"type": PYIQA, "metric": name, "crop_border": scale} for name in metrics},
            },
        }
    )


def build_data(ready: Runnable, images: Images, benchmark: str, scale: int) -> Any:
    """Build BasicSR's data set of HR and LR, or of HR and results of the same size."""
    return build_dataset(
        {
            "name": benchmark,
            "type": "PairedImageDataset",
            "phase": "val",
            "scale": 1 if ready.network["type"] == "GivenImages" else scale,  # BasicSR crops HR to `scale` times LQ
            "dataroot_gt": str(images.hr),
            "dataroot_lq": str(images.lq),
            "filename_tmpl": images.template,
            "io_backend": {"type": "disk"},
        }
    )


class _OneImage(list[Any]):
    """An image that a BasicSR data set has read, with that data set's options."""

    opt: Any


def score_image(model: RGTModel, data: Any, pair: Pair, *, on_grey: bool) -> Score:
    """Measure one image of the data set. on_grey: measure a grey image on its grey values, not on Y of three channels.

    Raises UserError for images that cannot be read or do not fit into memory.
    """
    where = f"{data.opt['name']} ×{model.opt['scale']}: {pair.name}"
    for metric in model.opt["val"]["metrics"].values():
        metric["test_y_channel"] = not on_grey
    # BasicSR lists folders in the file system's order
    index = next(number for number, paths in enumerate(data.paths) if Path(paths["gt_path"]) == pair.gt)
    try:
        image = _OneImage([data[index]])
    except (AttributeError, OSError, TypeError, cv2.error) as error:  # OpenCV returns None for a damaged file
        raise UserError(f"{where}: it or the image that belongs to it cannot be read; replace them") from error
    image.opt = data.opt
    try:
        model.validation(DataLoader(image, batch_size=1), "table", None, False)  # type: ignore[arg-type]
    except Exception as error:
        if is_out_of_memory(error):
            raise UserError(f"{where}: out of memory; add --tile 256, or less") from error
        raise
    if missing := model.opt["val"]["metrics"].keys() - model.metric_results.keys():
        raise UserError(f"{where}: no {', '.join(sorted(missing))}, see above; leave it out of --metrics")
    return Score.read(model.metric_results)
