"""Parameters and multiply-adds of an RGT by its parts, counted without computing anything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rgt_arch.archs import rgt_arch as arch
from rgt_arch.evaluation.speed.settings import Size
from rgt_arch.weights.building import build_network

LSA, RGSA = "L-SA", "RG-SA"
PARTS = ("first convolution", LSA, RGSA, "gated MLP", "norms", "HAI", "convolutions of groups and body", "upsampling")
"""In the order of the forward."""

# What fvcore counts for an element of a norm with and without learned scale and shift; the paper's totals come out so.
_NORM, _PLAIN_NORM = 5, 4
_BLOCK = r"layers\.\d+\.blocks\.\d+\."


@dataclass(frozen=True)
class Part:
    """One kind of part over the whole network, multiply-adds for one image."""

    name: str
    parameters: int = 0
    linear: int = 0
    """Linear layers and 1×1 projections of features."""
    convolution: int = 0
    attention: int = 0
    """Queries times keys, and weights times values."""
    norm: int = 0
    """5 for each element of a LayerNorm."""

    @property
    def products(self) -> int:
        """Multiply-adds of products alone, which is what torch's own counter counts, twice."""
        return self.linear + self.convolution + self.attention

    @property
    def total(self) -> int:
        """Products and norms."""
        return self.products + self.norm

    def plus(self, other: Part) -> Part:
        """The sum, under this part's name."""
        return Part(
            self.name,
            self.parameters + other.parameters,
            self.linear + other.linear,
            self.convolution + other.convolution,
            self.attention + other.attention,
            self.norm + other.norm,
        )


@dataclass(frozen=True)
class Complexity:
    """What a network costs for one image of a size, in evaluation."""

    size: Size
    depth: int
    """T, how often RG-SA applies its strided convolution."""
    representative: Size
    """Size of RG-SA's map after that."""
    parts: tuple[Part, ...]
    """Those of `PARTS` that the network has, in their order."""

    @property
    def whole(self) -> Part:
        """The sum of the parts."""
        return sum_of(self.parts)

    def part(self, name: str) -> Part:
        """One of the parts; empty where the network has none such."""
        return next((part for part in self.parts if part.name == name), Part(name))


def sum_of(parts: tuple[Part, ...]) -> Part:
    """All parts as one, called "all"."""
    result = Part("all")
    for part in parts:
        result = result.plus(part)
    return result


def count(config: Mapping[str, Any], size: Size) -> Complexity:
    """What the network with these constructor arguments costs for one image of `size` input pixels.

    Counted by torch's FlopCounterMode on the meta device: nothing is computed and nothing allocated. It is the
    published forward that is counted: attention written out, heads as wide as they are, no slices, windows padded
    where the size does not divide. Raises UsageError where the network refuses the arguments.
    """
    with torch.device("meta"):
        network = build_network(config).eval()
        image = torch.empty(1, network.in_chans, *size)
    parameters = [(_part(name, network), parameter.numel()) for name, parameter in network.named_parameters()]
    depth = network.geometry(*size, torch.device("meta")).depth
    times = _leave_out_equal_blocks(network)
    norms: list[tuple[str, int]] = []
    for path, module in network.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(partial(_note_norm, norms, path))
    with _narrow_heads(), arch.explicit_attention(), FlopCounterMode(display=False) as counter:
        network(image)  # with gradients, and so not in slices

    stride = network.reduction_stride
    representative = Size(size.height // stride**depth, size.width // stride**depth)
    parts = {name: Part(name) for name in PARTS}
    for name, number in parameters:
        parts[name] = parts[name].plus(Part(name, parameters=number))
    for path, products in _own_counts(network, counter, representative, size):
        name = _part(path, network)
        factor = times.get(_block_of(path), 1)
        parts[name] = parts[name].plus(Part(name, 0, *(factor * number for number in products)))
    for path, number in norms:
        name = _part(path, network)
        parts[name] = parts[name].plus(Part(name, norm=number * times.get(_block_of(path), 1)))
    return Complexity(size, depth, representative, tuple(part for part in parts.values() if part != Part(part.name)))


@contextmanager
def _narrow_heads() -> Iterator[None]:
    """Heads are padded to the widest of q, k and v only."""
    multiple, arch.HEAD_MULTIPLE = arch.HEAD_MULTIPLE, 1
    try:
        yield
    finally:
        arch.HEAD_MULTIPLE = multiple


def _note_norm(norms: list[tuple[str, int]], path: str, norm: nn.LayerNorm, _: object, out: Tensor) -> None:
    norms.append((path, out.numel() * (_PLAIN_NORM if norm.weight is None else _NORM)))


class _Same(nn.Module):
    """In the place of a block that costs as much as one before it."""

    def forward(self, x: Tensor, geometry: object) -> Tensor:
        return x


def _leave_out_equal_blocks(network: arch.RGT) -> dict[str, int]:
    """Blocks of equal parameters cost the same: keep the first of each kind, and say how many of it there are.

    Returns {path of a block that is left: how often it counts}. A deep network is counted in a second this way.
    """
    first: dict[object, str] = {}
    times: dict[str, int] = {}
    for path, block in list(network.named_modules()):
        if isinstance(block, arch.TransformerBlock):
            shapes = tuple((name, parameter.shape) for name, parameter in block.named_parameters())
            kind = (type(block.attn), shapes)
            if kind in first:
                network.set_submodule(path, _Same())
            kept = first.setdefault(kind, path)
            times[kept] = times.get(kept, 0) + 1
    return times


def _block_of(path: str) -> str:
    """The path of the block that a module lies in; empty for modules outside blocks."""
    match = re.match(_BLOCK, path)
    return match[0][:-1] if match else ""


def _part(path: str, network: arch.RGT) -> str:
    """The part that a parameter or module belongs to."""
    if re.match(_BLOCK + r"attn\b", path):
        attention = network.get_submodule(f"{_block_of(path)}.attn")
        return RGSA if isinstance(attention, arch.RecursiveGeneralizationAttention) else LSA
    for pattern, name in (
        (_BLOCK + r"mlp\b", "gated MLP"),
        (_BLOCK + r"gamma$", "HAI"),
        (_BLOCK + r"norm\d|norm\b|before_RG\b", "norms"),
        (r"conv_first\b", "first convolution"),
        (r"layers\.\d+\.conv\b|conv_after_body\b", "convolutions of groups and body"),
        (r"conv_before_upsample\b|upsample\b|conv_last\b", "upsampling"),
    ):
        if re.match(pattern, path):
            return name
    raise AssertionError(f"{path} belongs to no part")


def _own_counts(
    network: arch.RGT, counter: FlopCounterMode, representative: Size, size: Size
) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Multiply-adds (linear, convolution, attention) of the modules that are parts, by their paths."""
    counts = counter.get_flop_counts()
    for path, module in network.named_modules():
        whole_part = re.fullmatch(_BLOCK + r"(attn|mlp)|layers\.\d+\.conv|conv_\w+|upsample", path)
        if not whole_part or f"RGT.{path}" not in counts:
            continue
        linear = convolution = attention = 0
        for operation, flops in counts[f"RGT.{path}"].items():
            if "convolution" in str(operation):
                convolution += flops // 2
            elif "bmm" in str(operation):
                attention += flops // 2
            else:
                linear += flops // 2
        if isinstance(module, arch.RecursiveGeneralizationAttention):
            # queries and keys, c_r·C wide, were padded to the width of the values; where c_r > 1, values to theirs
            channels = module.num_heads * module.head_dim
            widened = size.pixels * abs(channels - module.cr)
            linear -= widened * channels
            attention -= widened * representative.pixels
        yield path, (linear, convolution, attention)
