"""RGT, the Recursive Generalization Transformer for image super-resolution, in one self-contained file.

Needs Python 3.10, torch 2.4 and BasicSR's registry and nothing else, so it can be dropped into `basicsr/archs/` or any
BasicSR project.

Method: Chen et al., "Recursive Generalization Transformer for Image Super-Resolution", ICLR 2024 (arXiv 2303.06373).
Constructor names, state-dict keys, parameter order and results are those of the official code, so its option files,
`.pth` and `.state` files work as they are.

Features keep one layout, (B, H, W, C), from the first convolution to the last; convolutions see it as channels-last.
Nothing is cached: what depends on the size is made once per `RGT.forward` (`Geometry`), what depends on the weights
once per block and forward. Without gradients the blocks and the upsampling tail work in slices, so that memory grows
with the pixels and not with their square; the slices change the result only by rounding.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

if sys.version_info < (3, 10) or not hasattr(torch, "get_autocast_dtype"):
    raise ImportError(
        f"{__file__}: RGT needs Python 3.10 and torch 2.4 or newer; this is Python {sys.version.split()[0]} with torch "
        f"{torch.__version__}"
    )

__all__ = ["RGT", "explicit_attention", "recursion_depth", "rgt", "rgt_s", "rgt_t"]

# as float32 has it, in float64 networks too: the official code keeps it in float32
RGB_MEAN = tuple(torch.tensor((0.4488, 0.4371, 0.4040)).tolist())
MASK_VALUE = -100.0  # the published weights were trained with this value, not with -inf
HEAD_MULTIPLE = 8  # fused attention kernels want head widths that are multiples of this
SAVED_MASK_SIZE = 64  # the official code saves shift masks for a 64×64 map, whatever the patch size

# Pixels of a feature map worked on at a time when there is no gradient to keep. On a CPU the slices should stay in
# the cache, and each thread needs enough of each operation, after which all wait for the slowest: they are as many for
# each thread. On a GPU they have to bound the memory (512×512 pixels, one group of RGT ×4: 1.2 GB; with slices of 2¹⁸
# pixels 2.6), and small ones would leave it idle.
SLICE_PIXELS = {"cpu": 4096}
SLICE_PIXELS_DEFAULT = 1 << 16

# State-dict entries that are derived from the arguments; no buffers here, but other implementations expect them.
DERIVED_NAMES = ("attn_mask_0", "attn_mask_1", "rpe_biases", "relative_position_index")

# Arguments of the published networks, and of RGT-T, which is small enough to train and run on a CPU.
_PAPER = {"embed_dim": 180, "split_size": [8, 32], "mlp_ratio": 2.0, "qkv_bias": True, "c_ratio": 0.5}
PRESETS: dict[str, dict[str, Any]] = {
    "RGT": {**_PAPER, "depth": [6] * 8, "num_heads": [6] * 8},
    "RGT-S": {**_PAPER, "depth": [6] * 6, "num_heads": [6] * 6},
    "RGT-T": {**_PAPER, "embed_dim": 96, "split_size": [8, 16], "depth": [4] * 2, "num_heads": [6] * 2},
}

_fused = True


@contextmanager
def explicit_attention() -> Iterator[None]:
    """Within this context the network computes as published, without fused attention and joined convolutions.

    For tests, exporters, and counting operations.
    """
    global _fused
    previous, _fused = _fused, False
    try:
        yield
    finally:
        _fused = previous


# ----------------------------------------------------------------------------------------------------------------------
# Pure functions
# ----------------------------------------------------------------------------------------------------------------------


def window_partition(x: Tensor, window: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """Cut a feature map into windows, padding right and bottom with zeros where it does not divide.

    x: (B, H, W, C). Returns windows (B·nH·nW, h·w, C) and the padded size, which `window_reverse` takes back off.
    """
    batch, height, width, channels = x.shape
    h, w = window
    pad_h, pad_w = -height % h, -width % w
    if pad_h or pad_w:
        x = F.pad(x, (0, 0, 0, pad_w, 0, pad_h))
    padded = (height + pad_h, width + pad_w)
    x = x.reshape(batch, padded[0] // h, h, padded[1] // w, w, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, h * w, channels), padded


def window_reverse(
    windows: Tensor, window: tuple[int, int], padded: tuple[int, int], size: tuple[int, int] | None = None
) -> Tensor:
    """Undo `window_partition`: windows (B·nH·nW, h·w, C) to (B, H, W, C), cropped to `size` (default: `padded`)."""
    h, w = window
    height, width = padded
    channels = windows.shape[-1]
    x = windows.reshape(-1, height // h, width // w, h, w, channels)
    x = x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, channels)
    return x if size is None or size == padded else x[:, : size[0], : size[1]]


def relative_offsets(window: tuple[int, int], device: torch.device) -> Tensor:
    """All relative offsets inside a window, ((2h-1)·(2w-1), 2) float32: what the position-bias MLP is evaluated on."""
    h, w = window
    rows = torch.arange(1 - h, h, device=device, dtype=torch.float32)
    cols = torch.arange(1 - w, w, device=device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(rows, cols, indexing="ij"), dim=-1).reshape(-1, 2)


def relative_index(window: tuple[int, int], device: torch.device) -> Tensor:
    """For each pair of window positions the row of `relative_offsets` that holds their offset, (h·w, h·w) int64."""
    h, w = window
    position = torch.arange(h * w, device=device)
    row, col = position // w, position % w
    return (row[:, None] - row[None] + h - 1) * (2 * w - 1) + (col[:, None] - col[None] + w - 1)


def shift_mask(
    window: tuple[int, int], shift: tuple[int, int], wraps: tuple[bool, bool], device: torch.device
) -> Tensor:
    """Additive mask of a window that a cyclic shift made up from two sides of the image, (h·w, h·w) float32.

    `wraps` says whether the window holds the wrap in rows and in columns. Positions that were not neighbours before
    the shift get −100, all others 0.
    """
    h, w = window
    position = torch.arange(h * w, device=device)
    side = torch.zeros_like(position)
    if wraps[0]:
        side = side + (position // w >= h - shift[0])
    if wraps[1]:
        side = side + 2 * (position % w >= w - shift[1])
    return (side[:, None] != side[None]).float() * MASK_VALUE


def _floor_log(value: int, base: int) -> int:
    """⌊log_base(value)⌋ in integers; 0 for values under `base`, 0 included, where a logarithm would be refused."""
    result = 0
    while value >= base:
        value //= base
        result += 1
    return result


def recursion_depth(height: int, width: int, training: bool, stride: int = 4) -> int:
    """T, how often RG-SA applies its strided convolution to an (height, width) map (paper, section 3.2).

    The official rule where that rule works: train max(⌊log₄(H//4)⌋, ⌊log₄(W//4)⌋), eval max(2, ⌊log₄(H//16)⌋,
    ⌊log₄(W//16)⌋); where the official code would crash on a small or thin image, the largest T that leaves 1×1.
    """
    if training:
        depth = max(_floor_log(height // stride, stride), _floor_log(width // stride, stride))
    else:
        # at least the 2 of training on 64×64 patches
        depth = max(2, _floor_log(height // stride**2, stride), _floor_log(width // stride**2, stride))
    return min(depth, _floor_log(min(height, width), stride))


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, dropout: float = 0.0) -> Tensor:
    """softmax(q·kᵀ·scale + bias)·v over (n, heads, tokens, width); all attention of the network goes through here.

    `bias` broadcasts to (n, heads, queries, keys).
    """
    if bias is not None:
        bias = bias.to(q.dtype)
    # On a CPU nothing fused gives the bias a gradient, and without one the fused backward is slower.
    unfused = q.device.type == "cpu" and torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
    if _fused and not unfused:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale)
    scores = q @ (k * scale).transpose(-2, -1)  # RG-SA has far fewer keys than queries
    if bias is not None:
        scores = scores + bias
    weights = scores.softmax(dim=-1)
    if dropout:  # a rate of 0 would do nothing, but torch.compile may have made the rate a symbol, which is refused
        weights = F.dropout(weights, dropout)
    return weights @ v


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer over the last dimension: x (B, H, W, C), weight (D, C), gives (B, H, W, D).

    On a CPU in float32 a 1×1 convolution on channels-last data takes half the time of `F.linear`, which goes to
    another, slower library there; everywhere else `F.linear` is right.
    """
    if x.device.type == "cpu" and x.dtype == torch.float32:
        return F.conv2d(x.permute(0, 3, 1, 2), weight[:, :, None, None], bias).permute(0, 2, 3, 1)
    return F.linear(x, weight, bias)


def _norm_pointwise(norm: nn.Module, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    return pointwise(norm(x), weight, bias)


def convolve(x: Tensor, conv: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a convolution that wants (B, C, H, W) to channels-last features (B, H, W, C)."""
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def reduce(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """The strided depth-wise convolution of RG-SA on channels-last features (B, H, W, C).

    On a CPU its bfloat16 backward takes 8 times as long as that in float32, which is used there instead.
    """
    if x.device.type == "cpu" and torch.is_grad_enabled() and _compute_dtype(x) is torch.bfloat16:
        with torch.autocast("cpu", enabled=False):
            bias = None if conv.bias is None else conv.bias.float()
            out = F.conv2d(x.permute(0, 3, 1, 2).float(), conv.weight.float(), bias, conv.stride, groups=conv.groups)
        return out.to(torch.bfloat16).permute(0, 2, 3, 1)
    return convolve(x, conv)


def shuffled_convolution(x: Tensor, first: nn.Conv2d, factor: int, last: nn.Conv2d) -> Tensor:
    """last(pixel_shuffle(first(x))) of 3×3 convolutions, (B, C, H, W) to (B, D, factor·H, factor·W), in fewer products.

    There is no activation in between, so both are one 5×5 convolution to D·factor² channels before the shuffle, with
    an eighth of the products at ×2. Only the outermost pixels differ, which see the padding of `last`; they are
    computed as written.
    """

    def as_written(part: Tensor) -> Tensor:
        return last(F.pixel_shuffle(first(part), factor))

    with torch.autocast(x.device.type, enabled=False):  # the product of weights is not to be rounded
        # `last` as a 3×3 convolution of the unshuffled map, for each of the factor² places of an output pixel
        near, far = factor - 1, 2 * factor - 2
        kernels = [
            F.pixel_unshuffle(F.pad(last.weight, (near + col, far - col, near + row, far - row)), factor)
            for row, col in itertools.product(range(factor), repeat=2)
        ]
        second = torch.stack(kernels, dim=1).flatten(0, 1)
        # both kernels convolved; conv2d correlates, so one is turned round
        weight = F.conv2d(first.weight.transpose(0, 1), second.flip(2, 3), padding=2).transpose(0, 1)
        assert first.bias is not None
        assert last.bias is not None
        bias = second.sum((2, 3)) @ first.bias + last.bias.repeat_interleave(factor**2)
    out = F.pixel_shuffle(F.conv2d(x, weight, bias, padding=2), factor)
    top, bottom = as_written(x[:, :, :2])[:, :, :1], as_written(x[:, :, -2:])[:, :, -1:]
    out = torch.cat([top, out[:, :, 1:-1], bottom], dim=2)
    left, right = as_written(x[..., :2])[..., :1], as_written(x[..., -2:])[..., -1:]
    return torch.cat([left, out[..., 1:-1], right], dim=3)


def pad_heads(weight: Tensor, heads: int, width: int) -> Tensor:
    """Widen each head's rows of a parameter (heads·d, …) to `width` rows with zeros: (heads·width, …)."""
    rest = weight.shape[1:]
    weight = weight.reshape(heads, -1, *rest)
    padding = (0, 0) * len(rest) + (0, width - weight.shape[1])
    return F.pad(weight, padding).reshape(heads * width, *rest)


def _head_width(*widths: int) -> int:
    """The common width that heads are padded to: the widest, rounded up to a multiple of 8."""
    return -(-max(widths) // HEAD_MULTIPLE) * HEAD_MULTIPLE


def _slices_allowed() -> bool:
    """Whether work may be cut into slices written in place: no gradient to keep and no graph being recorded."""
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing())


def slice_pixels(device: torch.device) -> int:
    """The pixels of a slice: `SLICE_PIXELS` for each thread of a CPU, up to those of other devices."""
    if device.type not in SLICE_PIXELS:
        return SLICE_PIXELS_DEFAULT
    return min(SLICE_PIXELS[device.type] * torch.get_num_threads(), SLICE_PIXELS_DEFAULT)


def _slice_rows(x: Tensor, halo: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """Row bands of (B, H, W, C): (start, stop) to produce and (from, to) to read, `halo` rows more on each side."""
    batch, height, width, _ = x.shape
    budget = slice_pixels(x.device)
    # a multiple of 16 so that halos stay cheap on wide images and strided convolutions fit
    rows = max(16, budget // max(1, batch * width) // 16 * 16)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        yield start, stop, max(0, start - halo), min(height, stop + halo)


class Geometry(NamedTuple):
    """What the blocks need to know of the size of the map, made once per `RGT.forward` on the features' device."""

    depth: int
    """T, the recursion depth of every RG-SA."""
    offsets: tuple[Tensor, Tensor]
    """Per branch of L-SA: `relative_offsets`."""
    indices: tuple[Tensor, Tensor]
    """Per branch of L-SA: `relative_index`."""
    masks: tuple[dict[tuple[bool, bool], Tensor], dict[tuple[bool, bool], Tensor]]
    """Per branch of L-SA: `shift_mask` by which of (rows, columns) the window wraps."""


# ----------------------------------------------------------------------------------------------------------------------
# Blocks
# ----------------------------------------------------------------------------------------------------------------------


class DropPath(nn.Module):
    """Stochastic depth per sample: a residual branch is dropped with probability `rate` and else scaled up."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(keep)
        return x * (mask / keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


class Gate(nn.Module):
    """The gate of the MLP: a value × depth-wise 3×3 of the normalised gate."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.conv = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim)

    def forward(self, value: Tensor, gate: Tensor, inner: slice = slice(None)) -> Tensor:
        """value: (B, h, W, C); gate: (B, H, W, C), whose rows `inner` are those of the value."""
        gate = convolve(self.norm(gate), self.conv)[:, inner]
        return value.mul_(gate) if _slices_allowed() else value * gate


class GatedMLP(nn.Module):
    """Linear → activation → gate → linear over (B, H, W, C) (paper, section 3.1)."""

    def __init__(self, dim: int, hidden: int, act_layer: Callable[[], nn.Module], recompute_gate: bool = True) -> None:
        """recompute_gate: the backward pass computes activations and gate again, which saves four maps for 2 % of time.

        Not where the block is recomputed as a whole.
        """
        super().__init__()
        self.recompute_gate = recompute_gate
        self.fc1 = nn.Linear(dim, hidden)
        self.act = act_layer()
        self.sg = Gate(hidden // 2)
        self.fc2 = nn.Linear(hidden // 2, dim)

    def forward(self, x: Tensor, inner: slice = slice(None)) -> Tensor:
        """x: (B, H, W, C). `inner` are the rows wanted, where x brings neighbours for the gate's 3×3 along."""
        # Two products, though it is one layer: halves of one would be strided, and the value needs no neighbours.
        weights, biases = self.fc1.weight.chunk(2), self.fc1.bias.chunk(2)
        value = pointwise(x[:, inner], weights[0], biases[0])
        gate = pointwise(x, weights[1], biases[1])
        if self.recompute_gate and self.training and torch.is_grad_enabled():
            gated = checkpoint(self._gated, value, gate, inner, use_reentrant=False, preserve_rng_state=False)
        else:
            gated = self._gated(value, gate, inner)
        return pointwise(gated, self.fc2.weight, self.fc2.bias)

    def _gated(self, value: Tensor, gate: Tensor, inner: slice) -> Tensor:
        return self.sg(self.act(value), self.act(gate), inner)


class DynamicPosBias(nn.Module):
    """MLP from relative offsets (n, 2) to one bias a head (n, heads), after CrossFormer."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        width = dim // 4
        self.pos_proj = nn.Linear(2, width)
        self.pos1 = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width))
        self.pos2 = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width))
        self.pos3 = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, num_heads))

    def forward(self, offsets: Tensor) -> Tensor:
        return self.pos3(self.pos2(self.pos1(self.pos_proj(offsets.to(self.pos_proj.weight.dtype)))))


class _DerivedKeys(nn.Module):
    """A module whose state dict holds tensors that are no buffers, because other implementations expect them.

    They are made anew on the CPU at each `state_dict()` and share storage with equal ones already in it, which keeps
    saved files small; on loading they are checked, where that means something, and dropped.
    """

    def derived(self) -> dict[str, Tensor]:
        """The tensors by their name in the state dict."""
        raise NotImplementedError

    def check_derived(self, name: str, saved: Tensor) -> str | None:
        """Why a saved tensor shows that the file does not fit this module, or None."""
        return None

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, tensor in self.derived().items():
            # the last two parts of a key name the branch, and all blocks have the same branches
            suffix = ".".join((prefix + name).split(".")[-2:])
            twin = next((value for key, value in destination.items() if key.endswith(suffix)), None)
            destination[prefix + name] = twin if twin is not None and torch.equal(twin, tensor) else tensor

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for name in DERIVED_NAMES:
            saved = state_dict.pop(prefix + name, None)
            if saved is not None and not saved.is_meta:
                problem = self.check_derived(name, saved)
                if problem is not None:
                    error_msgs.append(f"{prefix}{name}: {problem}")
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


class WindowBranch(_DerivedKeys):
    """One of the two branches of L-SA: the window (h, w) and its position bias."""

    def __init__(self, dim: int, num_heads: int, window: tuple[int, int]) -> None:
        super().__init__()
        self.window = window
        self.pos = DynamicPosBias(dim // 4, num_heads)

    def derived(self) -> dict[str, Tensor]:
        cpu = torch.device("cpu")
        return {
            "rpe_biases": relative_offsets(self.window, cpu),
            "relative_position_index": relative_index(self.window, cpu),
        }

    def check_derived(self, name: str, saved: Tensor) -> str | None:
        expected = self.derived()[name]
        if saved.shape == expected.shape and torch.equal(saved.cpu().to(expected.dtype), expected):
            return None
        return f"the file was made for other windows than {self.window[0]}×{self.window[1]}; check split_size"

    def bias(self, offsets: Tensor, index: Tensor) -> Tensor:
        """Position bias of every pair of window positions, (heads, h·w, h·w)."""
        # F.embedding: the backward of advanced indexing is not deterministic on several CPU threads
        return F.embedding(index, self.pos(offsets)).permute(2, 0, 1).contiguous()


class LocalAttention(_DerivedKeys):
    """L-SA: window attention in two branches, one with lying, one with standing windows (paper, section 3.3).

    Half the channels and heads each; in shifted blocks the windows are moved by half a window, cyclically. A
    depth-wise 3×3 of V is added before the projection.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        split_size: tuple[int, int],
        shifted: bool,
        qkv_bias: bool,
        qk_scale: float | None,
        attn_drop: float,
        proj_drop: float,
    ) -> None:
        super().__init__()
        self.branch_heads = num_heads // 2
        self.head_dim = dim // 2 // self.branch_heads
        self.scale = qk_scale or self.head_dim**-0.5
        self.shifted = shifted
        self.split_size = split_size
        self.attn_drop = attn_drop
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.attns = nn.ModuleList(
            WindowBranch(dim // 2, self.branch_heads, window) for window in (split_size, split_size[::-1])
        )
        self.get_v = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim)

    # -- state dict ----------------------------------------------------------------------------------------------------

    def derived(self) -> dict[str, Tensor]:
        if not self.shifted or any(SAVED_MASK_SIZE % side for side in self.split_size):
            return {}
        cpu = torch.device("cpu")
        masks = {}
        for number, (window, shift) in enumerate(self._windows()):
            last_row, last_col = SAVED_MASK_SIZE // window[0] - 1, SAVED_MASK_SIZE // window[1] - 1
            kinds = {
                (rows, cols): shift_mask(window, shift, (rows, cols), cpu)
                for rows, cols in itertools.product((False, True), repeat=2)
            }
            masks[f"attn_mask_{number}"] = torch.stack(
                [kinds[row == last_row, col == last_col] for row in range(last_row + 1) for col in range(last_col + 1)]
            )
        return masks

    # -- forward -------------------------------------------------------------------------------------------------------

    def _windows(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Window and shift of each branch."""
        shift = (self.split_size[0] // 2, self.split_size[1] // 2) if self.shifted else (0, 0)
        return [(self.split_size, shift), (self.split_size[::-1], shift[::-1])]

    def _padded_qkv(self) -> tuple[Tensor, Tensor | None, int]:
        """The qkv projection reordered to (branch, qkv, head, width) with heads widened: weight, bias, head width."""
        width = _head_width(self.head_dim)
        heads = 3 * 2 * self.branch_heads

        def reorder(parameter: Tensor) -> Tensor:
            rest = parameter.shape[1:]
            parameter = pad_heads(parameter, heads, width)
            return parameter.reshape(3, 2, -1, *rest).transpose(0, 1).reshape(-1, *rest)

        bias = self.qkv.bias
        return reorder(self.qkv.weight), None if bias is None else reorder(bias), width

    def _biases(self, geometry: Geometry) -> list[dict[tuple[bool, bool], Tensor]]:
        """Position bias plus shift mask of each branch, by which of (rows, columns) the window wraps."""
        result = []
        for branch, offsets, index, masks in zip(
            self.attns, geometry.offsets, geometry.indices, geometry.masks, strict=True
        ):
            assert isinstance(branch, WindowBranch)
            bias = branch.bias(offsets, index)
            variants = {(False, False): bias}
            if self.shifted:
                variants |= {wraps: bias + mask.to(bias.dtype) for wraps, mask in masks.items()}
            result.append(variants)
        return result

    def _attend_windows(self, qkv: Tensor, window: tuple[int, int], bias: Tensor, head_width: int) -> Tensor:
        """Attention inside the windows of a map (B, H, W, 3·heads·width); gives (B, H, W, heads, width)."""
        batch, height, width, _ = qkv.shape
        windows, padded = window_partition(qkv, window)
        windows = windows.view(*windows.shape[:2], 3, self.branch_heads, head_width)
        q, k, v = windows.permute(2, 0, 3, 1, 4)
        dropout = self.attn_drop if self.training else 0.0
        attended = attend(q, k, v, bias[None], self.scale, dropout)
        attended = attended.transpose(1, 2).reshape(windows.shape[0], windows.shape[1], -1)
        return window_reverse(attended, window, padded).view(batch, height, width, self.branch_heads, head_width)

    def forward(self, x: Tensor, geometry: Geometry) -> Tensor:
        """Normalised features (B, H, W, C) to the branch that is added to them."""
        batch, height, width, channels = x.shape
        weight, bias, head_width = self._padded_qkv()
        qkv = pointwise(x, weight, bias)
        value = qkv.view(batch, height, width, 2, 3, self.branch_heads, head_width)[:, :, :, :, 2, :, : self.head_dim]
        value = value.reshape(batch, height, width, channels)
        # Both branches are padded to a multiple of the longer side, after the projection, and the padded keys stay
        # unmasked: the published weights were trained so.
        side = max(self.split_size)
        qkv = F.pad(qkv, (0, 0, 0, -width % side, 0, -height % side))
        branches = [
            self._attend_map(part, window, shift, biases, head_width)[:, :height, :width]
            for part, (window, shift), biases in zip(
                qkv.chunk(2, dim=-1), self._windows(), self._biases(geometry), strict=True
            )
        ]
        attended = torch.cat(branches, dim=3)[..., : self.head_dim].reshape(batch, height, width, channels)
        x = attended + convolve(value, self.get_v)
        return self.proj_drop(pointwise(x, self.proj.weight, self.proj.bias))

    def _attend_map(
        self,
        qkv: Tensor,
        window: tuple[int, int],
        shift: tuple[int, int],
        biases: dict[tuple[bool, bool], Tensor],
        head_width: int,
    ) -> Tensor:
        """One branch over a whole map; the windows that wrap, the last row and column, are done on their own."""
        if not self.shifted:
            return self._attend_windows(qkv, window, biases[False, False], head_width)
        qkv = torch.roll(qkv, (-shift[0], -shift[1]), dims=(1, 2))
        row, col = qkv.shape[1] - window[0], qkv.shape[2] - window[1]
        bands = []
        for wraps_row, band in ((False, qkv[:, :row]), (True, qkv[:, row:])):
            cells = [
                self._attend_windows(cell, window, biases[wraps_row, wraps_col], head_width)
                for wraps_col, cell in ((False, band[:, :, :col]), (True, band[:, :, col:]))
                if cell.shape[1] and cell.shape[2]
            ]
            if cells:
                bands.append(torch.cat(cells, dim=2))
        return torch.roll(torch.cat(bands, dim=1), shift, dims=(1, 2))

    def add_sliced(self, x: Tensor, norm: nn.Module, geometry: Geometry) -> Tensor:
        """x + attention(norm(x)) without gradients, a cell of windows at a time.

        Besides `x` two maps live, V and the result; queries, keys and windows exist for one cell only.
        """
        batch, height, width, _ = x.shape
        weight, bias, head_width = self._padded_qkv()
        biases = self._biases(geometry)
        per_branch = weight.shape[0] // 2
        value = torch.empty_like(x, dtype=_compute_dtype(x))
        attended = torch.empty_like(value)
        by_head = (batch, height, width, 2, self.branch_heads, self.head_dim)
        side = max(self.split_size)
        size = (height + -height % side, width + -width % side)
        # Unshifted, both branches see the same cells, so one normalisation and one projection serve both.
        for members in ((0,), (1,)) if self.shifted else ((0, 1),):
            window, shift = self._windows()[members[0]]
            rows = slice(members[0] * per_branch, (members[-1] + 1) * per_branch)
            project = partial(_norm_pointwise, norm, weight[rows], None if bias is None else bias[rows])
            step = window if self.shifted else (side, side)
            for cell in _cells(x, step, shift, size):
                qkv = cell.gather(x, project)
                for number, part in zip(members, qkv.chunk(len(members), dim=-1), strict=True):
                    v = part.reshape(*part.shape[:3], 3, self.branch_heads, head_width)[:, :, :, 2]
                    out = self._attend_windows(part, self._windows()[number][0], biases[number][cell.wraps], head_width)
                    cell.scatter(v[..., : self.head_dim], value.view(by_head)[:, :, :, number])
                    cell.scatter(out[..., : self.head_dim], attended.view(by_head)[:, :, :, number])
        result = attended if attended.dtype == x.dtype else torch.empty_like(x)
        for start, stop, first, last in _slice_rows(x, halo=1):
            local = convolve(value[:, first:last], self.get_v)[:, start - first : stop - first]
            out = pointwise(local.add_(attended[:, start:stop]), self.proj.weight, self.proj.bias)
            torch.add(x[:, start:stop], out, out=result[:, start:stop])
        return result


class _Cell(NamedTuple):
    """A rectangle of a cyclically shifted map, and where its parts lie in the unshifted, unpadded map."""

    size: tuple[int, int]
    wraps: tuple[bool, bool]
    rows: list[tuple[slice, slice]]
    cols: list[tuple[slice, slice]]

    def gather(self, x: Tensor, project: Callable[[Tensor], Tensor]) -> Tensor:
        """`project` of the cell's part of x (B, H, W, C), zeros where the cell reaches past the map."""
        parts = [
            (row, col, project(x[:, from_row, from_col])) for row, from_row in self.rows for col, from_col in self.cols
        ]
        first = parts[0][2]
        if len(parts) == 1 and first.shape[1:3] == self.size:
            return first
        whole = first.new_zeros(first.shape[0], *self.size, first.shape[3])
        for row, col, part in parts:
            whole[:, row, col] = part
        return whole

    def scatter(self, values: Tensor, target: Tensor) -> None:
        """Write the cell's values (B, h, w, …) to their places in target (B, H, W, …)."""
        for row, to_row in self.rows:
            for col, to_col in self.cols:
                target[:, to_row, to_col] = values[:, row, col]


def _cells(x: Tensor, step: tuple[int, int], shift: tuple[int, int], size: tuple[int, int]) -> Iterator[_Cell]:
    """Cells that cover the shifted map of padded `size`: multiples of `step`, those that wrap one step wide."""
    batch, height, width, _ = x.shape
    budget = max(1, slice_pixels(x.device) // batch)
    # as wide as the map and the budget allow, then as many rows as still fit
    cell_width = max(step[1], min(size[1], budget // step[0]) // step[1] * step[1])
    cell_height = max(step[0], budget // cell_width // step[0] * step[0])
    rows = list(_spans(size[0], height, step[0], shift[0], cell_height))
    cols = list(_spans(size[1], width, step[1], shift[1], cell_width))
    for row_length, wraps_row, row_parts in rows:
        for col_length, wraps_col, col_parts in cols:
            if row_parts and col_parts:  # else it lies in the padding, whose output nobody sees
                yield _Cell((row_length, col_length), (wraps_row, wraps_col), row_parts, col_parts)


def _spans(
    padded: int, valid: int, window: int, shift: int, length: int
) -> Iterator[tuple[int, bool, list[tuple[slice, slice]]]]:
    """Cut one axis of a shifted map into spans: (length, wraps, [(place in the span, place in the map)])."""
    bounds = [*range(0, padded - window if shift else padded, length), *([padded - window] if shift else []), padded]
    for start, stop in itertools.pairwise(bounds):
        # position p of the shifted axis is position (p + shift) mod padded of the map
        wrap = min(stop, padded - shift)
        parts = []
        for begin, end, offset in ((start, wrap, shift), (wrap, stop, shift - padded)):
            end = min(end, valid - offset)
            if begin < end:
                parts.append((slice(begin - start, end - start), slice(begin + offset, end + offset)))
        yield stop - start, wrap < stop, parts


def _compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which matrix products of x come out: autocast's, where it is on, else its own."""
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:  # which autocast leaves alone
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


class RecursiveGeneralizationAttention(nn.Module):
    """RG-SA: every position attends to a small representative map of the whole image (paper, section 3.2)."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool,
        qk_scale: float | None,
        attn_drop: float,
        proj_drop: float,
        c_ratio: float,
        stride: int,
        cpe: bool,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.cr = int(dim * c_ratio)  # channels of queries and keys, c_r·C
        self.scale = qk_scale or (self.head_dim * c_ratio) ** -0.5
        self.attn_drop = attn_drop
        # recursive generalization module
        self.reduction1 = nn.Conv2d(dim, dim, kernel_size=stride, stride=stride, groups=dim)
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim)
        self.conv = nn.Conv2d(dim, self.cr, kernel_size=1)
        self.norm_act = nn.Sequential(nn.LayerNorm(self.cr), nn.GELU())
        # cross-attention
        self.q = nn.Linear(dim, self.cr, bias=qkv_bias)
        self.k = nn.Linear(self.cr, self.cr, bias=qkv_bias)
        self.v = nn.Linear(self.cr, dim, bias=qkv_bias)
        self.cpe = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim) if cpe else None
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def representative_map(self, reduced: Tensor, depth: int) -> Tensor:
        """X_r: `depth` more rounds of the strided convolution, then 3×3, 1×1, norm, GELU; (B, h, w, c_r·C)."""
        for _ in range(depth):
            reduced = reduce(reduced, self.reduction1)
        return self.norm_act(convolve(convolve(reduced, self.dwconv), self.conv))

    def _keys_values(self, representative: Tensor, head_width: int) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, n, width) of the representative map."""
        value = pointwise(representative, self.v.weight, self.v.bias)
        if self.cpe is not None:
            value = value + convolve(value, self.cpe)
        key = pointwise(representative, self.k.weight, self.k.bias)
        return self._split_heads(key, head_width), self._split_heads(value, head_width)

    def _split_heads(self, x: Tensor, head_width: int) -> Tensor:
        """(B, H, W, heads·d) to (B, heads, H·W, width), d padded with zeros to the common width."""
        x = x.reshape(x.shape[0], -1, self.num_heads, x.shape[-1] // self.num_heads)
        return F.pad(x, (0, head_width - x.shape[-1])).transpose(1, 2)

    def _padded_queries(self) -> tuple[Tensor, Tensor | None, Tensor, int]:
        """The projections of queries (weight, bias) and of the result (weight) with heads widened, and the width."""
        width = _head_width(self.head_dim, self.cr // self.num_heads)
        bias = self.q.bias
        return (
            pad_heads(self.q.weight, self.num_heads, width),
            None if bias is None else pad_heads(bias, self.num_heads, width),
            pad_heads(self.proj.weight.t(), self.num_heads, width).t(),
            width,
        )

    def _attend(
        self, x: Tensor, key: Tensor, value: Tensor, padded: tuple[Tensor, Tensor | None, Tensor, int]
    ) -> Tensor:
        """Normalised features (B, H, W, C) as queries against all keys, projected back to (B, H, W, C)."""
        batch, height, width, _ = x.shape
        weight, bias, projection, head_width = padded
        query = pointwise(x, weight, bias).reshape(batch, -1, self.num_heads, head_width).transpose(1, 2)
        attended = attend(query, key, value, None, self.scale, self.attn_drop if self.training else 0.0)
        attended = attended.transpose(1, 2).reshape(batch, height, width, -1)
        return pointwise(attended, projection, self.proj.bias)

    def forward(self, x: Tensor, geometry: Geometry) -> Tensor:
        """Normalised features (B, H, W, C) to the branch that is added to them."""
        padded = self._padded_queries()
        key, value = self._keys_values(self.representative_map(x, geometry.depth), padded[3])
        return self.proj_drop(self._attend(x, key, value, padded))

    def add_sliced(self, x: Tensor, norm: nn.Module, geometry: Geometry) -> Tensor:
        """x + attention(norm(x)) without gradients, a band of rows at a time; besides `x` only the result lives."""
        result = torch.empty_like(x)  # holds the normalised features until their band is done
        stride = self.reduction1.stride[0]
        reduced = []
        for start, stop, _, _ in _slice_rows(x):
            band = norm(x[:, start:stop])
            result[:, start:stop] = band
            # bands start at multiples of 16; where the stride does not divide that, the whole map is reduced below
            if geometry.depth and 16 % stride == 0 and stop - start >= stride:
                reduced.append(reduce(band, self.reduction1))
        if reduced:
            representative = self.representative_map(torch.cat(reduced, dim=1), geometry.depth - 1)
        else:
            representative = self.representative_map(result, geometry.depth)
        padded = self._padded_queries()
        key, value = self._keys_values(representative, padded[3])
        for start, stop, _, _ in _slice_rows(x):
            out = self._attend(result[:, start:stop], key, value, padded)
            torch.add(x[:, start:stop], out, out=result[:, start:stop])
        return result


class TransformerBlock(nn.Module):
    """x' = x + attention(LN x), x'' = x' + MLP(LN x'), out = x'' + α·x: the last term is HAI (paper, section 3.4)."""

    def __init__(
        self,
        dim: int,
        attn: LocalAttention | RecursiveGeneralizationAttention,
        mlp: nn.Module,
        drop_path: float,
        norm_layer: Callable[[int], nn.Module],
        hai: str,
    ) -> None:
        super().__init__()
        self.hai = hai
        if hai == "learned":
            self.gamma = nn.Parameter(1e-4 * torch.ones(dim))
        self.norm1 = norm_layer(dim)
        self.attn = attn
        self.drop_path = DropPath(drop_path)
        self.mlp = mlp
        self.norm2 = norm_layer(dim)

    def forward(self, x: Tensor, geometry: Geometry) -> Tensor:
        """Features (B, H, W, C) to features of the same shape."""
        if not self.training and _slices_allowed():
            return self._forward_sliced(x, geometry)
        out = x + self.drop_path(self.attn(self.norm1(x), geometry))
        out = out + self.drop_path(self.mlp(self.norm2(out)))
        if self.hai == "none":
            return out
        return torch.addcmul(out, x, self.gamma) if self.hai == "learned" else out + x

    def _forward_sliced(self, x: Tensor, geometry: Geometry) -> Tensor:
        mixed = self.attn.add_sliced(x, self.norm1, geometry)
        result = torch.empty_like(x)
        for start, stop, first, last in _slice_rows(x, halo=1):
            out = self.mlp(self.norm2(mixed[:, first:last]), slice(start - first, stop - first))
            band = torch.add(mixed[:, start:stop], out, out=result[:, start:stop])
            if self.hai == "learned":
                band.addcmul_(x[:, start:stop], self.gamma)
            elif self.hai == "identity":
                band.add_(x[:, start:stop])
        return result


def _residual_conv(dim: int, kind: str) -> nn.Module:
    """The convolution at the end of a group and of the body: one 3×3, or a bottleneck of three."""
    if kind == "1conv":
        return nn.Conv2d(dim, dim, 3, 1, 1)
    return nn.Sequential(
        nn.Conv2d(dim, dim // 4, 3, 1, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(dim // 4, dim // 4, 1, 1, 0),
        nn.LeakyReLU(0.2),
        nn.Conv2d(dim // 4, dim, 3, 1, 1),
    )


class ResidualGroup(nn.Module):
    """Blocks, then a convolution and a skip connection (paper, section 3.1)."""

    def __init__(self, blocks: Sequence[nn.Module], dim: int, resi_connection: str, use_chk: bool) -> None:
        super().__init__()
        self.use_chk = use_chk
        self.blocks = nn.ModuleList(blocks)
        self.conv = _residual_conv(dim, resi_connection)

    def forward(self, x: Tensor, geometry: Geometry) -> Tensor:
        """Features (B, H, W, C) to features of the same shape."""
        residual = x
        for block in self.blocks:
            if self.use_chk and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, geometry, use_reentrant=False)
            else:
                x = block(x, geometry)
        return residual + convolve(x, self.conv)


class Upsample(nn.Sequential):
    """3×3 convolutions and pixel shuffles: (B, C, H, W) to (B, C, scale·H, scale·W), scale 2ⁿ or 3."""

    def __init__(self, scale: int, channels: int) -> None:
        steps = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
        layers: list[nn.Module] = []
        for step in steps:
            layers += [nn.Conv2d(channels, step * step * channels, 3, 1, 1), nn.PixelShuffle(step)]
        super().__init__(*layers)


# ----------------------------------------------------------------------------------------------------------------------
# The network
# ----------------------------------------------------------------------------------------------------------------------


class RGT(nn.Module):
    """Recursive Generalization Transformer: RGB image (B, in_chans, H, W) to (B, in_chans, upscale·H, upscale·W).

    Any H, W ≥ 1 works, in training and in evaluation. Images are in [0, 1] unless `img_range` was trained otherwise.

    img_size: LR patch size the official code builds its saved masks for; accepted, without effect.
    in_chans: image channels; the RGB mean is subtracted only where there are 3.
    embed_dim: C. Below 96 the position bias degenerates (its MLP is C/32 wide).
    depth, num_heads: blocks and attention heads of each group; blocks alternate L-SA and RG-SA. The two branches of
        L-SA have num_heads // 2 each, so an odd number gives L-SA one head less.
    mlp_ratio: width of the MLP over C.
    qkv_bias, qk_scale: bias of the q, k, v projections; scale of the scores (default: head width^-0.5).
    drop_rate, attn_drop_rate, drop_path_rate: dropout after attention projections (not in the MLP), on attention
        weights, and stochastic depth, which grows linearly from 0 to this value over the blocks.
    act_layer, norm_layer: classes of the MLP's activation and the blocks' norms.
    use_chk: recompute blocks in the backward pass instead of keeping their activations.
    upscale: 1, 2, 3, 4, 8, any power of two, or 3.
    img_range: the image is multiplied by it after the mean is subtracted.
    resi_connection: `1conv` or `3conv`.
    split_size: window (h, w) of L-SA, one side a multiple of the other; the second branch has it turned round.
    c_ratio: c_r, channels of queries and keys in RG-SA over C.

    Switches for research, the paper's setting first: `hai`: `learned`, `identity` (α = 1), `none`;
    `global_blocks`: `rg_sa`, `none` (every block is L-SA, every second shifted); `recursion`: `auto` or a fixed
    depth T ≥ 0 (capped where the map gets too small); `reduction_stride`: 4, or any stride from 2; `cpe`: True, False.
    rgb_mean: three values in place of the official mean, for weights that another program trained with its own.

    Raises TypeError for unknown arguments, naming the nearest one; ValueError for values that do not fit.
    Source: github.com/zhengchen1999/RGT, basicsr/archs/rgt_arch.py.
    """

    def __init__(
        self,
        img_size: int = 64,
        in_chans: int = 3,
        embed_dim: int = 180,
        depth: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (2, 2, 2, 2),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        norm_layer: Callable[[int], nn.Module] = nn.LayerNorm,
        use_chk: bool = False,
        upscale: int = 2,
        img_range: float = 1.0,
        resi_connection: str = "1conv",
        split_size: Sequence[int] = (8, 8),
        c_ratio: float = 0.5,
        *,
        hai: str = "learned",
        global_blocks: str = "rg_sa",
        recursion: str | int = "auto",
        reduction_stride: int = 4,
        cpe: bool = True,
        rgb_mean: Sequence[float] | None = None,
        **unknown: Any,
    ) -> None:
        # first of all, while the local names are the arguments and nothing else
        arguments = {name: value for name, value in locals().items() if name not in ("self", "unknown", "__class__")}
        super().__init__()
        _refuse_unknown(unknown)
        _check_arguments(
            embed_dim, depth, num_heads, mlp_ratio, upscale, resi_connection, split_size, c_ratio, drop_rate,
            attn_drop_rate, drop_path_rate, hai, global_blocks, recursion, reduction_stride,
        )  # fmt: skip
        self.config: dict[str, Any] = {
            name: list(value) if isinstance(value, (list, tuple)) else value
            for name, value in arguments.items()
            if not callable(value)
        }
        """The arguments as plain values, those that are classes left out."""
        self.upscale = upscale
        self.img_range = img_range
        self.in_chans = in_chans
        if rgb_mean is not None and not (
            isinstance(rgb_mean, (list, tuple)) and len(rgb_mean) == 3 and all(0 <= value <= 1 for value in rgb_mean)
        ):
            raise ValueError(f"rgb_mean {rgb_mean} must be three values from 0 to 1, of red, green and blue")
        self.rgb_mean = RGB_MEAN if rgb_mean is None else tuple(map(float, rgb_mean))
        self.embed_dim = embed_dim
        self.split_size = (int(split_size[0]), int(split_size[1]))
        self.recursion = recursion
        self.reduction_stride = reduction_stride
        self.use_chk = use_chk

        self.conv_first = nn.Conv2d(in_chans, embed_dim, 3, 1, 1)
        # The norm stands at index 1 in published files.
        self.before_RG = nn.Sequential(nn.Identity(), nn.LayerNorm(embed_dim))
        total = sum(depth)
        self.layers = nn.ModuleList()
        for group, (blocks, heads) in enumerate(zip(depth, num_heads, strict=True)):
            first = sum(depth[:group])
            self.layers.append(
                ResidualGroup(
                    [
                        TransformerBlock(
                            embed_dim,
                            RecursiveGeneralizationAttention(
                                embed_dim, heads, qkv_bias, qk_scale, attn_drop_rate, drop_rate, c_ratio,
                                reduction_stride, cpe,
                            )
                            if index % 2 and global_blocks == "rg_sa"
                            else LocalAttention(
                                embed_dim, heads, self.split_size, _is_shifted(group, index), qkv_bias, qk_scale,
                                attn_drop_rate, drop_rate,
                            ),
                            GatedMLP(embed_dim, int(embed_dim * mlp_ratio), act_layer, not use_chk),
                            drop_path_rate * (first + index) / max(1, total - 1),
                            norm_layer,
                            hai,
                        )
                        for index in range(blocks)
                    ],
                    embed_dim,
                    resi_connection,
                    use_chk,
                )
            )  # fmt: skip
        self.norm = norm_layer(embed_dim)
        self.conv_after_body = _residual_conv(embed_dim, resi_connection)
        channels = 64
        self.conv_before_upsample = nn.Sequential(nn.Conv2d(embed_dim, channels, 3, 1, 1), nn.LeakyReLU())
        self.upsample = Upsample(upscale, channels)
        self.conv_last = nn.Conv2d(channels, in_chans, 3, 1, 1)
        self.apply(_init_weights)

    def geometry(self, height: int, width: int, device: torch.device) -> Geometry:
        """What the blocks need to know of a (height, width) map."""
        if isinstance(self.recursion, int):
            depth = min(self.recursion, _floor_log(min(height, width), self.reduction_stride))
        else:
            depth = recursion_depth(height, width, self.training, self.reduction_stride)
        windows = (self.split_size, (self.split_size[1], self.split_size[0]))
        wraps = ((True, False), (False, True), (True, True))
        masks = [
            {wrap: shift_mask(window, (window[0] // 2, window[1] // 2), wrap, device) for wrap in wraps}
            for window in windows
        ]
        return Geometry(
            depth,
            (relative_offsets(windows[0], device), relative_offsets(windows[1], device)),
            (relative_index(windows[0], device), relative_index(windows[1], device)),
            (masks[0], masks[1]),
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """The groups and the norm after them, (B, H, W, C) to (B, H, W, C)."""
        geometry = self.geometry(x.shape[1], x.shape[2], x.device)
        x = self.before_RG(x)
        for layer in self.layers:
            x = layer(x, geometry)
        return self.norm(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The upsampling tail: features (B, H, W, C) to an image (B, in_chans, upscale·H, upscale·W)."""
        x = self.conv_before_upsample(x.permute(0, 3, 1, 2))
        *stages, conv, shuffle = self.upsample if len(self.upsample) else (None, None)
        if not (_fused and isinstance(conv, nn.Conv2d) and isinstance(shuffle, nn.PixelShuffle)):
            return self.conv_last(self.upsample(x))
        for stage in stages:
            x = stage(x)
        return shuffled_convolution(x, conv, shuffle.upscale_factor, self.conv_last)

    def forward(self, x: Tensor) -> Tensor:
        """Super-resolve a batch of images, (B, in_chans, H, W) to (B, in_chans, upscale·H, upscale·W)."""
        mean = None
        if self.in_chans == 3:
            # filled in on the device: a constant tensor would be copied there in every forward
            mean = torch.stack([x.new_full((1, 1), value) for value in self.rgb_mean])
            x = x - mean
        x = x * self.img_range
        shallow = convolve(x.permute(0, 2, 3, 1).contiguous(), self.conv_first)
        features = convolve(self.forward_features(shallow), self.conv_after_body) + shallow
        if not self.training and _slices_allowed():
            out = self._reconstruct_sliced(features)
        else:
            out = self.reconstruct(features)
        # autocast left it in half precision; discriminators, filters and losses call .view on it
        out = out.to(x.dtype).contiguous() / self.img_range
        return out if mean is None else out + mean

    def _reconstruct_sliced(self, features: Tensor) -> Tensor:
        """`reconstruct` in bands: at full size its maps are the largest of the whole network."""
        scale = self.upscale
        parts = []
        for start, stop, first, last in _slice_rows(features, halo=3):  # 3 rows see all that the convolutions see
            band = self.reconstruct(features[:, first:last])
            parts.append(band[:, :, (start - first) * scale : (stop - first) * scale])
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _is_shifted(group: int, index: int) -> bool:
    """Whether an L-SA block shifts its windows: in even groups blocks 2, 6, 10, …, in odd groups 0, 4, 8, ….

    Odd blocks are L-SA only in the ablation without RG-SA; there they shift where the block before does not.
    """
    shifted = (index // 2) % 2 == (1 if group % 2 == 0 else 0)
    return shifted if index % 2 == 0 else not shifted


def _init_weights(module: nn.Module) -> None:
    """Official initialisation: linear weights truncated normal 0.02, biases 0, norms 1 and 0, convolutions default."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def _refuse_unknown(unknown: dict[str, Any]) -> None:
    for name in unknown:
        if name == "upsampler":
            logging.getLogger("basicsr").info("RGT ignores `upsampler`, which official option files carry.")
            continue
        known = [key for key in inspect.signature(RGT.__init__).parameters if key not in ("self", "unknown")]
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean `{nearest[0]}`?" if nearest else f"known are {', '.join(known)}"
        raise TypeError(f"RGT got an unknown argument `{name}`: {hint}")


def _check_arguments(
    embed_dim: int,
    depth: Sequence[int],
    num_heads: Sequence[int],
    mlp_ratio: float,
    upscale: int,
    resi_connection: str,
    split_size: Sequence[int],
    c_ratio: float,
    drop_rate: float,
    attn_drop_rate: float,
    drop_path_rate: float,
    hai: str,
    global_blocks: str,
    recursion: str | int,
    reduction_stride: int,
) -> None:
    """Raise ValueError for the first value that does not fit, with the values that would."""
    if len(depth) != len(num_heads):
        raise ValueError(f"depth {list(depth)} and num_heads {list(num_heads)} need one entry for each group")
    if upscale < 1 or (upscale != 3 and upscale & (upscale - 1)):
        raise ValueError(f"upscale {upscale} is not supported: it must be 3 or a power of two")
    if len(split_size) != 2 or min(split_size) < 1 or max(split_size) % min(split_size):
        # maps are padded to a multiple of the longer side, and the windows of both branches have to fit into that
        raise ValueError(f"split_size {list(split_size)} must be two positive integers, one a multiple of the other")
    for name, rate in (
        ("drop_rate", drop_rate),
        ("attn_drop_rate", attn_drop_rate),
        ("drop_path_rate", drop_path_rate),
    ):
        if not 0 <= rate < 1:
            raise ValueError(f"{name} {rate} must be from 0 to below 1")
    for name, value, valid in (
        ("resi_connection", resi_connection, ("1conv", "3conv")),
        ("hai", hai, ("learned", "identity", "none")),
        ("global_blocks", global_blocks, ("rg_sa", "none")),
    ):
        if value not in valid:
            raise ValueError(f"{name} {value!r} is not one of {', '.join(valid)}")
    if recursion != "auto" and not (isinstance(recursion, int) and recursion >= 0):
        raise ValueError(f"recursion {recursion!r} must be `auto` or a depth from 0")
    if reduction_stride < 2:
        raise ValueError(f"reduction_stride {reduction_stride} must be at least 2")
    if int(embed_dim * mlp_ratio) % 2 or int(embed_dim * mlp_ratio) < 2:
        raise ValueError(
            f"mlp_ratio {mlp_ratio} gives an MLP of odd width {int(embed_dim * mlp_ratio)} for {embed_dim}"
        )
    for blocks, heads in zip(depth, num_heads, strict=True):
        if heads < 2 or embed_dim % 2 or (embed_dim // 2) % (heads // 2):
            raise ValueError(f"embed_dim {embed_dim} cannot be shared out over two branches of {heads} // 2 heads")
        if blocks > 1 and global_blocks == "rg_sa":
            if embed_dim % heads:
                raise ValueError(f"embed_dim {embed_dim} should be divisible by num_heads {heads}")
            if int(embed_dim * c_ratio) % heads or int(embed_dim * c_ratio) < heads:
                raise ValueError(f"c_ratio {c_ratio} gives {int(embed_dim * c_ratio)} channels for {heads} heads")


def rgt(upscale: int = 4, **overrides: Any) -> RGT:
    """RGT as published: 8 groups of 6 blocks, 180 channels. Further arguments as for `RGT`."""
    return RGT(**{"upscale": upscale, **PRESETS["RGT"], **overrides})


def rgt_s(upscale: int = 4, **overrides: Any) -> RGT:
    """RGT-S as published: 6 groups of 6 blocks, 180 channels. Further arguments as for `RGT`."""
    return RGT(**{"upscale": upscale, **PRESETS["RGT-S"], **overrides})


def rgt_t(upscale: int = 4, **overrides: Any) -> RGT:
    """RGT-T: 2 groups of 4 blocks, 96 channels; small enough to train and run on a CPU. Arguments as for `RGT`."""
    return RGT(**{"upscale": upscale, **PRESETS["RGT-T"], **overrides})


# In its own package the network must not import BasicSR, which takes longer than torch; the package registers it there.
if __name__ != "rgt_arch.archs.rgt_arch":
    from basicsr.utils.registry import ARCH_REGISTRY

    # A host that already has an RGT, such as this file under another name, keeps it: registering twice is an error.
    if "RGT" not in ARCH_REGISTRY:
        ARCH_REGISTRY.register(RGT)
    elif ARCH_REGISTRY.get("RGT") is not RGT:
        _module = ARCH_REGISTRY.get("RGT").__module__
        logging.getLogger("basicsr").warning(
            "RGT of %s is used, not the one of %s; for the latter, register a subclass of another name and set "
            "network_g: type to it",
            getattr(sys.modules.get(_module), "__file__", _module),
            __file__,
        )
