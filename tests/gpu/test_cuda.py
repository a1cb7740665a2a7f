"""The network, its benchmarks and the Upscaler on a GPU.

Each test also runs on the CPU, with a smaller input, so that faults of the test are found without a GPU.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fill import fill, golden_input
from spandrel.architectures.RGT import RGT as SpandrelRGT  # noqa: N811
from torch import Tensor

from rgt_arch import RGT, Upscaler
from rgt_arch.archs import rgt_arch as arch

CONFIG = {**arch.PRESETS["RGT-T"], "upscale": 2, "depth": [4], "num_heads": [6]}
CPU = torch.device("cpu")
CUDA = torch.device("cuda")

GPU_ONLY = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU here"),
)


@pytest.fixture(params=[CPU, pytest.param(CUDA, marks=GPU_ONLY)], ids=str)
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The CPU and, if available, a GPU; without TF32, so that float32 keeps its precision."""
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield request.param
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32


def strong_network(device: torch.device) -> RGT:
    return fill(RGT(**CONFIG, drop_path_rate=0.0)).to(device)


def image(device: torch.device, batch: int = 1) -> Tensor:
    return golden_input(batch, 3, 40, 56).float().to(device)


def psnr(output: Tensor, reference: Tensor) -> float:
    error = output.double() - reference.double()
    return 20 * math.log10((reference.max() - reference.min()).item()) - 10 * math.log10(error.square().mean().item())


@pytest.mark.parametrize("grad", [False, True])
def test_float32_equals_the_cpu_in_float64(device: torch.device, grad: bool) -> None:
    net = strong_network(device).eval()
    with torch.set_grad_enabled(grad):
        out = net(image(device, 2)).detach().cpu()
        expected = net.cpu().double()(image(CPU, 2).double()).float()
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


def test_training_gives_spandrels_output_and_gradients(device: torch.device) -> None:
    ours = strong_network(device).train()
    theirs = SpandrelRGT(**CONFIG, drop_path_rate=0.0).to(device).train()
    theirs.load_state_dict(ours.state_dict())
    outputs = [net(image(device, 2)) for net in (ours, theirs)]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-4)
    for output in outputs:
        output.square().mean().backward()
    largest = max(p.grad.abs().max().item() for p in theirs.parameters() if p.grad is not None)
    for (name, p), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, other.grad, rtol=0, atol=1e-4 * largest, msg=name)


@pytest.mark.parametrize(("dtype", "least"), [(torch.float16, 65.0), (torch.bfloat16, 55.0)])
@pytest.mark.parametrize("grad", [False, True])
def test_autocast_gives_float32_output_equal_except_for_rounding(
    device: torch.device, dtype: torch.dtype, least: float, grad: bool
) -> None:
    net = strong_network(device).eval()
    with torch.set_grad_enabled(grad):
        expected = net(image(device))
        with torch.autocast(device.type, dtype):
            out = net(image(device))
    assert out.dtype == torch.float32
    assert psnr(out.detach(), expected.detach()) >= least


def test_one_group_of_rgt_takes_little_memory(device: torch.device, tmp_path: Path) -> None:
    """At most 1.5 GB for 512×512 pixels on a GPU; on a CPU the same per pixel, plus 0.2 GB for threads."""
    side = 512 if device.type == "cuda" else 64
    command = ("memory", "--groups", "1", "--sizes", f"{side}x{side}", "--engines", "ours")
    (row,) = benchmark(device, tmp_path, *command)
    floor = 0 if device.type == "cuda" else 0.2
    assert 0 < row["GB"] <= 1.5 * (side / 512) ** 2 + floor


@pytest.mark.parametrize(
    "arguments",
    [
        ("latency", "--sizes", "32x32", "--rounds", "2"),
        pytest.param(("memory", "--sizes", "32x32"), marks=GPU_ONLY),
        pytest.param(("scaling", "--engines", "official", "ours", "--sizes", "32x32", "64x64"), marks=GPU_ONLY),
        pytest.param(("train", "--rounds", "1"), marks=GPU_ONLY),
    ],
    ids=lambda arguments: arguments[0],
)
def test_benchmarks_measure_both_engines(device: torch.device, arguments: tuple[str, ...], tmp_path: Path) -> None:
    rows = benchmark(device, tmp_path, *arguments, "--network", "rgt_t", "--groups", "1", "--scale", "2")
    assert {row["engine"] for row in rows if row.get("seconds") or row.get("GB")} == {"official", "ours"}


def benchmark(device: torch.device, folder: Path, script: str, *arguments: str) -> list[dict[str, Any]]:
    """Run a script of benchmarks/ on a device and return its rows."""
    file = folder / "figures.json"
    path = Path(__file__).parents[2] / f"benchmarks/{script}.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # each thread allocates its own memory
    command = [sys.executable, path, *arguments, "--device", device.type, "--json", file]
    subprocess.run(command, env=environment, check=True)
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"]
    return rows


@contextmanager
def little_memory(net: RGT, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In this context the device has memory for tiles of 64×64 pixels, not for the whole picture of the test below."""
    if device.type == "cpu":  # simulated: a CPU has no such limit
        whole = net.forward

        def forward(x: Tensor) -> Tensor:
            if x.shape[-1] * x.shape[-2] > 64 * 64:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return whole(x)

        with monkeypatch.context() as patch:
            patch.setattr(net, "forward", forward)
            yield
        return
    net(torch.rand(8, 3, 64, 64, device=device))  # makes libraries allocate the memory that they keep
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info(device)
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + 128 * 2**20) / total, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def test_upscaler_halves_the_tiles_when_memory_runs_out(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    side = 512 if device.type == "cuda" else 96
    net = RGT(**{**CONFIG, "depth": [2]}).eval().to(device)
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    running = Upscaler(net, device=device.type, precision="fp32", tile=0)
    told = pytest.warns(UserWarning, match="out of memory: going on with tiles of")
    with torch.inference_mode(), little_memory(net, device, monkeypatch), told:
        result = running.upscale(picture)
    assert 64 <= running.used_tile < side
    expected = Upscaler(net, device=device.type, precision="fp32", tile=running.used_tile).upscale(picture)
    np.testing.assert_allclose(result.astype(int), expected.astype(int), atol=1)


def test_a_gpu_runs_equal_pictures_together_with_equal_results(device: torch.device) -> None:
    net = strong_network(device).eval()
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 40, 56, 3), dtype=np.uint8))
    running, batches = Upscaler(net, device=device.type, precision="fp32"), []
    net.register_forward_pre_hook(lambda _, arguments: batches.append(len(arguments[0])))
    results = running.upscale_many(pictures)
    assert batches == ([3] if device.type == "cuda" else [1, 1, 1])
    for result, picture in zip(results, pictures, strict=True):
        np.testing.assert_allclose(result.astype(int), running.upscale(picture).astype(int), atol=1)
