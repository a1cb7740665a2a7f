"""PSNR and SSIM of one image as in `basicsr test`: BasicSR's conversions and metrics around RGTModel's prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.utils import img2tensor, tensor2img
from numpy.typing import NDArray

from rgt_arch.config.settings import Tile, ValSettings, default_overlap
from rgt_arch.data.bicubic import imresize
from rgt_arch.data.pairing import Pair
from rgt_arch.errors import UserError, naming
from rgt_arch.evaluation.tables.methods import Runnable
from rgt_arch.evaluation.tables.results import Score
from rgt_arch.inference.memory import is_out_of_memory
from rgt_arch.models.pyiqa_metric import pyiqa
from rgt_arch.models.validation import fit_channels, predict
from rgt_arch.weights.building import load_model

BGR = NDArray[Any]
"""uint8 (H, W, 3), or (H, W, 1) from a grey network."""


def score_pair(image: BGR, hr: BGR, scale: int, *, on_grey: bool = False) -> Score:
    """Return BasicSR's PSNR and SSIM on Y of an image as large as HR, border = scale.

    on_grey: measure a grey image on its grey values, not on Y of three equal channels.
    """
    options = {"crop_border": scale, "test_y_channel": not on_grey}
    return {"psnr": float(calculate_psnr(image, hr, **options)), "ssim": float(calculate_ssim(image, hr, **options))}


def enlarger(ready: Runnable, scale: int, *, tile: int, num_gpu: int) -> Callable[[BGR], BGR]:
    """Return the function that makes a method's image of what lies beside HR: of LR, or of its result.

    tile: side in LR pixels, 0: whole images. num_gpu: 0 for the CPU. Raises UsageError for invalid weights.
    """
    if ready.weights is None:
        return partial(imresize, scale=scale) if ready.network["type"] == "bicubic" else lambda image: image
    device = torch.device("cuda" if num_gpu else "cpu")
    network = load_model(ready.weights, device)
    tiles = Tile(tile, default_overlap(tile)) if tile else None
    settings = ValSettings(tile=tiles, self_ensemble=ready.self_ensemble)

    @torch.inference_mode()
    def enlarge(image: BGR) -> BGR:
        lq = fit_channels(img2tensor(image.astype(np.float32) / 255)[None], network.in_chans)
        image = np.atleast_3d(tensor2img(predict(network, lq.to(device), settings, scale)))
        if device.type == "cuda":
            torch.cuda.empty_cache()  # images of many sizes fragment the memory pool
        return image

    return enlarge


def score_image(
    enlarge: Callable[[BGR], BGR], pair: Pair, scale: int, *, where: str, on_grey: bool, metrics: Sequence[str] = ()
) -> Score:
    """Measure one image. where: it, for messages. on_grey: as of `score_pair`. metrics: names of pyiqa's.

    Raises UserError for images that cannot be read or do not fit into memory, and metrics that fail.
    """
    hr, lq = (cv2.imread(str(file)) for file in (pair.gt, pair.lq))
    if hr is None or lq is None:
        raise UserError(f"{where}: it or the image that belongs to it cannot be read; replace them")
    try:
        with naming(where):
            image = enlarge(lq)
            if image.shape[2] == 1:
                fit_channels(img2tensor(hr)[None], 1)  # refuses HR in colour
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise UserError(f"{where}: out of memory; add --tile 256, or less") from error
        raise
    hr = hr[tuple(map(slice, image.shape))]  # BasicSR crops HR to `scale` times LR
    score = score_pair(image, hr, scale, on_grey=on_grey)
    for name in metrics:
        try:
            score[name], reason = pyiqa(image, hr, metric=name, crop_border=scale), "nan"
        except UserError:
            raise
        except Exception as error:  # a metric can raise anything
            score[name], reason = math.nan, f"{type(error).__name__}: {' '.join(str(error).split())}"
        if math.isnan(score[name]):
            raise UserError(f"{where}: no {name} ({reason}); leave it out of --metrics")
    return score
