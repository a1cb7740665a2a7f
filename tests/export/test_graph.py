"""The graph that is exported computes what the network computes, with every switch and at every size."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from rgt_arch import RGT, rgt_t

onnx = pytest.importorskip("onnx", reason="needs the extra [export]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra [export]")
graph = pytest.importorskip("rgt_arch.export.graph")

SIZES = [(1, 1), (3, 70), (5, 9), (15, 16), (16, 32), (17, 33)]  # windows are 8×16
SWITCHES: list[dict[str, Any]] = [
    {"rgb_mean": (0.1, 0.5, 0.9)},
    {"hai": "identity", "resi_connection": "3conv", "qkv_bias": False, "upscale": 3},
    {"hai": "none", "cpe": False, "qk_scale": 0.3, "upscale": 1},
    {"global_blocks": "none", "num_heads": [5], "split_size": [16, 4]},
    {"recursion": 0, "in_chans": 1, "img_range": 255.0},
    {"recursion": 1, "c_ratio": 0.75, "mlp_ratio": 3.0, "upscale": 4},
    {"reduction_stride": 2, "in_chans": 4},  # up to four rounds at these sizes
    {"reduction_stride": 3, "recursion": 3},
]


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_graph_equals_network(switches: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = strong(rgt_t(**{"upscale": 2, "depth": [3], "num_heads": [6], **switches}))
    # PyTorch's own float32 is as far from these outputs, of up to 18, as the tolerance, and differs between processors.
    exact = copy.deepcopy(network).double()
    with torch.inference_mode():
        whole, fixed = (session(graph.onnx_model(network, size, torch.float32, {})) for size in (None, SIZES[-1]))
        for size in SIZES:
            image = torch.rand(2, network.in_chans, *size)
            result = torch.from_numpy(whole.run(None, {"image": image.numpy()})[0])
            torch.testing.assert_close(result, exact(image.double()).float(), rtol=1e-5, atol=2e-5)
        result = torch.from_numpy(fixed.run(None, {"image": image[:1].numpy()})[0])
        torch.testing.assert_close(result, exact(image[:1].double()).float(), rtol=1e-5, atol=2e-5)


def strong(network: RGT) -> RGT:
    """Give position biases and kernels large values, so that an error in any of them shows."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1 or "gamma" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return network.eval()


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("recursion", ["auto", 2])
def test_rounds_follow_the_rule_of_the_recursion(stride: int, recursion: str | int) -> None:
    network = rgt_t(2, depth=[2], num_heads=[6], reduction_stride=stride, recursion=recursion).eval()
    nodes = graph._Graph(network, None, torch.float32)
    depth, *sides = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ())
        for name in (nodes._recursion_depth("height", "width"), "height", "width")
    )
    rule = onnx.helper.make_graph(nodes.nodes, "rule", sides, [depth], list(nodes.tensors.values()))
    model = onnx.helper.make_model(rule, opset_imports=[onnx.helper.make_opsetid("", graph.OPSET)], ir_version=10)
    run = session(model).run
    lengths = sorted({side + more for side in (stride**power for power in range(8)) for more in (-1, 0) if side + more})
    for height, width in itertools.product([*lengths, 1023, 1024, 4095, 4096, 16384], repeat=2):
        result = run(None, {"height": np.array(height), "width": np.array(width)})[0]
        assert result == network.geometry(height, width, torch.device("cpu")).depth, (height, width)
