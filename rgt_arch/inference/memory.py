"""Estimate an image's memory in a network, the free memory, and the largest tile that fits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from rgt_arch.archs.rgt_arch import RGT, slice_pixels
from rgt_arch.errors import UserError
from rgt_arch.launchers import processes_here
from rgt_arch.machine import control_groups

# Peak memory above the loaded network: float32 copies of the features and of the output per input pixel, and of the
# features of a slice, which on a CPU grows with the number of threads.
# Measured at 128² to 384² pixels, ×2 and ×4, 96 and 180 channels, 1 to 16 threads: the estimate is 0.9 to 1.6 times the
# peak.
_FEATURE_COPIES = 6.0
_OUTPUT_COPIES = 4.0
_SLICE_COPIES = 8.0
_BASE = 64 << 20  # used for any image: threads' scratch memory, libraries
_SHARE = 0.8  # of the free memory: other processes need some
_TILE_STEP = 16  # the windows' and the recursion's grid
SMALLEST_AUTO_TILE = 64
_MEMORY_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    2: ("memory.max", "memory.current", ""),
}
"""By version of control groups: limit, usage, and the prefix of keys in memory.stat."""


def image_memory(network: RGT, height: int, width: int, device: torch.device) -> int:
    """Estimate the peak bytes above the loaded network for a float32 image of (height, width) input pixels."""
    return _fixed_memory(network, device) + height * width * _memory_per_pixel(network)


def _fixed_memory(network: RGT, device: torch.device) -> int:
    slices = slice_pixels(device) if device.type == "cpu" else 0
    return int(_BASE + 4 * _SLICE_COPIES * network.embed_dim * slices)


def _memory_per_pixel(network: RGT) -> int:
    return int(4 * (_FEATURE_COPIES * network.embed_dim + _OUTPUT_COPIES * network.in_chans * network.upscale**2))


def free_memory(device: torch.device) -> int:
    """Return the free bytes of the GPU, or of the machine within the limits of the process's control groups.

    Processes that torchrun or Slurm started on this machine have equal shares of its memory.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(0, min(int(psutil.virtual_memory().available), *_free_in_groups())) // processes_here()


def largest_tile(network: RGT, height: int, width: int, device: torch.device) -> int:
    """Return the side of the largest square tile that fits into free memory; the longer side if the image does.

    Raises UserError if not even the smallest tile fits.
    """
    free = free_memory(device)
    usable = int(free * _SHARE)
    if image_memory(network, height, width, device) <= usable:
        return max(height, width)
    # tiles of a GPU are joined in main memory
    output = 0 if device.type == "cuda" else 4 * network.in_chans * network.upscale**2 * height * width
    fixed, per_pixel = _fixed_memory(network, device), _memory_per_pixel(network)
    side = math.isqrt(max(0, usable - fixed - output) // per_pixel) // _TILE_STEP * _TILE_STEP
    if side < SMALLEST_AUTO_TILE:
        needed = fixed + output + per_pixel * SMALLEST_AUTO_TILE**2
        raise UserError(
            f"{height}x{width} pixels at x{network.upscale} need about {needed >> 20} MiB, {free >> 20} MiB are free; "
            "use --device cpu, close other programs, or cut the picture"
        )
    return side


def is_out_of_memory(error: BaseException) -> bool:
    """Check whether an exception means that a device ran out of memory."""
    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )


def _free_in_groups(*places: Path) -> Iterator[int]:
    """Free bytes of the control groups around this process; files that the kernel caches count as free."""
    for folder, version in control_groups("memory", *places):
        limit, usage, prefix = _MEMORY_FILES[version]
        try:
            facts = dict(fact.split() for fact in (folder / "memory.stat").read_text().splitlines())
            cached = int(facts[f"{prefix}inactive_file"]) + int(facts[f"{prefix}active_file"])
            yield int((folder / limit).read_text()) - int((folder / usage).read_text()) + cached
        except (OSError, ValueError, KeyError):  # missing, or "max"
            continue
