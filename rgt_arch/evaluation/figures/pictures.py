"""Pictures as figures need them: 8-bit RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rgt_arch.errors import UsageError, UserError
from rgt_arch.inference.pictures import read_picture
from rgt_arch.inference.pictures.writing import on_white, rounded

RGB = NDArray[np.uint8]


def read_rgb(path: Path) -> RGB:
    """A picture file as (H, W, 3) uint8: 16 bits are rounded, grey has three equal channels, alpha is put on white.

    Raises UsageError in one line for files that cannot be read as one.
    """
    try:
        picture = read_picture(path)
    except UserError as error:
        raise UsageError(str(error)) from error
    pixels = rounded(picture.pixels)
    if picture.has_alpha:
        pixels = on_white(pixels)
    return np.ascontiguousarray(np.broadcast_to(pixels[..., None], (*pixels.shape, 3)) if pixels.ndim == 2 else pixels)
