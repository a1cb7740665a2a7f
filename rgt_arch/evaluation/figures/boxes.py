"""The parts of a picture that a comparison magnifies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rgt_arch.errors import UsageError
from rgt_arch.evaluation.figures.pictures import RGB

_LEAST = 4
_MOST_SLENDER = 5


@dataclass(frozen=True)
class Box:
    """A part of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int


def check_boxes(boxes: Sequence[tuple[int, ...]], image: RGB) -> list[Box]:
    """Boxes from (x, y, w, h) in HR pixels. Raises UsageError for a box outside the image."""
    height, width = image.shape[:2]
    result = []
    for x, y, w, h in boxes:
        text = f"--box {x},{y},{w},{h}"
        if min(w, h) < _LEAST or max(w, h) > _MOST_SLENDER * min(w, h):
            raise UsageError(
                f"{text}: sides must be {_LEAST} pixels at least, and one at most {_MOST_SLENDER} times the other"
            )
        if x + w > width or y + h > height:
            raise UsageError(f"{text}: does not lie in the image, which has {width}×{height} pixels")
        result.append(Box(x, y, w, h))
    return result


def most_different(base: RGB, others: Sequence[RGB], scale: int) -> Box:
    """The box where pictures differ most from a first one, by the mean absolute difference of their samples.

    A quarter of the shorter side wide, at most 96 pixels, 4:3, on the pixels of LR, and off the border that metrics
    leave out. base, others: (H, W, 3).
    """
    height, width = base.shape[:2]
    wide = _multiple(min(96, max(16, min(height, width) / 4)), scale, width)
    high = _multiple(wide * 0.75, scale, height)
    difference = np.zeros((height, width))
    for other in others:
        difference += np.abs(base.astype(np.int16) - other).mean(axis=2)
    sums = _box_sums(difference, high, wide)[::scale, ::scale]
    border = int(sums.shape[0] > 2 and sums.shape[1] > 2)  # one LR pixel
    inner = sums[border : len(sums) - border, border : sums.shape[1] - border]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    return Box((int(x) + border) * scale, (int(y) + border) * scale, wide, high)


def _multiple(value: float, scale: int, limit: int) -> int:
    """The multiple of scale next to a value, at least one, and no more than fits."""
    return max(1, min(round(value / scale), limit // scale)) * scale


def _box_sums(values: NDArray[np.float64], height: int, width: int) -> NDArray[np.floating[Any]]:
    """Sums over all boxes of a size, by their upper left corner."""
    table = cv2.integral(values)
    return table[height:, width:] - table[:-height, width:] - table[height:, :-width] + table[:-height, :-width]
