"""The device to compute on, and in which precision.

Where a device only imitates bfloat16, float32 replaces it: on a CPU the imitation takes up to ten times float32's time.
"""

from __future__ import annotations

import warnings

import torch

from rgt_arch.errors import UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("auto", "fp32", *_AUTOCAST)


def has_native_bfloat16(device: torch.device) -> bool:
    """Check whether a device has instructions for bfloat16: Ampere and later GPUs, CPUs with AVX512-BF16, AMX or Arm's.

    Apple's GPU counts as a device that has them.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return True
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    # oneDNN also imitates it on x86 with AVX512 alone, and reports it as supported there
    has_instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return has_instructions or not torch.cpu._is_avx512_supported()


def instead_of_bfloat16(asked: str, device: torch.device) -> str:
    """Return the line that says why float32 is used. asked: the option or flag with its value."""
    return f"{asked}: float32 is used, because this {device.type} has no instructions for bfloat16 and would be slower"


def usable_device(name: str) -> torch.device:
    """Return the device of a name. Raises UsageError if it is unknown or not available."""
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


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the dtype of autocast for one of PRECISIONS, None for float32. Raises UsageError for another text.

    Warns, as the caller's caller, where float32 replaces a bfloat16 that is not native.
    """
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
