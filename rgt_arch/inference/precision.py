"""Whether a device computes in bfloat16 itself, or imitates it: on a CPU that takes up to ten times float32's time."""

from __future__ import annotations

import torch


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
