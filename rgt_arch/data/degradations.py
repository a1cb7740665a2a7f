"""LR images as cameras, programs and the web make them: one code for training and for `rgt prepare degrade`.

All functions draw from the global generators of Python, NumPy and PyTorch, which snapshots of a run hold.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.data.degradations import bivariate_Gaussian, random_add_gaussian_noise_pt, random_add_poisson_noise_pt
from basicsr.data.realesrgan_dataset import RealESRGANDataset
from basicsr.utils import DiffJPEG
from basicsr.utils.img_process_util import filter2D
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rgt_arch.config.tables import degradation_values
from rgt_arch.data.loading import seeded

_MODES = ("area", "bilinear", "bicubic")

# The profile `photo`: how often each step is taken, and its range. One in five images is only made smaller.
_CLEAN = 0.2
_RESIZED_AGAIN, _AGAIN = 0.3, (0.9, 1.25)  # size between the two, divided by that of LR
_BLURRED, _SIGMA = 0.3, (0.1, 1.0)  # pixels of LR
_NOISY, _NOISE, _POISSON, _GREY = 0.3, (0.0, 5.0), (0.0, 0.3), 0.4  # Poisson noise of 0.3 is 5 levels in white
_COMPRESSED, _WEBP, _QUALITY = 0.8, 0.25, (40, 95)


class RealDegradation:
    """Real-ESRGAN's second-order degradation (arXiv:2107.10833, section 3), as BasicSR's RealESRNetModel draws it."""

    def __init__(self, scale: int, values: Mapping[str, Any]) -> None:
        """values: of the keys `config.tables.DEGRADATION`."""
        self._scale, self._values = scale, values
        smallest = min(values["resize_range"][0], 1 / scale)  # of the images that kernels blur
        self.least_side = math.ceil(11 / smallest)
        """Sides of HR images, in pixels, below which a blur kernel may be larger than the image."""
        self._jpeger = DiffJPEG(differentiable=False)

    @torch.no_grad()
    def __call__(self, hr: Tensor, kernels: Mapping[str, Tensor]) -> Tensor:
        """Degrade a batch (models/realesrnet_model.py:78-168). One size of the batch is drawn for all of its images.

        hr: (B, 3, H, W) in [0, 1]; H and W are multiples of the scale, from `least_side` on. kernels: `kernel1`,
        `kernel2` and `sinc_kernel`, (B, 21, 21). Returns (B, 3, H / scale, W / scale) with values of 8 bits.
        """
        height, width = hr.shape[2:]
        lr_size = height // self._scale, width // self._scale
        blur1, blur2, sinc = (kernels[name].to(hr.device) for name in ("kernel1", "kernel2", "sinc_kernel"))
        image = filter2D(hr, blur1)
        image = F.interpolate(image, scale_factor=self._factor(""), mode=random.choice(_MODES))
        image = self._compressed(self._noisy(image, ""), "")
        if np.random.uniform() < self._values["second_blur_prob"]:
            image = filter2D(image, blur2)
        factor = self._factor("2")
        size = int(height / self._scale * factor), int(width / self._scale * factor)
        image = self._noisy(F.interpolate(image, size=size, mode=random.choice(_MODES)), "2")
        if np.random.uniform() < 0.5:
            image = filter2D(F.interpolate(image, size=lr_size, mode=random.choice(_MODES)), sinc)
            image = self._compressed(image, "2")
        else:
            image = self._compressed(image, "2")
            image = filter2D(F.interpolate(image, size=lr_size, mode=random.choice(_MODES)), sinc)
        return _in_8_bits(image).contiguous()

    def _factor(self, order: str) -> float:
        low, high = self._values[f"resize_range{order}"]
        ends = random.choices([(1, high), (low, 1), (1, 1)], self._values[f"resize_prob{order}"])[0]
        return np.random.uniform(*ends) if ends != (1, 1) else 1

    def _noisy(self, image: Tensor, order: str) -> Tensor:
        grey = self._values[f"gray_noise_prob{order}"]
        if np.random.uniform() < self._values[f"gaussian_noise_prob{order}"]:
            return random_add_gaussian_noise_pt(image, self._values[f"noise_range{order}"], grey)
        return random_add_poisson_noise_pt(image, self._values[f"poisson_scale_range{order}"], grey)

    def _compressed(self, image: Tensor, order: str) -> Tensor:
        quality = image.new_zeros(len(image)).uniform_(*self._values[f"jpeg_range{order}"])
        return self._jpeger(image.clamp(0, 1), quality=quality)


def degrade_image(image: NDArray[Any], scale: int, profile: str, numbers: tuple[int, int]) -> NDArray[np.uint8]:
    """Degrade an image with the degradation of a profile, as training does with the default values of its keys.

    image: (H, W) or (H, W, 3) in BGR order, uint8 or uint16; sides are multiples of the scale. numbers: the seeds of
    the random numbers. Returns (H / scale, W / scale, 3), the same on one machine whatever the number of processes.
    Raises ValueError for an image that is too small.
    """
    is_real = profile == "real"
    degrade = RealDegradation(scale, degradation_values({})) if is_real else PhotoDegradation(scale)
    if min(image.shape[:2]) < degrade.least_side:
        raise ValueError(
            f"is too small for the profile {profile} at x{scale}: a side is below {degrade.least_side} pixels"
        )
    colours = image if image.ndim == 3 else image[:, :, None].repeat(3, axis=2)
    hr = torch.from_numpy(colours[:, :, ::-1] / np.float32(np.iinfo(image.dtype).max)).permute(2, 0, 1)[None]
    with one_thread(), seeded(*numbers):
        lr = degrade(hr.contiguous(), draw_kernels() if is_real else {})
    return _pixels(lr[0])


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread: the processes share the cores, and sums depend on the number of threads.

    Needed before forking too: a child has no copies of torch's threads, and would wait for ever when it ended them.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def draw_kernels() -> dict[str, Tensor]:
    """Return kernels for one image, as RealESRGANDataset draws them with the values of Real-ESRGAN's option files."""
    options = {"dataroot_gt": "", "io_backend": {"type": "disk"}, "use_hflip": False, "use_rot": False}
    dataset = RealESRGANDataset({**options, "meta_info": os.devnull})
    dataset.paths, dataset.file_client = [""], _BlankImage()
    sample = dataset[0]
    return {name: sample[name][None] for name in ("kernel1", "kernel2", "sinc_kernel")}


class _BlankImage:
    """Gives RealESRGANDataset an image of its size, 400×400."""

    def get(self, *_: Any) -> bytes:
        return cv2.imencode(".png", np.zeros((400, 400, 3), np.uint8))[1].tobytes()


class PhotoDegradation:
    """Mild degradations of first order: made smaller, blurred, noisy, compressed, each for itself and not always."""

    def __init__(self, scale: int) -> None:
        self._scale, self.least_side = scale, 4 * scale

    @torch.no_grad()
    def __call__(self, hr: Tensor, _kernels: Any = None) -> Tensor:
        """Degrade each image of a batch by itself.

        hr: (B, 3, H, W) in [0, 1]; H and W are multiples of the scale, from `least_side` on. Returns
        (B, 3, H / scale, W / scale) with values of 8 bits.
        """
        return torch.cat([self._photo(image[None]) for image in hr])

    def _photo(self, hr: Tensor) -> Tensor:
        size = [side // self._scale for side in hr.shape[2:]]
        if np.random.uniform() < _CLEAN:
            return _in_8_bits(_resized(hr, size, "bicubic"))
        image = hr
        if np.random.uniform() < _RESIZED_AGAIN:
            factor = np.random.uniform(*_AGAIN)
            image = _resized(image, [max(round(side * factor), 1) for side in size], random.choice(_MODES))
        image = _resized(image, size, random.choice(_MODES))
        if np.random.uniform() < _BLURRED:
            sigma = np.random.uniform(*_SIGMA)
            image = filter2D(image, torch.from_numpy(bivariate_Gaussian(7, sigma, sigma, 0))[None].to(image))
        if np.random.uniform() < _NOISY:
            if np.random.uniform() < 0.5:
                image = random_add_gaussian_noise_pt(image, _NOISE, _GREY)
            else:
                image = random_add_poisson_noise_pt(image.clamp(0, 1), _POISSON, _GREY)
        image = _in_8_bits(image)
        if np.random.uniform() < _COMPRESSED:
            image = _compressed(image, ".webp" if np.random.uniform() < _WEBP else ".jpg")
        return image


def _resized(image: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """Resize as programs do: BasicSR's bilinear and bicubic leave out pixels when they make an image smaller."""
    return F.interpolate(image, size=tuple(size), mode=mode, antialias=mode != "area")


def _in_8_bits(image: Tensor) -> Tensor:
    return (image * 255).round().clamp(0, 255) / 255


def _compressed(image: Tensor, suffix: str) -> Tensor:
    """Encode (1, 3, H, W) with a drawn quality, and decode it. DiffJPEG differs from real files, and has no WebP."""
    option = cv2.IMWRITE_WEBP_QUALITY if suffix == ".webp" else cv2.IMWRITE_JPEG_QUALITY
    quality = int(np.random.randint(_QUALITY[0], _QUALITY[1] + 1))
    coded = cv2.imencode(suffix, _pixels(image[0]), [option, quality])[1]
    decoded = torch.from_numpy(cv2.imdecode(coded, cv2.IMREAD_COLOR)).to(image.device)
    return decoded.flip(2).permute(2, 0, 1)[None].contiguous().float() / 255


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) in [0, 1] -> (H, W, 3) in BGR order."""
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).flip(2).cpu().contiguous().numpy()
