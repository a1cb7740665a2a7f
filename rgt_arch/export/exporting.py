"""Write a network as an ONNX file or a `torch.export` program that is compared with PyTorch before it is kept."""

from __future__ import annotations

import copy
import importlib.util
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.errors import UsageError, UserError
from rgt_arch.export.graph import LARGEST_SIDE, GraphRGT
from rgt_arch.files import check_output, written_whole
from rgt_arch.inference.onnx_network import OnnxNetwork
from rgt_arch.version import __version__
from rgt_arch.weights.building import load_model
from rgt_arch.weights.inspecting import preset_name
from rgt_arch.weights.zoo import find_entry, resolve_path

OPSET = 18
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_LARGEST_DIFFERENCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}
# Smaller than a window, thin, whole windows and one pixel more on each side, odd, and three rounds of the recursion.
_SIZES = ((3, 2), (5, 9), (17, 100), (32, 64), (33, 65), (47, 41), (1024, 64))
_RUN_PROGRAM = """
import sys
sys.modules["rgt_arch"] = None  # an import of it fails
import torch
network = torch.export.load(sys.argv[1]).module()
torch.save([network(image) for image in torch.load(sys.argv[2])], sys.argv[2])
"""


def export_network(
    weights: str | Path,
    target: str | Path,
    *,
    size: tuple[int, int] | None = None,
    precision: str = "fp32",
    overwrite: bool = False,
) -> str:
    """Write the network of `weights` as a graph and return a report; in and out are float32 of shape (B, C, H, W).

    target: `.onnx`, or `.pt2` for a program of `torch.export`, which runs without this package. size: the only
    (height, width), with one image a batch; None: all sizes and batches. precision: inside the network.
    Raises UsageError for unsuitable arguments; UserError, and `target` is as before, if the file's results differ from
    PyTorch's by more than 0.0001 in fp32, 0.02 in fp16 or 0.1 in bf16.
    """
    target = Path(target).expanduser()
    if target.suffix.lower() not in (".onnx", ".pt2"):
        raise UsageError(f"-o {target}: unknown suffix {target.suffix!r}; take .onnx, or .pt2 for torch.export")
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing and target.suffix.lower() == ".onnx":
        raise UsageError(f"ONNX files need {', '.join(missing)}; pip install 'rgt-arch[export]'")
    if precision == "bf16" and target.suffix.lower() == ".onnx":
        raise UsageError("--precision bf16: onnxruntime on CPUs, which checks ONNX files, lacks it; take fp16 or .pt2")
    source = resolve_path(weights)
    check_output("-o", target, [source], overwrite=overwrite)
    network = load_model(source)
    sizes = [size] if size else _SIZES
    facts = {
        "rgt_arch": __version__,
        "network": preset_name(network.config) or "RGT",
        "scale": str(network.upscale),
        "weights": source.stem,
        "licence": entry.licence if (entry := find_entry(source.stem)) else "that of the weights",
        "channels": {3: "RGB", 1: "grey"}.get(network.in_chans, str(network.in_chans)),
        "range": "0 to 1",
        "precision": precision,
        "sizes": f"{size[0]}x{size[1]}" if size else f"1 to {LARGEST_SIDE} pixels a side",
    }
    with torch.no_grad(), written_whole(target) as beside:
        program = _program(network, size, PRECISIONS[precision])
        nodes = ""
        if target.suffix.lower() == ".pt2":
            torch.export.save(program, beside, extra_files=facts)
        else:
            nodes = f"{_save_onnx(program, facts, beside)} nodes, "
        try:
            lines, largest = _compare(network, beside, sizes)
        except UserError as error:
            raise UserError(f"{target}: not written: {str(error).removeprefix(f'{beside}: ')}") from error
        if not largest <= _LARGEST_DIFFERENCE[precision]:
            raise UserError(
                f"{target}: not written: its results differ from PyTorch's by {largest:.1e}, which is more than "
                f"{_LARGEST_DIFFERENCE[precision]:g} ({'; '.join(lines)})"
            )
    size_text = f"{nodes}{target.stat().st_size / 1e6:.1f} MB"
    first = f"{target}: {facts['network']} ×{network.upscale}, {precision}, {facts['sizes']}, {size_text}"
    return "\n".join([first, "largest differences from PyTorch:", *(f"  {line}" for line in lines)])


def _program(network: RGT, size: tuple[int, int] | None, dtype: torch.dtype) -> ExportedProgram:
    graph = GraphRGT(copy.deepcopy(network), dtype).eval()
    image, shapes = torch.zeros(1, network.in_chans, *(size or (0, 0))), None
    if size is None:  # an example whose sizes have nothing in common
        image = torch.zeros(2, network.in_chans, 37, 53)
        sides = {axis: Dim(name, min=1, max=LARGEST_SIDE) for axis, name in ((2, "height"), (3, "width"))}
        shapes = {"image": {0: Dim("batch", min=1), **sides}}
    program = torch.export.export(graph, (image,), dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def _save_onnx(program: ExportedProgram, facts: dict[str, str], path: Path) -> int:
    """Write the file and return its number of nodes."""
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["result"]}
    made = torch.onnx.export(program, opset_version=OPSET, verbose=False, **names)
    assert made is not None
    for node in made.model.graph.all_nodes():
        node.metadata_props.clear()
    made.model.metadata_props.update(facts)
    made.save(path, external_data=False)
    return sum(1 for _ in made.model.graph.all_nodes())


def _compare(network: RGT, path: Path, sizes: Sequence[tuple[int, int]]) -> tuple[list[str], float]:
    """Run a file on noise of these sizes; a line of text for each, and the largest difference (nan if there is one)."""
    draw = torch.Generator().manual_seed(0)
    images = [torch.rand(1, network.in_chans, *size, generator=draw) for size in sizes]
    results = (
        _run_program(path, images) if path.suffix.lower() == ".pt2" else list(map(OnnxNetwork(path, "cpu"), images))
    )
    lines, differences = [], []
    for image, result in zip(images, results, strict=True):
        error = (network(image) - result).double()
        differences.append(error.abs().max().item())
        psnr = -10 * math.log10(max(error.square().mean().item(), 1e-20))
        lines.append(f"{image.shape[2]}x{image.shape[3]}: {differences[-1]:.1e} ({psnr:.0f} dB)")
    return lines, torch.tensor(differences).max().item()


def _run_program(path: Path, images: list[Tensor]) -> list[Tensor]:
    """Run a `torch.export` program in a new process that cannot import this package."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "images.pt")
        torch.save(images, file)
        ended = subprocess.run([sys.executable, "-c", _RUN_PROGRAM, path, file], capture_output=True, text=True)
        if ended.returncode:
            raise UserError(f"the program does not run: {ended.stderr.strip().splitlines()[-1]}")
        return torch.load(file, weights_only=True)
