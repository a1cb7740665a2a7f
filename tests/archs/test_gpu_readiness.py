"""Check without a GPU that the forward suits CUDA: fake tensors report the device cuda, and nothing is computed."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from fill import fill
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rgt_arch import RGT
from rgt_arch.archs import rgt_arch as arch

# three blocks, one of each kind: L-SA, RG-SA, L-SA with windows that wrap
RGT_GROUP = {**arch.PRESETS["RGT"], "upscale": 4, "depth": [3], "num_heads": [6]}
RGT_T_GROUP = {**arch.PRESETS["RGT-T"], "upscale": 2, "depth": [3], "num_heads": [6]}
VECTOR_BYTES = 16  # fused kernels read this many at a time
FLOAT32, FLOAT16, BFLOAT16 = torch.float32, torch.float16, torch.bfloat16
MODES = ["eval", "eval without gradients", "train"]


class Call(NamedTuple):
    """Arguments of one call of `F.scaled_dot_product_attention`."""

    tokens: dict[str, Tensor]
    mask: Tensor | None
    scale: float


def fused(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, dropout_p: float, scale: float
) -> Tensor:
    """Replace `F.scaled_dot_product_attention`; the result has the memory layout of the fused kernels."""
    batch, heads, queries, _ = query.shape
    return query.new_empty(batch, queries, heads, value.shape[-1]).transpose(1, 2)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """All attention calls of the test."""
    recorded = []

    def attend(query: Tensor, key: Tensor, value: Tensor, **more: Any) -> Tensor:
        recorded.append(Call({"query": query, "key": key, "value": value}, more["attn_mask"], more["scale"]))
        return fused(query, key, value, **more)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attend)
    return recorded


@contextmanager
def on_fake_gpu(config: dict[str, Any], dtype: torch.dtype = FLOAT32) -> Iterator[RGT]:
    """A network with fake weights on a GPU that need not exist, under autocast if `dtype` is not float32."""
    with torch.device("meta"):
        net = RGT(**config).eval()
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    with FakeTensorMode():
        for module in net.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                module.register_parameter(name, torch.nn.Parameter(torch.empty(parameter.shape, device="cuda")))
        try:
            # `torch.autocast` would turn itself off without a GPU
            torch.set_autocast_enabled("cuda", dtype is not FLOAT32)
            torch.set_autocast_dtype("cuda", dtype if dtype is not FLOAT32 else FLOAT16)
            yield net
        finally:
            torch.set_autocast_enabled("cuda", before[0])
            torch.set_autocast_dtype("cuda", before[1])
            torch.clear_autocast_cache()


def gpu_image(height: int, width: int, batch: int = 1) -> Tensor:
    return torch.empty(batch, 3, height, width, device="cuda")


@pytest.mark.parametrize(
    ("config", "mode", "dtype"),
    [
        (RGT_GROUP, "eval without gradients", BFLOAT16),
        (RGT_T_GROUP, "eval", FLOAT16),
        (RGT_T_GROUP, "train", FLOAT32),
    ],
)
def test_attention_inputs_suit_fused_kernels(
    config: dict[str, Any], mode: str, dtype: torch.dtype, calls: list[Call]
) -> None:
    with on_fake_gpu(config, dtype) as net, torch.set_grad_enabled(mode != "eval without gradients"):
        net.train(mode == "train")
        net(gpu_image(70, 100, batch=2))
    window = config["split_size"][0] * config["split_size"][1]
    assert {call.mask is None for call in calls} == {True, False}, "both kinds of attention were seen"
    assert sum(call.mask is not None for call in calls) > 4, "windows that wrap were done apart"
    for call in calls:
        widths = {tokens.shape[-1] for tokens in call.tokens.values()}
        assert len(widths) == 1, "fused only where all heads are as wide"
        assert widths.pop() % arch.HEAD_MULTIPLE == 0
        for name, tokens in call.tokens.items():
            assert tokens.device.type == "cuda"
            assert tokens.dtype == dtype, name
            assert_aligned(tokens, name)
        assert type(call.scale) is float
        if call.mask is None:
            continue
        batch, heads, queries, _ = call.tokens["query"].shape
        assert call.mask.dtype == dtype
        assert call.mask.shape == (1, heads, window, window)
        assert call.mask.expand(batch, heads, queries, window).stride(0) == 0
        assert call.mask.untyped_storage().nbytes() == heads * window * window * dtype.itemsize, "one for all windows"
        assert_aligned(call.mask, "mask")


def assert_aligned(tensor: Tensor, name: str) -> None:
    """Check that every row is contiguous and begins at a multiple of `VECTOR_BYTES`."""
    elements = VECTOR_BYTES // tensor.dtype.itemsize
    assert tensor.stride(-1) == 1, name
    assert all(stride % max(8, elements) == 0 for stride in tensor.stride()[:-1]), (name, tensor.stride())
    assert tensor.storage_offset() % elements == 0, name


class OnGpuOnly(TorchDispatchMode):
    """Assert that every tensor of every operation is on the GPU and not wider than float32.

    Copying a tensor from the CPU would wait for the GPU. Reading a value would too, and fails: fake tensors have none.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, out)):
            if isinstance(tensor, Tensor):
                assert tensor.device.type == "cuda", f"{func} on {tensor.device}"
                assert tensor.dtype != torch.float64, f"{func} in float64"
        return out


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16])
@pytest.mark.parametrize("mode", MODES)
def test_forward_does_not_wait_for_the_gpu_and_creates_all_tensors_on_it(mode: str, dtype: torch.dtype) -> None:
    with on_fake_gpu(RGT_T_GROUP, dtype) as net, torch.set_grad_enabled(mode != "eval without gradients"):
        net.train(mode == "train")
        image = gpu_image(70, 100, batch=2)
        with OnGpuOnly():
            out = net(image)
        assert out.shape == (2, 3, 140, 200)
        assert out.dtype == FLOAT32, "float32 in, float32 out"


class LiveMemory(TorchDispatchMode):
    """Count the bytes of all live tensors, which an allocator would have to provide."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._sizes:
                    self._sizes[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self._sizes.pop, storage._cdata)
        self.peak = max(self.peak, sum(self._sizes.values()))
        return out


def test_slices_bound_the_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """512×512 pixels fit in 1.5 GB: 1.4 GB of tensors, and 0.1 GB for scratch memory of kernels (not counted here)."""
    monkeypatch.setattr(F, "scaled_dot_product_attention", fused)
    with on_fake_gpu(RGT_GROUP) as net, torch.inference_mode():
        image = gpu_image(512, 512)
        with LiveMemory() as live:
            out = net(image)
        assert live.peak > 2 * out.numel() * 4
        assert live.peak < 1.4e9, f"{live.peak / 1e9:.2f} GB"


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16])
def test_gpu_code_path_gives_the_result_of_the_cpu_path(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    net = fill(RGT(**RGT_T_GROUP, drop_path_rate=0.0)).eval()
    image = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    autocast = nullcontext() if dtype is FLOAT32 else torch.autocast("cpu", dtype)
    with torch.inference_mode(), autocast:
        expected = net(image)
        monkeypatch.setattr(arch, "pointwise", F.linear)
        monkeypatch.setattr(arch, "SLICE_PIXELS", {})
        torch.testing.assert_close(net(image), expected, rtol=0, atol=1e-4 if dtype is FLOAT32 else 0.1)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_compiles_for_all_sizes_without_graph_breaks(training: bool) -> None:
    net = fill(RGT(**{**RGT_T_GROUP, "depth": [2]}, drop_path_rate=0.0)).train(training)
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend=backend)
    try:
        for size in ((40, 56), (37, 50)):
            image = torch.rand(1, 3, *size)
            torch.testing.assert_close(compiled(image), net(image), rtol=0, atol=1e-4)
        assert len(graphs) == 1, "one graph serves all sizes of one recursion depth"
    finally:
        torch._dynamo.reset()
