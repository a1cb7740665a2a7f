"""How much memory an image takes in a network, how much there is, and the largest tile that fits."""

from __future__ import annotations

import math
from pathlib import Path

import psutil
import torch

from rgt_arch.archs.rgt_arch import RGT

# Peak memory above the loaded network, per input pixel: so many copies of the features and of the output, in float32.
# Measured at 256² to 750×1000 pixels, ×2 and ×4, 96 and 180 channels: the estimate is 1.1 to 1.7 times what was taken.
_FEATURE_COPIES = 6.0
_OUTPUT_COPIES = 4.0
_BASE = 64 << 20  # what small images take too: threads' scratch memory, libraries
_SHARE = 0.8  # of the free memory: others live here too
_TILE_STEP = 16  # the windows' and the recursion's grid
SMALLEST_AUTO_TILE = 64

_Group = tuple[int, int]


def image_memory(network: RGT, height: int, width: int, batch: int = 1) -> int:
    """Estimated peak memory in bytes above the loaded network, for float32 images of (height, width) input pixels."""
    per_pixel = 4 * (_FEATURE_COPIES * network.embed_dim + _OUTPUT_COPIES * network.in_chans * network.upscale**2)
    return int(_BASE + batch * height * width * per_pixel)


def free_memory(device: torch.device) -> int:
    """Bytes that a process may still take: of the GPU, or of the machine within the limits of its control group."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free) + unused
    free = int(psutil.virtual_memory().available)
    for limit, used in _control_groups():
        free = min(free, max(0, limit - used))
    return free


def largest_tile(network: RGT, height: int, width: int, memory: int, *, gathered: bool = True) -> int:
    """Side of the largest square tile whose run fits into `memory` bytes; 0 if the whole image does.

    gathered: whether the tiles are put together in the same memory, not a GPU's while the picture is in the machine's.
    Raises MemoryError if not even the smallest tile fits.
    """
    usable = int(memory * _SHARE)
    if image_memory(network, height, width) <= usable:
        return 0
    output = 4 * network.in_chans * network.upscale**2 * height * width if gathered else 0
    per_pixel = image_memory(network, 1, 1) - _BASE
    side = math.isqrt(max(0, usable - _BASE - output) // per_pixel) // _TILE_STEP * _TILE_STEP
    if side < SMALLEST_AUTO_TILE:
        raise MemoryError(
            f"{height}x{width} pixels at x{network.upscale} need about "
            f"{(_BASE + output + per_pixel * SMALLEST_AUTO_TILE**2) >> 20} MiB, {memory >> 20} MiB are free"
        )
    return side


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a device ran out of memory."""
    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )


def _control_groups(process: Path = Path("/proc/self/cgroup"), mounts: Path = Path("/sys/fs/cgroup")) -> list[_Group]:
    """(limit, usage) in bytes of the control groups that this process is in, and of those around them."""
    try:
        lines = process.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            root, limit, usage = mounts / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        elif not controllers:
            root, limit, usage = mounts, "memory.max", "memory.current"
        else:
            continue
        group = root / path.lstrip("/")
        # Inside a container the path may be the host's: then the root is the container's own group.
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(root))):
            try:
                used = int((folder / usage).read_text()) - _page_cache(folder)
                found.append((int((folder / limit).read_text()), used))
            except (OSError, ValueError):  # not there, or "max"
                continue
    return found


def _page_cache(group: Path) -> int:
    """Bytes of files that the kernel keeps while nobody needs the memory; they count as used in the group's usage."""
    try:
        facts = dict(line.split(maxsplit=1) for line in (group / "memory.stat").read_text().splitlines())
        in_all = "total_" if "total_inactive_file" in facts else ""  # version 1 counts the groups inside apart
        return int(facts[f"{in_all}inactive_file"]) + int(facts[f"{in_all}active_file"])
    except (OSError, ValueError, KeyError):
        return 0
