"""How validation turns an LR image into an SR image: whole, tiled, chopped or self-ensembled; and channel fitting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rgt_arch.config import val_settings
from rgt_arch.errors import UsageError
from rgt_arch.inference.ensemble import self_ensemble
from rgt_arch.inference.tiling import chop_forward, tiled_forward


@dataclass(frozen=True)
class Prediction:
    """The `val` options that say how images are run: `prediction(network, lq)` gives the SR image."""

    scale: int = 1
    tile: tuple[int, int] | None = None
    """Size and overlap of blended tiles, in LR pixels."""
    use_chop: bool = False
    """The official code's pieces."""
    self_ensemble: bool = False
    """Mean over 8 flips and transposes (RGT+); tiles or chops are inside."""

    @classmethod
    def from_options(cls, opt: Mapping[str, Any]) -> Prediction:
        """Read `val.tile`, `val.use_chop`, `val.self_ensemble` and `scale`; UsageError for values out of range."""
        val = val_settings(opt)
        tile = (val.tile.size, val.tile.overlap) if val.tile else None
        scale = opt.get("scale") or opt["network_g"].get("upscale") or 1
        return cls(int(scale), tile, val.use_chop, val.self_ensemble)

    def __call__(self, network: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        """image: (B, C, H, W) in the network's range. Returns (B, C', H * scale, W * scale)."""
        forward = network
        if self.tile:
            forward = partial(tiled_forward, network, scale=self.scale, tile=self.tile[0], overlap=self.tile[1])
        elif self.use_chop:
            forward = partial(chop_forward, network, scale=self.scale)
        return self_ensemble(forward, image) if self.self_ensemble else forward(image)


def fit_channels(image: Tensor, channels: int | None) -> Tensor:
    """Grey images for colour networks and the other way round: BasicSR reads a grey PNG as three equal channels.

    image: (B, C, H, W). A grey network (channels 1) takes one of three equal channels, a colour network (3) takes a
    grey image three times; anything else is left as it is. UsageError where a grey network gets colour.
    """
    if channels == 1 and image.shape[1] == 3:
        grey = image[:, :1]
        if not torch.equal(grey.expand_as(image), image):
            raise UsageError(
                "network_g takes grey images but these are in colour: set color: y in each data set, or in_chans: 3"
            )
        return grey
    if channels == 3 and image.shape[1] == 1:
        return image.repeat(1, 3, 1, 1)  # not expand: tensor2img clamps in place
    return image
