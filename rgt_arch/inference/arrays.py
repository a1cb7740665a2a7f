"""Convert pictures between NumPy arrays and network tensors: dtypes, grey, alpha, colours of invisible pixels."""

from __future__ import annotations

from itertools import product
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

_LARGEST = {"uint8": 255, "uint16": 65535, "float32": 1, "float64": 1}
_FLOATS_END = 2.0  # a filter may leave values above 1; larger ones suggest a range up to 255 or 65535
_ROWS = 256  # converted at a time, so that temporary copies are small


def split_alpha(image: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Split a picture into colour or grey, (H, W, 1 or 3), and alpha, (H, W, 1) or None.

    image: (H, W) or (H, W, 1 to 4); uint8, uint16, or float32 or float64 in [0, 1]. Raises ValueError for other arrays.
    """
    if image.dtype.name not in _LARGEST:
        raise ValueError(f"image dtype is {image.dtype}; it must be one of {', '.join(_LARGEST)}")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.size == 0 or not 1 <= image.shape[2] <= 4:
        raise ValueError(f"image shape is {image.shape}; it must be (H, W) or (H, W, C) with 1 to 4 channels")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError("image has values that are not finite")
    if image.dtype.kind == "f" and image.max() > _FLOATS_END:
        raise ValueError(
            f"image has values up to {image.max():g}; those of {image.dtype} must be from 0 to 1: divide it"
        )
    if image.shape[2] in (1, 3):
        return image, None
    return image[..., :-1], image[..., -1:]


def fill_transparent(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Give invisible pixels the colour of the nearest visible one.

    Otherwise the hidden colours, often black, reach the visible edge, because a network looks at neighbouring pixels.
    colour: (H, W, C). alpha: (H, W, 1).
    """
    hidden = alpha[..., 0] == 0
    if not hidden.any() or hidden.all():
        return colour
    labels = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )[1]
    position = np.zeros(labels.max() + 1, np.intp)
    visible = np.flatnonzero(~hidden)
    position[labels.ravel()[visible]] = visible
    return colour.reshape(-1, colour.shape[2])[position[labels]]


def to_tensor(image: NDArray[Any]) -> Tensor:
    """Convert (H, W, C) of a picture's dtype to float32 (1, C, H, W) in [0, 1]; values outside are clipped."""
    scaled = image.astype(np.float32) / np.float32(_LARGEST[image.dtype.name])
    return torch.from_numpy(np.ascontiguousarray(scaled.clip(0, 1).transpose(2, 0, 1))[None])


@torch.inference_mode()
def keep_flat(image: Tensor, result: Tensor, scale: int) -> Tensor:
    """Where the input has one colour within 2 pixels, set `result` to exactly that colour, in place.

    Networks trained only on photographs miss flat colours slightly, for example by one level in the middle of blank
    paper; in alpha this would show as specks.
    image: (1, C, H, W). result: (1, C, H·scale, W·scale).
    """
    around = functional.pad(image, (2, 2, 2, 2), mode="replicate")
    flat = (functional.max_pool2d(around, 5, 1) == -functional.max_pool2d(-around, 5, 1)).all(dim=1, keepdim=True)
    if flat.any():
        for row, column in product(range(scale), repeat=2):  # saves a second array of the result's size
            part = result[..., row::scale, column::scale]
            part.copy_(torch.where(flat, image, part))
    return result


@torch.inference_mode()
def clamp_corners(image: Tensor, result: Tensor, scale: int) -> Tensor:
    """Clamp the result of each corner pixel to the values of the 3×3 pixels at that corner; in place.

    A network's zero padding reaches a corner from two sides: the corners of a scanned page, whose noisy white is not
    flat, came out tens of levels too dark. image: (1, C, H, W). result: (1, C, H·scale, W·scale).
    """
    for rows, columns in product((slice(None, 3), slice(-3, None)), repeat=2):
        there = image[..., rows, columns]
        row, column = (slice(None, scale) if part.start is None else slice(-scale, None) for part in (rows, columns))
        corner = result[..., row, column]
        corner.copy_(corner.clamp(there.amin((-2, -1), keepdim=True), there.amax((-2, -1), keepdim=True)))
    return result


def to_array(tensor: Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert (1, C, H, W) in [0, 1] to (H, W, C) of a picture's dtype; integers are rounded."""
    planes = tensor[0].permute(1, 2, 0)
    array = np.empty(planes.shape, dtype)
    for start in range(0, len(planes), _ROWS):
        values = planes[start : start + _ROWS].clamp(0, 1).float().cpu().numpy()
        if dtype.kind == "u":
            values = np.rint(values * np.float32(_LARGEST[dtype.name]))
        array[start : start + _ROWS] = values
    return array


def resize(tensor: Tensor, size: tuple[int, int], method: Image.Resampling) -> Tensor:
    """Resize (1, C, H, W) to float32 (1, C, *size) in [0, 1] with Pillow's antialiased filters."""
    height, width = size
    result = np.empty((1, tensor.shape[1], height, width), np.float32)
    for place, plane in zip(result[0], tensor[0].float().cpu().numpy(), strict=True):
        place[:] = Image.fromarray(plane).resize((width, height), method)
    return torch.from_numpy(result).clamp_(0, 1)
