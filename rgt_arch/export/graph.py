"""RGT's forward as one graph for all sizes: without slices, without branches, with few nodes.

Heights and widths may be symbols of `torch.export`, so everything that depends on them is integer arithmetic. What
depends on the weights alone (position biases; projections, reordered and scaled) is computed once, in float32.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import (
    MASK_VALUE,
    RGB_MEAN,
    RGT,
    LocalAttention,
    convolve,
    relative_index,
    relative_offsets,
)

LARGEST_SIDE = 65535


class Windows(NamedTuple):
    """How a branch of L-SA cuts a map into windows of n positions and joins them again."""

    bias_index: Tensor
    """(n·n,) int64: `relative_index`."""
    total: int
    cut: Tensor
    """(total·n,) int64: the pixel of each window position; H·W, a row of zeros, for padding."""
    join: Tensor
    """(H·W,) int64: the window position of each pixel."""
    mask: Tensor | None
    """(total, 1, n, n): the shift mask; None if the windows are not shifted."""


class Round(NamedTuple):
    """A round of RG-SA's recursion. For maps that are too small for it, it multiplies by one."""

    applies: int
    """1 or 0."""
    height: int
    width: int
    """Size of its result."""
    side: int
    """Pixels a side that become one."""
    places: Tensor
    """(side·side,): the weights of `_Global.kernel` that it multiplies by."""
    rows: Tensor
    cols: Tensor
    """Pixels that it sees."""


class Geometry(NamedTuple):
    """What the blocks need to know of the size."""

    windows: dict[bool, list[Windows]]
    """By whether they are shifted: those of each branch."""
    rounds: list[Round]


class GraphRGT(nn.Module):
    """`network` in evaluation, rewritten: (B, in_chans, H, W) float32 to (B, in_chans, upscale·H, upscale·W) float32.

    Takes over modules of `network` and converts them to `dtype`. Sizes up to LARGEST_SIDE.
    """

    mean: Tensor

    def __init__(self, network: RGT, dtype: torch.dtype) -> None:
        super().__init__()
        self.split_size, self.stride, self.recursion = network.split_size, network.reduction_stride, network.recursion
        self.most_rounds = network.geometry(LARGEST_SIDE, LARGEST_SIDE, torch.device("cpu")).depth
        self.first, self.norm_first = network.conv_first, network.before_RG[1]
        self.groups = nn.ModuleList(_Group(group) for group in network.layers)
        self.norm, self.conv_after_body = network.norm, network.conv_after_body
        self.tail = nn.Sequential(network.conv_before_upsample, network.upsample, network.conv_last)
        self.dtype, self.img_range = dtype, network.img_range
        self.to(dtype)
        mean = RGB_MEAN if network.in_chans == 3 else (0.0,)
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1))
        for number, window in enumerate(self._shapes()):
            self.register_buffer(f"index_{number}", relative_index(window, torch.device("cpu")).flatten())

    def forward(self, image: Tensor) -> Tensor:
        """Super-resolve images."""
        height, width = image.shape[2:]
        windows = {
            shifted: [self._windows(number, height, width, shifted) for number in range(2)] for shifted in (False, True)
        }
        geometry = Geometry(windows, self._rounds(height, width))
        shallow = self.first(((image - self.mean) * self.img_range).to(self.dtype)).permute(0, 2, 3, 1)
        x = self.norm_first(shallow)
        for group in self.groups:
            x = group(x, geometry)
        x = convolve(self.norm(x), self.conv_after_body) + shallow
        return self.tail(x.permute(0, 3, 1, 2)).float() / self.img_range + self.mean

    def _shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return self.split_size, self.split_size[::-1]

    def _windows(self, number: int, height: int, width: int, shifted: bool) -> Windows:
        (h, w), side = self._shapes()[number], max(self.split_size)
        # both branches are padded to a multiple of the longer side
        rows = _atom((height + side - 1) // side, 1, LARGEST_SIDE) * (side // h)
        cols = _atom((width + side - 1) // side, 1, LARGEST_SIDE) * (side // w)
        shift_h, shift_w = (h // 2, w // 2) if shifted else (0, 0)
        row, col = torch.arange(rows * h), torch.arange(cols * w)
        last_row, last_col = row >= _number(rows * h - shift_h), col >= _number(cols * w - shift_w)

        def by_window(of_row: Tensor, of_col: Tensor) -> Tensor:
            both = (of_row[:, None] + of_col).reshape(rows, h, cols, w)
            return both.permute(0, 2, 1, 3).reshape(rows * cols, h * w)

        from_row = row + shift_h - last_row * _number(rows * h)
        from_col = col + shift_w - last_col * _number(cols * w)
        # columns beyond the map get an index of H·W or more, as rows have without this
        from_col = from_col + (from_col >= _number(width)) * _number(height * width)
        cut = by_window(from_row * _number(width), from_col).minimum(_number(height * width))
        to_row, to_col = torch.arange(height) - shift_h, torch.arange(width) - shift_w
        to_row, to_col = to_row + (to_row < 0) * _number(rows * h), to_col + (to_col < 0) * _number(cols * w)
        join = (to_row // h * _number(cols * h * w) + to_row % h * w)[:, None] + (to_col // w * (h * w) + to_col % w)
        mask = None
        if shifted:
            part = by_window(last_row * 2, last_col * 1)
            mask = ((part[:, None, :, None] != part[:, None, None]) * MASK_VALUE).to(self.dtype)
        return Windows(getattr(self, f"index_{number}"), rows * cols, cut.flatten(), join.flatten(), mask)

    def _rounds(self, height: int, width: int) -> list[Round]:
        """The rule of `recursion_depth` in evaluation, or a fixed depth, as one flag for each round."""
        smaller, larger = torch.sym_min(height, width), torch.sym_max(height, width)
        rounds = []
        for number in range(1, self.most_rounds + 1):
            applies = torch.sym_min(1, smaller // self.stride**number)
            if self.recursion == "auto" and number > 2:
                applies = torch.sym_min(applies, larger // self.stride ** (number + 2))
            applies = _atom(applies, 0, 1)
            side = 1 + (self.stride - 1) * applies
            height, width = _atom(height // side, 1, LARGEST_SIDE), _atom(width // side, 1, LARGEST_SIDE)
            places = torch.arange(side * side) + _number(self.stride**2 * (1 - applies))
            # not slices, whose end `torch.export` would have to compare with the size
            rows, cols = torch.arange(height * side), torch.arange(width * side)
            rounds.append(Round(applies, height, width, side, places, rows, cols))
        return rounds


def _atom(value: int, least: int, most: int) -> int:
    """Replace a symbolic expression by a new symbol: `torch.export` takes minutes to solve nested divisions."""
    if isinstance(value, int):
        return value
    atom: Any = _number(value).item()
    torch._check(atom >= least)
    torch._check(atom <= most)
    return atom


def _number(value: int) -> Tensor:
    """A tensor, because the ONNX exporter does not take symbols for numbers in all operations of tensors."""
    return torch.full((), value, dtype=torch.int64)


class _Group(nn.Module):
    def __init__(self, group: Any) -> None:
        super().__init__()
        self.blocks, self.conv = nn.ModuleList(_Block(block) for block in group.blocks), group.conv

    def forward(self, x: Tensor, geometry: Geometry) -> Tensor:
        out = x
        for block in self.blocks:
            out = block(out, geometry)
        return x + convolve(out, self.conv)


class _Block(nn.Module):
    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.norm2, self.mlp = block.norm1, block.norm2, block.mlp
        self.attn = _Local(block.attn) if isinstance(block.attn, LocalAttention) else _Global(block.attn)
        self.hai, self.gamma = block.hai, getattr(block, "gamma", None)

    def forward(self, x: Tensor, geometry: Geometry) -> Tensor:
        out = x + self.attn(self.norm1(x), geometry)
        mlp = self.mlp
        value, gate = mlp.act(mlp.fc1(self.norm2(out))).chunk(2, dim=-1)
        out = out + mlp.fc2(value * convolve(mlp.sg.norm(gate), mlp.sg.conv))
        if self.hai == "none":
            return out
        return out + (x if self.gamma is None else x * self.gamma)


class _Local(nn.Module):
    table_0: Tensor
    table_1: Tensor

    def __init__(self, attn: Any) -> None:
        super().__init__()
        self.shifted, self.heads, self.head_dim = attn.shifted, attn.branch_heads, attn.head_dim
        self.qkv, self.proj, self.get_v = attn.qkv, attn.proj, attn.get_v
        for parameter in self.qkv.parameters():
            (q0, q1), (k0, k1), (v0, v1) = parameter.data.unflatten(0, (3, 2, -1))
            # each branch is one half, and the values of both are neighbours
            parameter.data = torch.cat((q0 * attn.scale, k0, v0, v1, q1 * attn.scale, k1))
        for number, branch in enumerate(attn.attns):
            table = branch.pos(relative_offsets(branch.window, torch.device("cpu")))
            self.register_buffer(f"table_{number}", table.detach().t().contiguous())

    def forward(self, x: Tensor, geometry: Geometry) -> Tensor:
        batch, height, width, channels = x.shape
        qkv = self.qkv(x).reshape(batch, height * width, 3 * channels)
        values = qkv[..., channels : 2 * channels].reshape(x.shape)
        halves = F.pad(qkv, (0, 0, 0, 1)).chunk(2, dim=-1)  # a row of zeros for the windows' padding
        windows = geometry.windows[self.shifted]
        attended = (
            self._attend(halves[0], windows[0], self.table_0, (0, 1, 2)),
            self._attend(halves[1], windows[1], self.table_1, (1, 2, 0)),
        )
        out = torch.cat(attended, dim=-1).reshape(x.shape) + convolve(values, self.get_v)
        return self.proj(out)

    def _attend(self, qkv: Tensor, windows: Windows, table: Tensor, order: tuple[int, int, int]) -> Tensor:
        """(B, H·W + 1, 3·C/2) to (B, H·W, C/2); order: places of q, k and v."""
        batch, size = qkv.shape[0], self.heads * self.head_dim
        length = round(windows.bias_index.shape[0] ** 0.5)
        cut = qkv.index_select(1, windows.cut)
        cut = cut.reshape(batch, windows.total, length, 3, self.heads, self.head_dim).permute(3, 0, 1, 4, 2, 5)
        q, k, v = (cut[place] for place in order)
        scores = q @ k.transpose(-2, -1) + table.index_select(1, windows.bias_index).reshape(-1, length, length)
        if windows.mask is not None:
            scores = scores + windows.mask
        attended = (scores.softmax(-1) @ v).transpose(2, 3).reshape(batch, windows.total * length, size)
        return attended.index_select(1, windows.join)


class _Global(nn.Module):
    kernel: Tensor
    kernel_bias: Tensor

    def __init__(self, attn: Any) -> None:
        super().__init__()
        self.heads, self.stride = attn.num_heads, attn.reduction1.stride[0]
        self.dwconv, self.conv, self.norm_act, self.cpe = attn.dwconv, attn.conv, attn.norm_act, attn.cpe
        self.q, self.k, self.v, self.proj = attn.q, attn.k, attn.v, attn.proj
        for parameter in self.q.parameters():
            parameter.data = parameter.data * attn.scale
        # the convolution's weights, and behind them the one that a round without effect multiplies by
        weight = attn.reduction1.weight.detach().flatten(1).t()
        self.register_buffer("kernel", torch.cat((weight, torch.ones_like(weight[:1]))))
        self.register_buffer("kernel_bias", attn.reduction1.bias.detach())

    def forward(self, x: Tensor, geometry: Geometry) -> Tensor:
        representative = self._representative_map(x, geometry.rounds)
        value = self.v(representative)
        if self.cpe is not None:
            value = value + convolve(value, self.cpe)
        q, k, v = (
            part.reshape(part.shape[0], part.shape[1] * part.shape[2], self.heads, -1).transpose(1, 2)
            for part in (self.q(x), self.k(representative), value)
        )
        attended = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(attended.transpose(1, 2).reshape(x.shape))

    def _representative_map(self, x: Tensor, rounds: list[Round]) -> Tensor:
        batch, channels = x.shape[0], x.shape[3]
        for applies, height, width, side, places, rows, cols in rounds:
            if isinstance(applies, int) and not applies:
                continue
            kernel = self.kernel.index_select(0, places).reshape(side, 1, side, channels)
            x = x.index_select(1, rows).index_select(2, cols)
            x = (x.reshape(batch, height, side, width, side, channels) * kernel).sum((2, 4))
            x = x + self.kernel_bias * _number(applies)
        return self.norm_act(convolve(convolve(x, self.dwconv), self.conv))
