"""`Upscaler`: any picture as an array in, a larger one of the same kind out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import RGT, ResidualGroup
from rgt_arch.config.settings import SMALLEST_TILE, default_overlap, largest_overlap
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
from rgt_arch.inference.memory import SMALLEST_AUTO_TILE, free_memory, image_memory, is_out_of_memory, largest_tile
from rgt_arch.inference.onnx_network import OnnxNetwork
from rgt_arch.inference.precision import autocast_dtype, usable_device
from rgt_arch.inference.tiling import self_ensemble, tile_starts, tiled_forward
from rgt_arch.weights.building import load_model

ALPHA_MODES = ("rgt", "bicubic", "drop")
_MOST_AT_ONCE = 8

Advance = Callable[[int, int], None]
"""Called with the units that are done, and all of them."""
Outscale = float | Callable[[int, int], float] | None
"""A final factor, or a function that returns it for a picture of (height, width); None: the network's scale."""


class Upscaler:
    """Super-resolves pictures with an RGT: `Upscaler("RGT_T_x4").upscale(image)`.

    Areas of one colour keep that colour exactly, also in the corners. Pictures that do not fit into memory are run in
    overlapping tiles. If memory still runs out, the batch is halved, then the tiles, for later pictures too. A result
    with NaN or infinity is computed again in float32. `warnings.warn` reports both.
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
        batch: int | str = "auto",
    ) -> None:
        """weights: a name that `rgt weights` lists, a checkpoint, an ONNX file of `rgt export`, or a network.

        device: auto (CUDA, else Apple's GPU, else CPU), or a device of torch. precision: fp32, bf16, fp16 (inside the
        network; in and out stay float32), or auto: on CUDA bf16 if native to the GPU, else fp16; elsewhere fp32. Where
        bf16 is not native, fp32 replaces it, with a warning.
        tile: side in input pixels, 16 or more, 0 for the whole image at once, or auto: the whole image if it fits into
        memory, else the largest tile that fits. overlap: input pixels that neighbouring tiles share, by default 32, at
        most half a tile. self_ensemble: mean over 8 flips and transposes, 8 times slower. alpha: enlarged by the
        network (rgt), by bicubic, or dropped. batch: how many tiles of a picture, or whole pictures of one size, run
        together; auto: on CUDA as many as fit into half of the free memory, up to 8, elsewhere 1. On a CPU it is always
        1, because batches are not faster there and would change the sums in their last digits.

        Raises UsageError for other values, and for weights that cannot be loaded.
        """
        if isinstance(weights, (str, Path)) and Path(weights).suffix.lower() == ".onnx":
            file = OnnxNetwork(weights, device)
            device, tile = "cpu", file.tile_for(tile, precision)
            weights = cast(RGT, file)  # it has what is used of an RGT here
        self.device = usable_device(device)
        self.dtype = autocast_dtype(precision, self.device)
        if alpha not in ALPHA_MODES:
            raise UsageError(f"alpha is {alpha!r}; it must be one of {', '.join(ALPHA_MODES)}")
        self.tile, self.overlap, self.alpha = *_tiles(tile, overlap), alpha
        self.batch = _batch(batch, self.device, isinstance(weights, OnnxNetwork))
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

    def upscale(self, image: NDArray[Any], outscale: Outscale = None, progress: Advance | None = None) -> NDArray[Any]:
        """Enlarge a picture `scale` times, or `outscale` times by a final resize (Lanczos, antialiased).

        image: (H, W) or (H, W, C): grey, grey and alpha, RGB or RGBA in this order; alpha is not premultiplied. uint8,
        uint16, or float32 or float64 in [0, 1]. A constant alpha is copied without the network. progress(done, all)
        counts input pixels. It is called after each block of the network, and an exception that it raises ends the
        work.
        Returns an array of the same dtype and number of dimensions and, unless alpha is dropped, channels.
        Raises ValueError for other arrays and an outscale ≤ 0; UserError if the result or the smallest tile does not
        fit into memory, or the network's output is not finite.
        """
        return self.upscale_many([image], outscale, progress)[0]

    def upscale_many(
        self, images: Sequence[NDArray[Any]], outscale: Outscale = None, progress: Advance | None = None
    ) -> list[NDArray[Any]]:
        """Enlarge pictures of one shape and dtype like `upscale`, `pictures_at_once` of them together.

        Also raises ValueError for pictures that differ in shape or dtype.
        """
        for image in images:
            if not isinstance(image, np.ndarray):
                raise ValueError(f"image is of {type(image).__name__}; give an array, such as numpy.asarray(image)")
            if (image.shape, image.dtype) != (images[0].shape, images[0].dtype):
                raise ValueError(
                    f"images differ: {images[0].shape} {images[0].dtype} and {image.shape} {image.dtype}; "
                    "upscale those of one shape and dtype together"
                )
        pixels, step = (math.prod(images[0].shape[:2]) if images else 0), 1
        if len(images) > 1 and images[0].ndim > 1 and pixels:  # `split_alpha` refuses other arrays
            step = self.pictures_at_once(*images[0].shape[:2])
        results: list[NDArray[Any]] = []
        for first in range(0, len(images), step):
            group = images[first : first + step]
            advance = progress and partial(_advance, progress, first, len(group), pixels, len(images))
            results += self._upscale_together(group, outscale, advance)
        return results

    def pictures_at_once(self, height: int, width: int) -> int:
        """Return how many pictures of (height, width) `upscale_many` runs together; 1 if they are run in tiles.

        Raises UserError if not even the smallest tile fits into memory.
        """
        if self.batch == 1 or self._tile_for(height, width) < max(height, width):
            return 1
        result = 4 * 3 * self.scale**2 * height * width
        return max(1, min(self._at_once(height, width), free_memory(torch.device("cpu")) // (2 * result)))

    def _upscale_together(
        self, images: Sequence[NDArray[Any]], outscale: Outscale, advance: Callable[[float], None] | None
    ) -> list[NDArray[Any]]:
        split = [split_alpha(image) for image in images]
        height, width = images[0].shape[:2]
        size, larger = self.output_size(height, width, outscale), (height * self.scale, width * self.scale)
        self._check_room(larger, size, len(images) * min(images[0].size // (height * width), 3))
        colours = [colour if alpha is None else fill_transparent(colour, alpha) for colour, alpha in split]
        alphas = [alpha for _, alpha in split if alpha is not None and self.alpha != "drop"]  # of all pictures, or none
        is_even = [bool((alpha == alpha[0, 0]).all()) for alpha in alphas]
        uneven = [alpha for alpha, even in zip(alphas, is_even, strict=True) if not even and self.alpha == "rgt"]
        share = len(colours) / (len(colours) + len(uneven))

        def by_network(planes: Sequence[NDArray[Any]], before: float, share: float) -> list[NDArray[Any]]:
            stacked = torch.cat([to_tensor(plane) for plane in planes])
            results = self._enlarge(stacked, advance and (lambda done: advance(before + share * done)))
            return [self._finished(result, size, images[0].dtype) for result in results.split(1)]

        arrays = by_network(colours, 0, share)
        by_rgt = iter(by_network(uneven, share, 1 - share) if uneven else ())
        for number, (alpha, even) in enumerate(zip(alphas, is_even, strict=True)):
            if even:
                array = np.broadcast_to(alpha[:1, :1], (*size, 1))
            elif self.alpha == "rgt":
                array = next(by_rgt)
            else:
                array = self._finished(resize(to_tensor(alpha), larger, Image.Resampling.BICUBIC), size, alpha.dtype)
            arrays[number] = np.concatenate([arrays[number], array], axis=2)
        return [array[..., 0] for array in arrays] if images[0].ndim == 2 else arrays

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
        needed = 4 * channels * sum(height * width for height, width in {enlarged, size})
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
        """Enlarge (B, C, H, W) in [0, 1] to (B, C, H·scale, W·scale) on the CPU; C and the network's may be 1 or 3."""
        channels = image.shape[1]
        if channels == 1 and self.network.in_chans == 3:
            result = self._run(image.expand(-1, 3, -1, -1), advance).mean(dim=1, keepdim=True)
        elif channels == 3 and self.network.in_chans == 1:
            result = self._run(image.flatten(0, 1)[:, None], advance).unflatten(0, image.shape[:2])[:, :, 0]
        else:
            result = self._run(image, advance)
        return keep_flat(image, clamp_corners(image, result, self.scale), self.scale)

    def _tile_for(self, height: int, width: int) -> int:
        """The side of the tiles for a picture of (height, width); not below the longer side: it is run whole."""
        longer = max(height, width)
        if self.tile == "auto":
            tile = largest_tile(self.network, height, width, self.device)
        else:
            tile = min(int(self.tile) or longer, longer)
        return max(tile, SMALLEST_TILE, 2 * self.overlap)

    def _run(self, images: Tensor, advance: Callable[[float], None] | None) -> Tensor:
        """Run whole pictures together, or one after the other in tiles.

        The batch is halved, then the tiles, until they fit into memory, for later pictures too.
        """
        height, width = images.shape[-2:]
        tile, smallest = self._tile_for(height, width), max(SMALLEST_AUTO_TILE, 2 * self.overlap)
        while True:
            is_whole = tile >= max(height, width)
            self.used_tile = 0 if is_whole else tile
            tiles = math.prod(len(tile_starts(length, tile, self.overlap)) for length in (height, width))
            at_once = min(self._at_once(min(tile, height), min(tile, width)), len(images) if is_whole else tiles)
            parts = images.split(at_once if is_whole else 1)
            runs = len(parts) * (1 if is_whole else -(-tiles // at_once)) * (8 if self.self_ensemble else 1)
            try:
                with _after_each_block(self.network, runs, advance):
                    results = [
                        tiled_forward(self._forward, part, self.scale, tile, self.overlap, batch=at_once)
                        for part in parts
                    ]
                return results[0] if len(results) == 1 else torch.cat(results)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if at_once > 1:
                    self.batch = at_once // 2
                    less = f"a batch of {self.batch}"
                elif tile > smallest:
                    tile = self.tile = max(smallest, tile // 2 // 8 * 8)
                    less = f"tiles of {tile} pixels"
                else:
                    raise UserError(
                        f"{height}x{width} pixels do not fit into the memory of {self.device}, not "
                        f"even in tiles of {tile}; use --device cpu, or close other programs"
                    ) from error
            # outside of `except`, whose exception keeps the tensors of the failed run alive
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            warnings.warn(f"out of memory: going on with {less}", stacklevel=2)

    def _at_once(self, height: int, width: int) -> int:
        """How many tiles or pictures of (height, width) to run together."""
        if self.batch != "auto":
            return int(self.batch)
        if self.device.type != "cuda":
            return 1
        room = free_memory(self.device) // max(1, image_memory(self.network, height, width, self.device))
        return max(1, min(_MOST_AT_ONCE, room // 2))

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
    """Return the size (0: whole, or auto) and the overlap of tiles. Raises UsageError; the bounds are option files'."""
    is_fixed, other = tile not in ("auto", 0), "(a tile may also be auto, or 0 for whole images)"
    if is_fixed and (not _is_whole_number(tile) or int(tile) < SMALLEST_TILE):
        raise UsageError(f"tile is {tile!r}; it must be a whole number of pixels from {SMALLEST_TILE} up {other}")
    size = int(tile) if is_fixed else SMALLEST_AUTO_TILE
    overlap, most = default_overlap(size) if overlap is None else overlap, largest_overlap(size)
    if not _is_whole_number(overlap) or overlap < 0 or (is_fixed and overlap > most):  # other tiles grow with it
        raise UsageError(
            f"overlap is {overlap!r}; it must be a whole number of pixels from 0 to half of the tile ({most}) {other}"
        )
    return size if is_fixed else tile, int(overlap)


def _is_whole_number(value: Any) -> bool:
    """Check whether a value is an integer of any type, numpy's too, but not a bool."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


@contextmanager
def _after_each_block(network: nn.Module, runs: int, advance: Callable[[float], None] | None) -> Iterator[None]:
    """Call advance(share) after each block of `runs` forward passes, so that one large tile shows progress too."""
    if not advance:
        yield
        return
    blocks = [block for group in network.modules() if isinstance(group, ResidualGroup) for block in group.blocks]
    steps = count(1)

    def end_step(*_: object) -> None:
        share = next(steps) / (runs * (len(blocks) + 1))
        advance(min(1, share))  # a result that is not finite is computed again

    hooks = [module.register_forward_hook(end_step) for module in (network, *blocks)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _batch(batch: int | str, device: torch.device, is_onnx: bool) -> int | str:
    """Check a batch. Raises UsageError; warns on a CPU and for ONNX files, where it is 1."""
    if batch != "auto" and (not _is_whole_number(batch) or int(batch) < 1):
        raise UsageError(f"batch is {batch!r}; it must be auto, or a whole number from 1 up")
    if device.type != "cpu":
        return batch if batch == "auto" else int(batch)
    if batch not in ("auto", 1):
        alone = "an ONNX file" if is_onnx else "a CPU"
        warnings.warn(f"batch {batch} has no effect on {alone}, which runs one at a time", stacklevel=3)
    return 1


def _advance(progress: Advance, first: int, count: int, pixels: int, total: int, share: float) -> None:
    """Report a share of `count` pictures of `pixels`, from number `first` of `total` on."""
    progress(round((first + share * count) * pixels), total * pixels)
