"""What a measurement ran on, in one line: figures without it cannot be compared."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from rgt_arch.data.parallel import default_jobs


def describe_machine(device: torch.device) -> str:
    """CPU, cores, threads, the GPU if `device` is one, versions, and how busy the machine is right now."""
    parts = [
        _cpu(),
        f"{default_jobs()} cores",
        f"{torch.get_num_threads()} torch threads",
        f"torch {torch.__version__}",
        f"Python {platform.python_version()}",
    ]
    if device.type == "cuda":
        parts.insert(0, torch.cuda.get_device_name(device))
    if hasattr(os, "getloadavg"):
        parts.append(f"load {os.getloadavg()[0]:.1f}")
    return ", ".join(parts)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
