"""What a picture is here: pixels with straight alpha, and the metadata of its file that goes into the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ICC_SPACES = {b"GRAY": (1, 2), b"RGB ": (3, 4)}  # the colour space of a profile, and the channels it can describe


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright.

    pixels: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGBA; uint8 or uint16; alpha is straight.
    icc_profile: of these pixels; None where the file had none, or its colours were converted to sRGB.
    exif: starts with "Exif\\0\\0"; the orientation in it is 1 and there is no thumbnail. xmp: opaque.
    dpi: (x, y) dots per inch, if the file says. texts: by key, of a PNG, or the comment of a JPEG.
    notices: what of the file is not in here, in one line each, without the file's name.
    Raises ValueError for pixels of another shape or type.
    """

    pixels: NDArray[Any]
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    notices: tuple[str, ...] = field(default=(), compare=False)
    xmp: bytes | None = None
    texts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pixels.ndim not in (2, 3) or self.channels not in (1, 2, 3, 4) or 0 in self.pixels.shape:
            raise ValueError(f"pixels must be (H, W) or (H, W, 2 to 4), not {self.pixels.shape}")
        if self.pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"pixels must be uint8 or uint16, not {self.pixels.dtype}")

    @property
    def channels(self) -> int:
        return 1 if self.pixels.ndim == 2 else self.pixels.shape[2]

    @property
    def has_alpha(self) -> bool:
        return self.channels in (2, 4)

    def replace_pixels(self, pixels: NDArray[Any]) -> Picture:
        """The same picture with other pixels, perhaps of another size, and without notices."""
        return replace(self, pixels=pixels, notices=())


def icc_fits(profile: bytes, channels: int) -> bool:
    """Whether an ICC profile describes pixels of so many channels: a profile for RGB in a grey file is a fault."""
    return channels in _ICC_SPACES.get(profile[16:20], ())
