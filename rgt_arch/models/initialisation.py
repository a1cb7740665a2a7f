"""Initial weights that already enlarge images: `train.init: interpolation`."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.errors import UsageError

# Small features, so that one step of Adam, which moves every weight alike, changes the output little.
_FEATURES = 0.25
_BODY = 0.1


def start_from_interpolation(network: nn.Module) -> None:
    """Set a new RGT's weights so that its output is linear interpolation; training learns the difference.

    With random weights an L1 loss is about brightness for the first thousand steps. Here separate channels carry the
    image: its positive and negative parts survive the LeakyReLU, the convolutions before PixelShuffle interpolate
    them, `conv_last` joins them again. The body adds nothing at first (as zero-initialised residual branches, Goyal
    et al. 2017, section 5.1). All weights are trained. Raises UsageError for a network that is not an RGT.
    """
    if not isinstance(network, RGT):
        raise UsageError(f"train.init: interpolation is for RGT, and network_g is {type(network).__name__}")
    images = network.conv_last.out_channels
    features = cast(nn.Conv2d, network.conv_before_upsample[0])
    slope = cast(nn.LeakyReLU, network.conv_before_upsample[1]).negative_slope
    if min(features.in_channels, features.out_channels // 2) < images:
        raise UsageError(f"train.init: interpolation needs at least {images} channels, that is a larger embed_dim")
    with torch.no_grad():
        nn.init.constant_(cast(Tensor, network.norm.weight), _BODY)
        after_body = [m for m in network.conv_after_body.modules() if isinstance(m, nn.Conv2d)][-1]
        _make_zero(after_body, after_body.out_channels)

        for parameter in network.conv_first.parameters():
            parameter.mul_(_FEATURES)
        _make_zero(network.conv_first, images)
        _make_zero(features, 2 * images)
        _make_zero(network.conv_last, images)
        for channel in range(images):
            negative = channel + images
            network.conv_first.weight[channel, channel, 1, 1] = 1
            features.weight[channel, channel, 1, 1] = 1
            features.weight[negative, channel, 1, 1] = -1
            network.conv_last.weight[channel, channel, 1, 1] = 1 / (1 + slope)
            network.conv_last.weight[channel, negative, 1, 1] = -1 / (1 + slope)
        for stage in network.upsample:
            if isinstance(stage, nn.Conv2d):
                _interpolate(stage)


def _make_zero(conv: nn.Conv2d, outputs: int) -> None:
    conv.weight[:outputs] = 0
    if conv.bias is not None:
        conv.bias[:outputs] = 0


def _interpolate(conv: nn.Conv2d) -> None:
    """Make PixelShuffle's output the linear interpolation of the input of `conv`, channel by channel."""
    scale = round((conv.out_channels / conv.in_channels) ** 0.5)
    _make_zero(conv, conv.out_channels)
    taps = _linear_taps(scale)
    kernels = torch.einsum("ia,jb->ijab", taps, taps).flatten(0, 1)
    for channel in range(conv.in_channels):
        conv.weight[channel * scale**2 : (channel + 1) * scale**2, channel] = kernels


def _linear_taps(scale: int) -> Tensor:
    """(scale, 3): for each output pixel of an input pixel, the weights of the previous, the same and the next pixel."""
    offset = (torch.arange(scale) + 0.5) / scale - 0.5
    return torch.stack([(-offset).clamp(min=0), 1 - offset.abs(), offset.clamp(min=0)], dim=1)
