"""The GPUs of this machine, and options that ask for more of them."""

from __future__ import annotations

from typing import Any

import torch

from rgt_arch.config.report import Report
from rgt_arch.config.tree import sections


def usable_gpus() -> int:
    """Number of GPUs that PyTorch can use, 0 without CUDA."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def settle_devices(opt: dict[str, Any], report: Report) -> None:
    """Set `num_gpu` to the GPUs of this machine, with one warning where the options ask for more; on the CPU, drop the
    data-loading options that need a GPU."""
    wanted, present = opt.get("num_gpu"), usable_gpus()
    if wanted == "auto":
        opt["num_gpu"] = present
    elif isinstance(wanted, int) and wanted > present:
        what = f"only {present} GPUs are here; runs on those" if present else "no CUDA GPU is here; runs on the CPU"
        report.warn(("num_gpu",), f"{what} (set num_gpu: {present} to say so)", wanted)
        opt["num_gpu"] = present
    if opt.get("num_gpu") == 0:
        for _, data in sections(opt.get("datasets")):
            if data.get("pin_memory"):
                data["pin_memory"] = False
            if data.get("prefetch_mode") == "cuda":
                data["prefetch_mode"] = None
