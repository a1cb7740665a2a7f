"""MATLAB's bicubic `imresize`, bit for bit: it made the low-resolution images of this field's benchmarks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# float64 values that one slice of the work holds, so that it stays in a core's cache (256 KiB)
_SLICE = 32768
_ALL = slice(None)


def imresize(image: NDArray[Any], scale: float, part: tuple[slice, slice] = (_ALL, _ALL)) -> NDArray[Any]:
    """Resize as MATLAB's `imresize(image, scale, 'bicubic')` does; antialiased when it makes the image smaller.

    image: (H, W) or (H, W, C), uint8 or uint16. scale: new size / old size, > 0.
    Returns (ceil(H·scale), ceil(W·scale)[, C]) of the same dtype. As in MATLAB, samples are rounded, halves up, and
    clipped after the rows and once more after the columns. Edges are mirrored, the edge pixel repeated. BasicSR's
    `imresize` (utils/matlab_functions.py:79) works in float32, rounds at the end only, and so makes other images.
    part: rows and columns of the result to compute, from the pixels that they depend on; the same bits as slicing the
    whole result, without its time.

    Raises ValueError for another dtype or shape, an empty image, or a scale that is not a positive number.
    """
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f"image is {image.dtype} {image.shape}; imresize takes uint8 or uint16, (H, W) or (H, W, C)")
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale is {scale}; it must be a positive number")
    (row_taps, rows), (column_taps, columns) = (
        _taps(length, scale, some) for length, some in zip(image.shape[:2], part, strict=True)
    )
    top, left = rows.min(), columns.min()
    image = image[top : rows.max() + 1, left : columns.max() + 1]
    image = _resize_rows(_resize_rows(image, row_taps, rows - top).swapaxes(0, 1), column_taps, columns - left)
    return image.swapaxes(0, 1).copy()


def crop_to_multiple(image: NDArray[Any], scale: int) -> NDArray[Any]:
    """Return a view of the top left part of an (H, W[, C]) image, with height and width multiples of `scale`."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


def hr_lr_pair(hr: NDArray[Any], scale: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return HR cropped to a multiple of `scale`, and its bicubic LR, `scale` times smaller.

    hr: as for `imresize`. Raises ValueError if a side is shorter than `scale`.
    """
    hr = crop_to_multiple(hr, scale)
    if hr.size == 0:
        raise ValueError(f"the image is smaller than the scale {scale}")
    return hr, imresize(hr, 1 / scale)


def _resize_rows(image: NDArray[Any], taps: NDArray[np.float64], indices: NDArray[np.intp]) -> NDArray[Any]:
    """Resize the first axis of an array of any shape with the result of `_taps`."""
    rows = np.ascontiguousarray(image).reshape(image.shape[0], -1)
    out = np.empty((len(taps), rows.shape[1]), image.dtype)
    step = max(1, _SLICE // rows.shape[1])
    for start in range(0, len(out), step):
        part = slice(start, start + step)
        # One tap at a time, left to right: the order of the additions decides how exact halves round.
        total = taps[part, :1] * rows[indices[part, 0]]
        for tap in range(1, taps.shape[1]):
            total += taps[part, tap : tap + 1] * rows[indices[part, tap]]
        out[part] = np.clip(np.floor(total + 0.5), 0, np.iinfo(image.dtype).max)
    return out.reshape(len(out), *image.shape[1:])


def _taps(length: int, scale: float, part: slice) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Weights (new length, taps) and the indices of the samples they weigh, for one axis of `length` samples.

    part: the samples of the result to return them for.
    """
    new_length = math.ceil(length * scale)
    squeeze = min(scale, 1.0)  # antialiasing: the kernel is wider by 1 / scale when samples are dropped
    width = 4.0 / squeeze
    # In MATLAB's one-based coordinates, so that every rounding error is the same too.
    centre = np.arange(1, new_length + 1)[part] / scale + 0.5 * (1 - 1 / scale)
    left = np.floor(centre - width / 2)
    positions = left[:, None] + np.arange(math.ceil(width) + 2)
    taps = squeeze * _cubic(squeeze * (centre[:, None] - positions))
    taps /= taps.sum(axis=1, keepdims=True)
    used = taps.any(axis=0)
    mirrored = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    indices = mirrored[(positions[:, used].astype(np.intp) - 1) % (2 * length)]
    return taps[:, used], indices


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = −0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return near * (x <= 1) + far * ((x > 1) & (x <= 2))
