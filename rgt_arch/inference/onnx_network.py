"""Files of `rgt export` as networks that onnxruntime runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgt_arch.errors import UsageError, UserError, printable

_AUTO_TILE = 192  # a graph does not work in slices: its memory grows faster than the pixels
_PROVIDERS = {"cpu": "CPU", "cuda": "CUDA", "mps": "CoreML", "directml": "Dml", "tensorrt": ("Tensorrt", "CUDA")}


class OnnxNetwork(nn.Module):
    """Runs an ONNX file of `rgt export`: (B, in_chans, H, W) float32 to (B, in_chans, upscale·H, upscale·W) float32.

    A file of fixed size pads smaller images by repeating their last row and column, and crops the result.
    """

    def __init__(self, path: str | Path, device: str = "auto") -> None:
        """device: auto for the installed providers in their order; cpu, cuda, mps, directml, tensorrt.

        The GPU is that of cuda:1, or the current one. Only tensorrt takes TensorRT, with an engine for each shape.
        Raises UsageError for files that `rgt export` has not written, and without onnxruntime or the device's provider.
        """
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise UsageError(f"{path}: ONNX files need onnxruntime; pip install 'rgt-arch[export]'") from error
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise UsageError(f"{path}: no such file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors; a warning for each provider that is not used
        kind, _, index = device.partition(":")
        installed = onnxruntime.get_available_providers()
        providers = [name for name in installed if name.startswith(_PROVIDERS.get(kind, ()))]
        if device == "auto":
            providers = [name for name in installed if "tensorrt" not in name.lower()]
        if not providers or not (index or "0").isdecimal():
            raise UsageError(f"device {device} is not available to onnxruntime (installed: {', '.join(installed)})")
        providers += [name for name in installed if name == "CPUExecutionProvider" and name not in providers]
        settings = [
            {"device_id": _gpu(index)} if name.startswith(("CUDA", "Tensorrt", "Dml")) else {} for name in providers
        ]
        try:
            self.session = onnxruntime.InferenceSession(self.path, options, providers, settings)
        except Exception as error:  # its exceptions have no public base class
            raise UsageError(f"{path}: onnxruntime cannot run it: {_line(error)}") from error
        facts = self.session.get_modelmeta().custom_metadata_map
        if "scale" not in facts or "rgt_arch" not in facts:
            raise UsageError(f"{path}: was not written by `rgt export`, so its scale and range are not known")
        self.upscale = int(facts["scale"])
        _, self.in_chans, height, width = self.session.get_inputs()[0].shape
        self.size: tuple[int, int] | None = (height, width) if isinstance(height, int) else None
        self.tile = min(self.size) if self.size else _AUTO_TILE
        """Side of the tiles that suit the file."""

    def tile_for(self, tile: int | str, precision: str) -> int | str:
        """Return the tile for `Upscaler`. Raises UsageError for a tile or precision that the file does not have."""
        if precision != "auto":
            raise UsageError(f"precision is {precision!r}; an ONNX file has its own: choose it at `rgt export`")
        if tile != "auto" and self.size and tile != self.tile:
            raise UsageError(f"tile is {tile!r}; {self.path} was exported for {self.tile} only: leave tile out")
        return self.tile if tile == "auto" else tile

    def forward(self, image: Tensor) -> Tensor:
        """Raise UserError if onnxruntime fails, MemoryError if memory ran out."""
        height, width = image.shape[-2:]
        batches = [image]
        if self.size:
            padding = (0, max(0, self.size[1] - width), 0, max(0, self.size[0] - height))
            batches = list(F.pad(image, padding, mode="replicate").split(1))
        result = torch.cat([torch.from_numpy(self._run(batch.contiguous().numpy())) for batch in batches])
        return result[..., : height * self.upscale, : width * self.upscale]

    def _run(self, images: Any) -> Any:
        try:
            return self.session.run(None, {self.session.get_inputs()[0].name: images})[0]
        except Exception as error:  # its exceptions have no public base class
            if "alloc" in str(error):
                raise MemoryError(str(error)) from error
            raise UserError(f"{self.path}: onnxruntime failed: {_line(error)}") from error


def _gpu(index: str) -> int:
    return int(index or (torch.cuda.current_device() if torch.cuda.is_available() else 0))


def _line(error: Exception) -> str:
    return printable(str(error).strip().splitlines()[0])
