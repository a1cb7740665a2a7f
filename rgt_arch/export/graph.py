"""RGT as an ONNX graph, written node by node: the same few nodes for every size, in seconds.

Window padding, cyclic shifts and recursion depth depend on the size, so that small integer arithmetic in the graph
computes them once for all blocks. What depends on the weights alone (position biases, reordered and scaled
projections) is computed here, in float32.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import (
    MASK_VALUE,
    RGT,
    LocalAttention,
    relative_index,
    relative_offsets,
)

OPSET = 20
_CPU = torch.device("cpu")


class _Windows(NamedTuple):
    """How a branch of L-SA cuts a map into `count` windows of n positions and joins them; names of values.

    cut: (count·n,), the pixel of each window position, or H·W, a row of zeros, for padding. join: (H·W,), the window
    position of each pixel. mask: (count, 1, n, n), the shift mask; None if the windows are not shifted.
    """

    cut: str
    join: str
    mask: str | None


def onnx_model(
    network: RGT, size: tuple[int, int] | None, dtype: torch.dtype, facts: dict[str, str]
) -> onnx.ModelProto:
    """Return a model from `image` to `result`, float32 (B, C, H, W) and upscale times as large, in `dtype` inside.

    size: the only (height, width), with B = 1; None: any B, H and W from 1 up. facts: the file's metadata.
    """
    graph = _Graph(network, size, dtype)
    graph.write()
    ends = [
        helper.make_tensor_value_info(
            name,
            TensorProto.FLOAT,
            [1 if size else "batch", network.in_chans, *([scale * side for side in size] if size else names)],
        )
        for name, scale, names in (
            ("image", 1, ("height", "width")),
            ("result", network.upscale, ("result_height", "result_width")),
        )
    ]
    whole = helper.make_graph(graph.nodes, "RGT", ends[:1], ends[1:], list(graph.tensors.values()))
    # the version of the format is that of the opset's release: onnxruntime refuses versions that are newer than itself
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    helper.set_model_props(model, facts)
    return model


class _Graph:
    """Nodes by calls: `self.MatMul(x, weight)` adds one and returns the name of its result.

    Inputs are such names, tensors (in the dtype of the graph if they are floating-point) or integers. Features are
    (B, H, W, C), as in the network.
    """

    def __init__(self, network: RGT, size: tuple[int, int] | None, dtype: torch.dtype) -> None:
        self.network, self.size, self.dtype = network, size, dtype
        self.float = TensorProto.FLOAT16 if dtype == torch.float16 else TensorProto.FLOAT
        self.nodes: list[onnx.NodeProto] = []
        self.numbers = itertools.count()  # names are unique, also between a graph and the bodies of its loops
        self.tensors: dict[Any, TensorProto] = {}

    def __getattr__(self, operator: str) -> Callable[..., Any]:
        return partial(self._node, operator)

    def _node(self, operator: str, *inputs: Any, results: int = 1, **attributes: Any) -> Any:
        names = [f"{operator}_{next(self.numbers)}" for _ in range(results)]
        node = helper.make_node(operator, list(map(self._value, inputs)), names, names[0], **attributes)
        self.nodes.append(node)
        return names[0] if results == 1 else names

    def _value(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, Tensor):
            array = value.detach().to(self.dtype if value.is_floating_point() else value.dtype).contiguous().numpy()
        else:
            array = np.asarray(value)  # integers are int64; float32 arrays remain so
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.tensors:
            self.tensors[key] = numpy_helper.from_array(array, f"constant_{len(self.tensors)}")
        return self.tensors[key].name

    def write(self) -> None:
        """Write the nodes of `RGT.forward`."""
        network: Any = self.network
        shape = self.Shape("image")
        batch, height, width = (self.Gather(shape, axis) for axis in (0, 2, 3))
        self.as_map = self._vector(batch, height, width, network.embed_dim)
        self.as_half = self._vector(batch, -1, network.embed_dim // 2)
        self.depth = self._recursion_depth(height, width)
        shifts = {module.shifted for module in network.modules() if isinstance(module, LocalAttention)}
        windows = (network.split_size, network.split_size[::-1])
        self.windows = {
            shifted: [self._windows(window, shifted, height, width) for window in windows] for shifted in shifts
        }
        mean = np.array(network.rgb_mean if network.in_chans == 3 else (0,), np.float32).reshape(-1, 1, 1)
        img_range = np.float32(network.img_range)
        image = self.Cast(self.Mul(self.Sub("image", mean), img_range), to=self.float)
        shallow = self._apply(network.conv_first, image)
        x = self._apply(network.before_RG[1], self._nhwc(shallow))
        for group in network.layers:
            residual = x
            for block in group.blocks:
                x = self._block(block, x)
            x = self.Add(residual, self._convolve(group.conv, x))
        x = self._apply(network.conv_after_body, self._nchw(self._apply(network.norm, x)))
        tail = nn.Sequential(network.conv_before_upsample, network.upsample, network.conv_last)
        x = self.Cast(self._apply(tail, self.Add(x, shallow)), to=TensorProto.FLOAT)
        self.Add(self.Div(x, img_range), mean)
        self.nodes[-1].output[0] = "result"

    # -- modules -------------------------------------------------------------------------------------------------------

    def _apply(self, module: nn.Module, x: str) -> str:
        """Any of the network's modules but attention; convolutions and shuffles on (B, C, H, W)."""
        if isinstance(module, nn.Sequential):
            for layer in module:
                x = self._apply(layer, x)
        elif isinstance(module, nn.Linear):
            x = self._linear(x, module.weight, module.bias)
        elif isinstance(module, nn.LayerNorm):
            x = self.LayerNormalization(x, module.weight, module.bias, epsilon=module.eps)
        elif isinstance(module, nn.Conv2d):
            pads, strides = [*module.padding, *module.padding], list(module.stride)
            x = self.Conv(x, module.weight, module.bias, pads=pads, strides=strides, group=module.groups)
        elif isinstance(module, nn.PixelShuffle):
            x = self.DepthToSpace(x, blocksize=module.upscale_factor, mode="CRD")
        elif isinstance(module, nn.LeakyReLU):
            x = self.LeakyRelu(x, alpha=module.negative_slope)
        elif isinstance(module, nn.GELU):
            x = self.Gelu(x)
        else:
            raise TypeError(f"{module} has no ONNX nodes here")
        return x

    def _linear(self, x: str, weight: Tensor, bias: Tensor | None) -> str:
        x = self.MatMul(x, weight.t())
        return x if bias is None else self.Add(x, bias)

    def _nchw(self, x: str) -> str:
        return self.Transpose(x, perm=(0, 3, 1, 2))

    def _nhwc(self, x: str) -> str:
        return self.Transpose(x, perm=(0, 2, 3, 1))

    def _convolve(self, module: nn.Module, x: str) -> str:
        return self._nhwc(self._apply(module, self._nchw(x)))

    def _block(self, block: Any, x: str) -> str:
        attend = self._local if isinstance(block.attn, LocalAttention) else self._global
        out = self.Add(x, attend(block.attn, self._apply(block.norm1, x)))
        mlp = block.mlp
        hidden = self._apply(mlp.act, self._apply(mlp.fc1, self._apply(block.norm2, out)))
        value, gate = self.Split(hidden, axis=-1, num_outputs=2, results=2)
        gated = self.Mul(value, self._convolve(mlp.sg.conv, self._apply(mlp.sg.norm, gate)))
        out = self.Add(out, self._apply(mlp.fc2, gated))
        if block.hai == "none":
            return out
        return self.Add(out, self.Mul(x, block.gamma) if block.hai == "learned" else x)

    def _local(self, attn: Any, x: str) -> str:
        channels = self.network.embed_dim

        def reordered(parameter: Tensor) -> Tensor:
            """Each branch is one half, and the values of both are neighbours."""
            (q0, q1), (k0, k1), (v0, v1) = parameter.unflatten(0, (3, 2, -1))
            return torch.cat((q0 * attn.scale, k0, v0, v1, q1 * attn.scale, k1))

        bias = attn.qkv.bias
        qkv = self._linear(x, reordered(attn.qkv.weight), None if bias is None else reordered(bias))
        values = self.Slice(qkv, [channels], [2 * channels], [3])
        flat = self.Pad(self.Reshape(qkv, [0, -1, 3 * channels]), [0, 0, 0, 0, 1, 0])  # a row of zeros, for padding
        halves = self.Split(flat, axis=2, num_outputs=2, results=2)
        attended = []
        for half, windows, branch, order in zip(
            halves, self.windows[attn.shifted], attn.attns, ((0, 1, 2), (1, 2, 0)), strict=True
        ):
            length = branch.window[0] * branch.window[1]
            cut = self.Reshape(
                self.Gather(half, windows.cut, axis=1), [0, -1, length, 3, attn.branch_heads, attn.head_dim]
            )
            parts = self.Split(self.Transpose(cut, perm=(3, 0, 1, 4, 2, 5)), axis=0, num_outputs=3, results=3)
            q, k, v = (parts[place] for place in order)
            table = branch.pos(relative_offsets(branch.window, _CPU)).t()
            scores = self.Add(
                self.MatMul(q, self.Transpose(k, perm=(0, 1, 2, 3, 5, 4))),
                self.Gather(table, relative_index(branch.window, _CPU), axis=1),
            )
            if windows.mask is not None:
                scores = self.Add(scores, windows.mask)
            out = self.Transpose(self.MatMul(self.Softmax(scores), v), perm=(0, 1, 2, 4, 3, 5))
            attended.append(self.Gather(self.Reshape(out, self.as_half), windows.join, axis=1))
        out = self.Reshape(self.Concat(*attended, axis=2), self.as_map)
        return self._apply(attn.proj, self.Add(out, self._convolve(attn.get_v, values)))

    def _global(self, attn: Any, x: str) -> str:
        reduced = self._rounds(attn.reduction1, self._nchw(x))
        representative = self._nhwc(self._apply(nn.Sequential(attn.dwconv, attn.conv), reduced))
        representative = self._apply(attn.norm_act, representative)
        value = self._apply(attn.v, representative)
        if attn.cpe is not None:
            value = self.Add(value, self._convolve(attn.cpe, value))
        bias = attn.q.bias
        query = self._linear(x, attn.q.weight * attn.scale, None if bias is None else bias * attn.scale)

        def by_head(x: str, perm: tuple[int, ...], width: int) -> str:
            return self.Transpose(self.Reshape(x, [0, -1, attn.num_heads, width // attn.num_heads]), perm=perm)

        key = by_head(self._apply(attn.k, representative), (0, 2, 3, 1), attn.cr)
        scores = self.MatMul(by_head(query, (0, 2, 1, 3), attn.cr), key)
        out = self.MatMul(self.Softmax(scores), by_head(value, (0, 2, 1, 3), self.network.embed_dim))
        return self._apply(attn.proj, self.Reshape(self.Transpose(out, perm=(0, 2, 1, 3)), self.as_map))

    def _rounds(self, conv: nn.Conv2d, x: str) -> str:
        """`depth` rounds of the strided convolution: one after the other for a fixed size, else a loop."""
        if self.size:
            for _ in range(self.network.geometry(*self.size, _CPU).depth):
                x = self._apply(conv, x)
            return x
        outer, self.nodes = self.nodes, []
        name = f"round_{next(self.numbers)}"
        types = ((TensorProto.INT64, ()), (TensorProto.BOOL, ()), (self.float, None))
        inputs = [helper.make_tensor_value_info(f"{name}_{number}", *kind) for number, kind in enumerate(types)]
        results = [self.Identity(inputs[1].name), self._apply(conv, inputs[2].name)]
        outputs = [
            helper.make_tensor_value_info(result, *kind) for result, kind in zip(results, types[1:], strict=True)
        ]
        body, self.nodes = helper.make_graph(self.nodes, name, inputs, outputs), outer
        return self.Loop(self.depth, "", x, body=body)

    # -- size ----------------------------------------------------------------------------------------------------------

    def _vector(self, *values: str | int) -> str:
        """Scalars, names or numbers, as one vector."""
        return self.Concat(
            *(self.Reshape(value, [1]) if isinstance(value, str) else [value] for value in values), axis=0
        )

    def _recursion_depth(self, height: str, width: str) -> str:
        """`recursion_depth` in evaluation, or a fixed depth, capped where the map gets too small."""
        stride, recursion = self.network.reduction_stride, self.network.recursion
        powers = [stride**exponent for exponent in range(1, 31) if stride**exponent < 1 << 31]

        def floor_log(value: str) -> str:
            return self.ReduceSum(self.Cast(self.GreaterOrEqual(value, powers), to=TensorProto.INT64), keepdims=0)

        wanted: Any = recursion
        if recursion == "auto":
            wanted = self.Max(2, floor_log(self.Div(self.Max(height, width), stride**2)))
        return self.Min(wanted, floor_log(self.Min(height, width)))

    def _windows(self, window: tuple[int, int], shifted: bool, height: str, width: str) -> _Windows:
        """Cut and shift a map that holds the number of each pixel, as `LocalAttention` does with features."""
        (h, w), side = window, max(window)
        # both branches are padded to a multiple of the longer side
        padded = [self.Mul(self.Div(self.Add(length, side - 1), side), side) for length in (height, width)]
        grid = self._vector(self.Div(padded[0], h), h, self.Div(padded[1], w), w)

        def partition(pixels: str) -> str:
            return self.Reshape(self.Transpose(self.Reshape(pixels, grid), perm=(0, 2, 1, 3)), [-1, h * w])

        pixels = self.Mul(height, width)
        numbers = self.Reshape(self.Range(0, pixels, 1), self._vector(height, width))
        pads = self._vector(0, 0, self.Sub(padded[0], height), self.Sub(padded[1], width))
        numbers, mask = self.Pad(numbers, pads, pixels), None
        if shifted:
            shift = (h // 2, w // 2)
            for axis in (0, 1):
                first = self.Slice(numbers, [shift[axis]], [np.iinfo(np.int64).max], [axis])
                numbers = self.Concat(first, self.Slice(numbers, [0], [shift[axis]], [axis]), axis=axis)
            row, col = (
                self.Cast(
                    self.GreaterOrEqual(self.Range(0, length, 1), self.Sub(length, shift[axis])), to=TensorProto.INT64
                )
                for axis, length in enumerate(padded)
            )
            part = partition(self.Add(self.Reshape(self.Mul(row, 2), [-1, 1]), col))
            pairs = self.Equal(self.Reshape(part, [-1, 1, 1, h * w]), self.Reshape(part, [-1, 1, h * w, 1]))
            mask = self.Mul(self.Cast(self.Not(pairs), to=self.float), torch.tensor(MASK_VALUE))
        cut = self.Reshape(partition(numbers), [-1])
        positions = self.Range(0, self.Mul(*padded), 1)
        # all padding is written to a last place, which is not read
        join = self.ScatterElements(self.Range(0, self.Add(pixels, 1), 1), cut, positions)
        return _Windows(cut, self.Slice(join, [0], self._vector(pixels), [0]), mask)
