"""Write a network as an ONNX file or a `torch.export` program that is compared with PyTorch before it is kept."""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.errors import UsageError, UserError
from rgt_arch.files import check_output, written_whole
from rgt_arch.inference.onnx_network import OnnxNetwork
from rgt_arch.progress import Progress
from rgt_arch.version import __version__
from rgt_arch.weights.building import load_model
from rgt_arch.weights.inspecting import preset_name
from rgt_arch.weights.zoo import find_entry, resolve_path

PRECISIONS = {"fp32": (torch.float32, 1e-4), "fp16": (torch.float16, 2e-2), "bf16": (torch.bfloat16, 1e-1)}
"""The dtype inside the network, and the largest difference from PyTorch's float32."""
# (batch, height, width): smaller than a window, thin, whole windows and one pixel more on each side, odd, and three
# rounds of the recursion
_SHAPES = ((2, 3, 2), (1, 5, 9), (1, 17, 100), (2, 32, 64), (1, 33, 65), (1, 47, 41), (1, 1024, 64))


def export_network(
    weights: str | Path,
    target: str | Path,
    *,
    size: tuple[int, int] | None = None,
    precision: str = "fp32",
    overwrite: bool = False,
) -> str:
    """Write the network of `weights` for other programs and return a report.

    In and out are float32 of shape (B, C, H, W). target: `.onnx`, or `.pt2` for a program of `torch.export`, which runs
    without this package. size: the only (height, width), with one image a batch; None: all sizes and batches, for ONNX
    only. precision: inside the network; bf16 for `.pt2` only.
    Raises UsageError for unsuitable arguments; UserError, and `target` is as before, if the file's results differ from
    PyTorch's by more than 0.0001 in fp32, 0.02 in fp16 or 0.1 in bf16.
    """
    target = Path(target).expanduser()
    suffix = target.suffix.lower()
    if suffix not in (".onnx", ".pt2"):
        raise UsageError(f"-o {target}: unknown suffix {target.suffix!r}; take .onnx, or .pt2 for torch.export")
    if suffix == ".pt2" and size is None:
        raise UsageError(f"-o {target}: a program of torch.export takes one size; name it, such as --size 64x64")
    if suffix == ".onnx" and precision == "bf16":
        raise UsageError(
            "--precision bf16: onnxruntime does not run ONNX files in bf16 on CPUs; take fp16, or .pt2 for torch.export"
        )
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing and suffix == ".onnx":
        raise UsageError(f"ONNX files need {', '.join(missing)}; pip install 'rgt-arch[export]'")
    source = resolve_path(weights)
    check_output("-o", target, [source], overwrite=overwrite)
    network = load_model(source)
    dtype, most = PRECISIONS[precision]
    facts = {
        "rgt_arch": __version__,
        "network": preset_name(network.config) or "RGT",
        "scale": str(network.upscale),
        "weights": source.stem,
        "licence": entry.licence if (entry := find_entry(source.stem)) else "that of the weights",
        "channels": {3: "RGB", 1: "grey"}.get(network.in_chans, str(network.in_chans)),
        "range": "0 to 1",
        "precision": precision,
        "sizes": f"{size[0]}x{size[1]}" if size else "1 pixel a side or more",
    }
    draw = torch.Generator().manual_seed(0)
    shapes = [(1, *size)] if size else _SHAPES
    images = [torch.rand(batch, network.in_chans, *sides, generator=draw) for batch, *sides in shapes]
    with torch.no_grad(), written_whole(target) as beside:
        if suffix == ".pt2":
            _save_program(network, images[0], dtype, facts, beside)
            nodes, results = "", map(torch.export.load(beside).module(), images)
        else:
            from rgt_arch.export.graph import onnx_model  # needs the extra

            model = onnx_model(network, size, dtype, facts)
            beside.write_bytes(model.SerializeToString())
            nodes, results = f"{len(model.graph.node)} nodes, ", map(OnnxNetwork(beside, "cpu"), images)
        lines, largest = _compare(network, images, results)
        if not largest <= most:
            raise UserError(
                f"{target}: not written: its results differ from PyTorch's by {largest:.1e}, which is more than "
                f"{most:g} ({'; '.join(lines)})"
            )
    size_text = f"{nodes}{target.stat().st_size / 1e6:.1f} MB"
    first = f"{target}: {facts['network']} ×{network.upscale}, {precision}, {facts['sizes']}, {size_text}"
    return "\n".join([first, "largest differences from PyTorch:", *(f"  {line}" for line in lines)])


def _compare(network: RGT, images: Sequence[Tensor], results: Iterator[Tensor]) -> tuple[list[str], float]:
    """Return a line of text for each image, and the largest difference (nan if there is one)."""
    lines, differences = [], []
    with Progress(len(images), "comparing", "size") as progress:
        for image, result in zip(images, results, strict=True):
            error = (network(image) - result).double()
            differences.append(error.abs().max().item())
            psnr = -10 * math.log10(max(error.square().mean().item(), 1e-20))
            lines.append(f"{image.shape[2]}x{image.shape[3]}: {differences[-1]:.1e} ({psnr:.0f} dB)")
            progress.advance()
    return lines, torch.tensor(differences).max().item()


class _InPrecision(nn.Module):
    """`network` in a dtype, with float32 in and out."""

    def __init__(self, network: RGT, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network.to(dtype), dtype

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image.to(self.dtype)).float()


def _save_program(network: RGT, image: Tensor, dtype: torch.dtype, facts: dict[str, str], path: Path) -> None:
    program = torch.export.export(_InPrecision(copy.deepcopy(network), dtype), (image,))
    for part in program.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths of this machine
    torch.export.save(program, path, extra_files=facts)
