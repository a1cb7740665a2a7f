"""`Upscaler`: any picture as an array in, a larger one of the same kind out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import RGT, ResidualGroup
from rgt_arch.config.settings import SMALLEST_TILE, default_overlap
from rgt_arch.errors import UsageError, UserError
from rgt_arch.inference.arrays import (
    clamp_corners,
    fill_transparent,
    keep_flat,
    resize,
    split_alpha,
    to_array,
    to_tensor,
)
from rgt_arch.inference.ensemble import self_ensemble
from rgt_arch.inference.memory import SMALLEST_AUTO_TILE, free_memory, image_memory, is_out_of_memory, largest_tile
from rgt_arch.inference.precision import has_native_bfloat16, instead_of_bfloat16
from rgt_arch.inference.tiling import check_tile, tile_starts, tiled_forward
from rgt_arch.weights.building import load_model

ALPHA_MODES = ("rgt", "bicubic", "drop")
DEVICES = ("auto", "cpu", "cuda", "mps")
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("auto", "fp32", *_AUTOCAST)
_MOST_TILES_AT_ONCE = 8

Progress = Callable[[int, int], None]
Outscale = float | Callable[[int, int], float] | None
"""A final factor, or a function that returns it for a picture of (height, width); None: the network's scale."""


class Upscaler:
    """Super-resolves pictures with an RGT: `Upscaler("RGT_T_x4").upscale(image)`.

    Areas of one colour keep that colour exactly, also in the corners. Pictures that do not fit into memory are run in
    overlapping tiles. If memory still runs out, the tiles are halved, for later pictures too. A result with NaN or
    infinity is computed again in float32. `warnings.warn` reports both.
    """

    def __init__(
        self,
        weights: str | Path | RGT = "RGT_T_x4",
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: int | str = "auto",
        overlap: int | None = None,
        self_ensemble: bool = False,
        alpha: str = "rgt",
    ) -> None:
        """weights: a name that `rgt weights` lists, a checkpoint, or a network.

        device: auto (CUDA, else Apple's GPU, else CPU), or a device of torch. precision: fp32, bf16, fp16 (inside the
        network; in and out stay float32), or auto: on CUDA bf16 if native to the GPU, else fp16; elsewhere fp32. Where
        bf16 is not native, fp32 replaces it, with a warning.
        tile: side in input pixels, 16 or more, 0 for the whole image at once, or auto: the whole image if it fits into
        memory, else the largest tile that fits. overlap: input pixels that neighbouring tiles share, by default 32, at
        most half a tile. self_ensemble: mean over 8 flips and transposes, 8 times slower. alpha: enlarged by the
        network (rgt), by bicubic, or dropped.

        Raises UsageError for other values, and for weights that cannot be loaded.
        """
        self.device = _device(device)
        self.dtype = _autocast_dtype(precision, self.device)
        if alpha not in ALPHA_MODES:
            raise UsageError(f"alpha is {alpha!r}; it must be one of {', '.join(ALPHA_MODES)}")
        self.tile, self.overlap, self.alpha = *_tiles(tile, overlap), alpha
        network = load_model(weights) if isinstance(weights, (str, Path)) else weights
        if not isinstance(network, nn.Module):
            raise UsageError(f"weights are {weights!r}; they must be a name, a file or a network")
        if network.in_chans not in (1, 3):
            raise UsageError(f"the network takes {network.in_chans} channels; pictures have 1 or 3")
        self.network = network.to(self.device).eval()
        self.scale = network.upscale
        self.self_ensemble = self_ensemble
        self.used_tile: int | None = None
        """Tile side of the last picture; 0 if it was run whole."""

    def upscale(self, image: NDArray[Any], outscale: Outscale = None, progress: Progress | None = None) -> NDArray[Any]:
        """Enlarge a picture `scale` times, or `outscale` times by a final resize (Lanczos, antialiased).

        image: (H, W) or (H, W, C): grey, grey and alpha, RGB or RGBA in this order; alpha is not premultiplied. uint8,
        uint16, or float32 or float64 in [0, 1]. progress(done, all) counts input pixels, twice if the network enlarges
        alpha too; a constant alpha is copied without the network. It is called after each block of the network, and an
        exception that it raises ends the work.
        Returns an array of the same dtype and number of dimensions and, unless alpha is dropped, channels.
        Raises ValueError for other arrays and an outscale ≤ 0; UserError if the result or the smallest tile does not
        fit into memory, or the network's output is not finite.
        """
        if not isinstance(image, np.ndarray):
            raise ValueError(f"image is of {type(image).__name__}; give an array, such as numpy.asarray(image)")
        colour, alpha = split_alpha(image)
        if self.alpha == "drop":
            colour, alpha = (colour if alpha is None else fill_transparent(colour, alpha)), None
        height, width = colour.shape[:2]
        size = self.output_size(height, width, outscale)
        self._check_room((height * self.scale, width * self.scale), size, image.size // (height * width))
        by_network = [colour if alpha is None else fill_transparent(colour, alpha)]
        even_alpha = alpha is not None and bool((alpha == alpha[0, 0]).all())
        if alpha is not None and self.alpha == "rgt" and not even_alpha:
            by_network.append(alpha)
        arrays = []
        for number, part in enumerate(by_network):
            advance = progress and partial(_advance, progress, number, len(by_network), height * width)
            arrays.append(self._finished(self._enlarge(to_tensor(part), advance), size, image.dtype))
        if alpha is not None and even_alpha:
            arrays.append(np.broadcast_to(alpha[:1, :1], (*size, 1)))
        elif alpha is not None and self.alpha == "bicubic":
            larger = resize(to_tensor(alpha), (height * self.scale, width * self.scale), Image.Resampling.BICUBIC)
            arrays.append(self._finished(larger, size, image.dtype))
        array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=2)
        return array[..., 0] if image.ndim == 2 else array

    def output_size(self, height: int, width: int, outscale: Outscale = None) -> tuple[int, int]:
        """Return the (height, width) of the result for a picture of (height, width).

        Raises ValueError for an outscale ≤ 0.
        """
        factor = outscale(height, width) if callable(outscale) else self.scale if outscale is None else outscale
        if not 0 < factor < math.inf:
            raise ValueError(f"outscale is {factor}; it must be above 0")
        return max(1, round(height * factor)), max(1, round(width * factor))

    def _check_room(self, enlarged: tuple[int, int], size: tuple[int, int], channels: int) -> None:
        """Raise UserError if the result does not fit into memory: the system would kill the whole process."""
        needed = 4 * min(channels, 3) * sum(height * width for height, width in {enlarged, size})
        free = free_memory(torch.device("cpu"))
        if needed > free:
            raise UserError(
                f"a result of {size[1]}x{size[0]} pixels needs about {needed >> 20} MiB of memory, {free >> 20} MiB "
                "are free; take a smaller outscale, close other programs, or cut the picture"
            )

    @staticmethod
    def _finished(result: Tensor, size: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Convert (1, C, H, W) to (*size, C) of the picture's dtype."""
        if result.shape[-2:] != size:
            result = resize(result, size, Image.Resampling.LANCZOS)
        return to_array(result, dtype)

    def _enlarge(self, image: Tensor, advance: Callable[[float], None] | None) -> Tensor:
        """Enlarge (1, C, H, W) in [0, 1] to (1, C, H·scale, W·scale) on the CPU; C and the network's may be 1 or 3."""
        channels = image.shape[1]
        if channels == 1 and self.network.in_chans == 3:
            result = self._run(image.expand(-1, 3, -1, -1), advance).mean(dim=1, keepdim=True)
        elif channels == 3 and self.network.in_chans == 1:
            result = self._run(image.transpose(0, 1), advance).transpose(0, 1)
        else:
            result = self._run(image, advance)
        return keep_flat(image, clamp_corners(image, result, self.scale), self.scale)

    def _run(self, image: Tensor, advance: Callable[[float], None] | None) -> Tensor:
        """Run whole or in tiles, which are halved until they fit into memory, for later pictures too."""
        longer, smallest = max(image.shape[-2:]), max(SMALLEST_AUTO_TILE, 2 * self.overlap)
        if self.tile == "auto":
            tile = largest_tile(self.network, image.shape[-2], image.shape[-1], self.device)
        else:
            tile = min(int(self.tile) or longer, longer)
        tile = max(tile, SMALLEST_TILE, 2 * self.overlap)
        while True:
            self.used_tile = tile if tile < longer else 0
            batch = self._tiles_at_once(tile)
            tiles = math.prod(len(tile_starts(side, tile, self.overlap)) for side in image.shape[-2:])
            try:
                with _after_each_block(self.network, -(-tiles // batch) * (8 if self.self_ensemble else 1), advance):
                    return tiled_forward(
                        self._forward,
                        image,
                        self.scale,
                        tile,
                        self.overlap,
                        batch=batch,
                        progress=advance and (lambda done, tiles: advance(done / tiles)),
                    )
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if tile <= smallest:
                    raise UserError(
                        f"{image.shape[-2]}x{image.shape[-1]} pixels do not fit into the memory of {self.device}, not "
                        f"even in tiles of {tile}; use --device cpu, or close other programs"
                    ) from error
                tile = self.tile = max(smallest, tile // 2 // 8 * 8)
            # outside of `except`, whose exception keeps the tensors of the failed run alive
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            warnings.warn(f"out of memory: going on with tiles of {tile} pixels", stacklevel=2)

    def _tiles_at_once(self, tile: int) -> int:
        """More than one tile keeps a GPU busy; a CPU gains nothing from it."""
        if self.device.type != "cuda":
            return 1
        room = free_memory(self.device) // max(1, image_memory(self.network, tile, tile))
        return max(1, min(_MOST_TILES_AT_ONCE, room // 2))

    @torch.inference_mode()
    def _forward(self, image: Tensor) -> Tensor:
        """Run one tile or the whole image, and again in float32 if the result is not finite."""
        image = image.to(self.device)
        result = self._network_output(image, self.dtype)
        if self.dtype is not None and not torch.isfinite(result).all():
            warnings.warn(f"NaN or infinity in {self.dtype}: this part was computed again in float32", stacklevel=2)
            result = self._network_output(image, None)
        if not torch.isfinite(result).all():
            raise UserError("the network's output is not finite; its weights are damaged or were trained to NaN")
        return result.cpu()

    def _network_output(self, image: Tensor, dtype: torch.dtype | None) -> Tensor:
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            return self_ensemble(self.network, image) if self.self_ensemble else self.network(image)


def _tiles(tile: int | str, overlap: int | None) -> tuple[int | str, int]:
    """Size (0: whole, or auto) and overlap of the tiles. Raises UsageError where `check_tile` raises ValueError."""
    try:
        if tile in ("auto", 0):
            overlap = default_overlap(SMALLEST_AUTO_TILE) if overlap is None else overlap
            check_tile(max(SMALLEST_AUTO_TILE, 2 * int(overlap)), overlap)
            return tile, int(overlap)
        check_tile(tile, 0)  # type: ignore[arg-type]
        overlap = default_overlap(int(tile)) if overlap is None else overlap
        check_tile(int(tile), overlap)
    except ValueError as error:
        raise UsageError(f"{error} (a tile may also be auto, or 0 for whole images)") from error
    return int(tile), int(overlap)


@contextmanager
def _after_each_block(network: nn.Module, runs: int, advance: Callable[[float], None] | None) -> Iterator[None]:
    """Call advance(share) after each block of `runs` forward passes, so that one large tile shows progress too."""
    blocks = [block for group in network.modules() if isinstance(group, ResidualGroup) for block in group.blocks]
    steps = count(1)

    def end_step(module: nn.Module, *_: object) -> None:
        share = next(steps) / (runs * (len(blocks) + 1))
        if advance and module is not network:  # its end is reported with the tile
            advance(min(1, share))

    hooks = [module.register_forward_hook(end_step) for module in (network, *blocks)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _advance(progress: Progress, number: int, parts: int, pixels: int, share: float) -> None:
    progress(round((number + share) * pixels), parts * pixels)


def _device(name: str) -> torch.device:
    """The device of a name; raises UsageError if it is unknown or not available."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device is {name!r}; it must be one of {', '.join(DEVICES)}") from None
    available = {
        "cpu": True,
        "cuda": (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise UsageError(f"device {name} is not available to torch {torch.__version__}; use auto or cpu")
    return device


def _autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    if precision not in PRECISIONS:
        raise UsageError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    if precision == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if has_native_bfloat16(device) else torch.float16
    if precision == "bf16" and not has_native_bfloat16(device):
        warnings.warn(instead_of_bfloat16("precision bf16", device), stacklevel=3)
        return None
    return _AUTOCAST.get(precision)
