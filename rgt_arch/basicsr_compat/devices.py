"""Option files made for GPUs run on a machine without them, and DistributedDataParallel runs on CPUs.

Where: basicsr/models/base_model.py:18 (`num_gpu: 1` means CUDA even without one), :98 (DDP asks for a CUDA device id)
and basicsr/data/prefetch_dataloader.py:101 (a CUDA stream). What goes wrong: training dies at the first
`.to('cuda')`; rgt_arch.config.hardware sets the options right, this seam the model. DDP also broadcasts buffers in the
forward of rank 0's validation, which no other rank joins. Delete it once BasicSR chooses the device by what is there
and builds DDP without device ids on CPUs and without buffer broadcasts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from rgt_arch.config.hardware import usable_gpus

Options = dict[str, Any]

# torch 2.15 renamed the argument; with the old name it warns.
_NEW_NAME = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
_NO_BUFFER_SYNC: dict[str, Any] = {"forward_sync_buffers" if _NEW_NAME else "broadcast_buffers": False}


def one_gpu_each(opt: Options) -> None:
    """Under a launcher every process takes one GPU, so `num_gpu`, the number over all machines, says whether to use
    any."""
    if isinstance(opt.get("num_gpu"), int) and opt["num_gpu"] > 1 and usable_gpus():
        opt["num_gpu"] = 1


def to_device(_original: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """BaseModel.model_to_device for CPUs and GPUs."""

    def model_to_device(self: Any, net: nn.Module) -> nn.Module:
        net = net.to(self.device)
        if self.opt["dist"]:
            return DistributedDataParallel(
                net,
                device_ids=[torch.cuda.current_device()] if self.device.type == "cuda" else None,
                **_NO_BUFFER_SYNC,
                find_unused_parameters=self.opt.get("find_unused_parameters", False),
            )
        return DataParallel(net) if self.opt["num_gpu"] > 1 else net

    return model_to_device
