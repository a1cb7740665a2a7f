"""What one optimiser step is made of: mixed precision, clipping, accumulation, and optimisers by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rgt_arch.config import train_settings
from rgt_arch.config.classes import optimizers
from rgt_arch.errors import UsageError

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
OPTIMIZERS = optimizers()
"""Optimisers that `train.optim_g.type` may name."""


@dataclass(frozen=True)
class StepSettings:
    """`train.amp`, `train.grad_clip` and `train.accumulate`."""

    amp: str | None = None
    grad_clip: float | None = None
    """Largest 2-norm of all gradients together."""
    accumulate: int = 1
    """Micro-batches that a loader batch is split into."""

    @classmethod
    def from_options(cls, train: Mapping[str, Any]) -> StepSettings:
        """Read the three keys of an option file's `train` section; UsageError for values out of range."""
        settings = train_settings({"train": train})
        return cls(settings.amp, settings.grad_clip, settings.accumulate)

    def autocast_dtype(self, device: torch.device) -> torch.dtype | None:
        """Type of autocast on a device, None for float32; fp16 needs loss scaling, so off CUDA it is bf16."""
        if self.amp == "fp16" and device.type != "cuda":
            return torch.bfloat16
        return AMP_DTYPES[self.amp] if self.amp else None

    def micro_batches(self, lq: Tensor, gt: Tensor) -> Iterable[tuple[Tensor, Tensor, float]]:
        """Parts of a batch with their share of it; where it does not divide, sizes differ by one image."""
        if self.accumulate > len(lq):
            raise UsageError(
                f"train.accumulate: {self.accumulate} is more than the {len(lq)} images of a batch; "
                "lower it or raise datasets.train.batch_size_per_gpu"
            )
        for part, target in zip(lq.tensor_split(self.accumulate), gt.tensor_split(self.accumulate), strict=True):
            yield part, target, len(part) / len(lq)


def build_optimizer(name: str, params: Iterable[nn.Parameter], lr: float, **kwargs: Any) -> Optimizer:
    """An optimiser of torch.optim by class name; UsageError names the nearest one, or the argument it refuses."""
    if name not in OPTIMIZERS:
        nearest = difflib.get_close_matches(str(name), OPTIMIZERS, n=1, cutoff=0)[0]
        raise UsageError(
            f"train.optim_g.type: {name!r} is no optimiser of torch.optim; did you mean {nearest}? "
            f"There are {', '.join(OPTIMIZERS)}"
        )
    try:
        return OPTIMIZERS[name](params, lr=lr, **kwargs)
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
