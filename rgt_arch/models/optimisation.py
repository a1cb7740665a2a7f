"""What one optimiser step is made of: mixed precision, accumulation, and optimisers by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rgt_arch.config.classes import optimizers
from rgt_arch.config.report import suggestion
from rgt_arch.errors import UsageError

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast_dtype(amp: str | None, device: torch.device) -> torch.dtype | None:
    """Type of autocast on a device, None for float32; fp16 needs loss scaling, so off CUDA it is bf16."""
    if amp == "fp16" and device.type != "cuda":
        return torch.bfloat16
    return AMP_DTYPES[amp] if amp else None


def micro_batches(lq: Tensor, gt: Tensor, parts: int) -> Iterable[tuple[Tensor, Tensor, float]]:
    """Parts of a batch with their share of it; where it does not divide, sizes differ by one image."""
    if parts > len(lq):
        raise UsageError(
            f"train.accumulate: {parts} is more than the {len(lq)} images of a batch; "
            "lower it or raise datasets.train.batch_size_per_gpu"
        )
    for part, target in zip(lq.tensor_split(parts), gt.tensor_split(parts), strict=True):
        yield part, target, len(part) / len(lq)


def build_optimizer(name: str, params: Iterable[nn.Parameter], lr: float, **kwargs: Any) -> Optimizer:
    """An optimiser of torch.optim by class name; UsageError names the nearest one, or the argument it refuses."""
    known = optimizers()
    if name not in known:
        raise UsageError(
            f"train.optim_g.type: {name!r} is not an optimiser of torch.optim; {suggestion(str(name), known)}"
        )
    try:
        return known[name](params, lr=lr, **kwargs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"train.optim_g: {name} refuses its arguments: {error}") from error


def loss_weight(criterion: nn.Module, share: float) -> float:
    """Factor on a micro-batch's loss that makes the gradients of all micro-batches add up to the whole batch's.

    BasicSR's losses are means over the batch, or sums with `reduction: sum`. The `fro` criterion of PerceptualLoss is
    a norm over the batch, which cannot be put together from parts: UsageError where the share is not all of it.
    """
    if share < 1 and getattr(criterion, "criterion_type", None) == "fro":
        raise UsageError("train.accumulate cannot split perceptual_opt.criterion: fro (a norm over the batch); use l1")
    return 1.0 if getattr(criterion, "reduction", "mean") == "sum" else share
