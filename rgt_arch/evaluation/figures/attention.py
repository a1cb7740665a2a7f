"""Attention weights of a query in L-SA and RG-SA, and representative maps, read by forward hooks.

The network is not changed: hooks record the features that enter the chosen blocks and the maps of RG-SA. The attention
weights of one query are computed from them, in float32, with the network's own projections and biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import (
    RGT,
    Geometry,
    LocalAttention,
    RecursiveGeneralizationAttention,
    TransformerBlock,
    window_partition,
)

Place = tuple[int, int]
"""Group and block, counted from 0."""


@dataclass
class Seen:
    """The records of the hooks during one forward.

    entering: features (1, H, W, C) that enter a block. representative: X_r (1, h, w, c_r·C) of its RG-SA.
    """

    entering: dict[Place, Tensor] = field(default_factory=dict)
    representative: dict[Place, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class WindowAttention:
    """Weights of one query in one branch of L-SA."""

    window: tuple[int, int]
    weights: Tensor
    """(heads, H, W), NaN outside the query's window."""
    padding: Tensor
    """(heads,): share on the zeros that pad the window beyond the image."""


def blocks_of(network: RGT) -> dict[Place, TransformerBlock]:
    """Return all blocks in order of depth."""
    return {
        (group, index): block
        for group, layer in enumerate(network.layers)
        for index, block in enumerate(layer.blocks)  # type: ignore[arg-type]
    }


def is_global(block: TransformerBlock) -> bool:
    """Check whether a block is RG-SA."""
    return isinstance(block.attn, RecursiveGeneralizationAttention)


@torch.inference_mode()
def watch(network: RGT, image: Tensor, places: Sequence[Place]) -> Seen:
    """Run a network on an image (1, C, H, W), and record the features that enter `places` and all maps."""
    seen = Seen()
    with ExitStack() as hooks:
        for place, block in blocks_of(network).items():

            def note_input(_: nn.Module, inputs: tuple[Tensor, ...], place: Place = place) -> None:
                seen.entering[place] = inputs[0].float()

            def note_map(_: nn.Module, __: tuple[Tensor, ...], output: Tensor, place: Place = place) -> None:
                seen.representative[place] = output.float()

            if place in places:
                hooks.callback(block.register_forward_pre_hook(note_input).remove)
            if isinstance(block.attn, RecursiveGeneralizationAttention):
                hooks.callback(block.attn.norm_act.register_forward_hook(note_map).remove)
        network(image)
    return seen


@torch.inference_mode()
def global_weights(block: TransformerBlock, entering: Tensor, representative: Tensor, query: tuple[int, int]) -> Tensor:
    """Return a query's attention over the representative map, (heads, h, w); each head's weights add up to 1.

    entering, representative: of the block in `Seen`. query: (row, column).
    """
    attention = block.attn
    assert isinstance(attention, RecursiveGeneralizationAttention)
    _, height, width, _ = representative.shape
    q = attention.q(block.norm1(entering[:, query[0], query[1]])).view(attention.num_heads, 1, -1)
    k = attention.k(representative).reshape(height * width, attention.num_heads, -1).transpose(0, 1)
    scores = q @ k.transpose(1, 2) * attention.scale
    return scores.softmax(dim=-1).view(attention.num_heads, height, width)


@torch.inference_mode()
def window_weights(
    block: TransformerBlock, entering: Tensor, geometry: Geometry, query: tuple[int, int]
) -> list[WindowAttention]:
    """Return a query's attention inside its window, for both branches of L-SA.

    entering: of the block in `Seen`. geometry: `network.geometry` of the map. query: (row, column).
    """
    attention = block.attn
    assert isinstance(attention, LocalAttention)
    _, height, width, channels = entering.shape
    # The network pads both branches to a multiple of the longer side, with zeros after the projection.
    side = max(attention.split_size)
    position = torch.arange(height * width, device=entering.device).view(1, height, width, 1)
    position = F.pad(position, (0, 0, 0, -width % side, 0, -height % side), value=-1)
    result = []
    for number, ((window, shift), biases) in enumerate(
        zip(attention._windows(), attention._biases(geometry), strict=True)
    ):
        windows = window_partition(position.roll((-shift[0], -shift[1]), dims=(1, 2)), window)[0][..., 0]
        chosen, token = ((windows == query[0] * width + query[1]).nonzero()[0]).tolist()
        members = windows[chosen]
        valid = members >= 0
        down, across = position.shape[1] // window[0], position.shape[2] // window[1]
        last = (chosen // across == down - 1, chosen % across == across - 1)  # such windows wrap in shifted blocks
        features = entering.view(-1, channels)[members.clamp(min=0)]
        qkv = attention.qkv(block.norm1(features)) * valid[:, None]
        q, k, _ = qkv.view(-1, 3, 2, attention.branch_heads, attention.head_dim)[:, :, number].permute(1, 2, 0, 3)
        scores = q[:, token][:, None] @ k.transpose(1, 2) * attention.scale
        bias = biases[last if attention.shifted else (False, False)][:, token]
        weights = (scores[:, 0] + bias).softmax(dim=-1)
        whole = torch.full((attention.branch_heads, height * width), torch.nan, device=weights.device)
        whole[:, members[valid]] = weights[:, valid]
        result.append(WindowAttention(window, whole.view(-1, height, width), weights[:, ~valid].sum(dim=1)))
    return result
