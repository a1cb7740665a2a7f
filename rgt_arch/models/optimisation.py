"""Parts of an optimiser step: micro-batches, optimisers by name, and the guard against non-finite steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.optim import Optimizer

from rgt_arch.config.classes import optimizers
from rgt_arch.config.problems import suggestion
from rgt_arch.errors import UsageError, UserError
from rgt_arch.launchers import gathered

GRAD_NORM = "grad_norm"
GRAD_NORMS = (GRAD_NORM, f"{GRAD_NORM}_d")
"""Names of the norms of the gradients of net_g and net_d."""


def micro_batches(lq: Tensor, gt: Tensor, parts: int) -> Iterable[tuple[Tensor, Tensor, float]]:
    """Split a batch into parts, each with its share of the batch. Sizes differ by at most one image."""
    if parts > len(lq):
        raise UsageError(
            f"train.accumulate: {parts} is more than the {len(lq)} images of a batch; "
            "lower it or raise datasets.train.batch_size_per_gpu"
        )
    for part, target in zip(lq.tensor_split(parts), gt.tensor_split(parts), strict=True):
        yield part, target, len(part) / len(lq)


def loss_weight(criterion: nn.Module, share: float) -> float:
    """Return the factor on a micro-batch's loss that makes the gradients of all micro-batches add up to the batch's.

    BasicSR's losses are means over the batch, or sums with `reduction: sum`. The `fro` criterion of PerceptualLoss is
    a norm over the batch, which cannot be computed from parts: raises UsageError for a share below 1.
    """
    if share < 1 and getattr(criterion, "criterion_type", None) == "fro":
        raise UsageError("train.accumulate cannot split perceptual_opt.criterion: fro (a norm over the batch); use l1")
    return 1.0 if getattr(criterion, "reduction", "mean") == "sum" else share


def add_losses(totals: dict[str, Tensor], losses: Mapping[str, Tensor]) -> None:
    """Add the losses of a micro-batch to those of the batch, in place."""
    for name, loss in losses.items():
        totals[name] = totals[name] + loss.detach() if name in totals else loss.detach()


def build_optimizer(name: str, params: Iterable[nn.Parameter], lr: float, **kwargs: Any) -> Optimizer:
    """Build an optimiser of `optimizers` by name. Raises UsageError for an unknown name or wrong arguments."""
    known = optimizers()
    if name not in known:
        raise UsageError(
            f"train.optim_g.type: {name!r} is not an optimiser of torch.optim, nor Muon; {suggestion(str(name), known)}"
        )
    try:
        return known[name](params, lr=lr, **kwargs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"train.optim_g: {name} refuses its arguments: {error}") from error


class FiniteGuard:
    """Decides which optimiser steps are made, from values that are equal on all ranks."""

    def __init__(self, patience: int) -> None:
        """patience: number of bad steps in a row that ends the run."""
        self.patience = patience
        self.in_a_row = 0
        self.norm = 0.0
        """A norm of gradients that was not finite, of an optimiser that is watched, since the last `norm = 0`."""

    def watch(self, optimizers: Iterable[Optimizer]) -> None:
        """Leave out the steps of optimisers that a model itself calls, if their gradients are not finite."""
        for optimizer in optimizers:
            optimizer.register_step_pre_hook(self._before_step)

    def _before_step(self, optimizer: Optimizer, *_: Any) -> None:
        params = [param for group in optimizer.param_groups for param in group["params"] if param.grad is not None]
        norm = float(nn.utils.get_total_norm([param.grad for param in params]))
        if not math.isfinite(norm):
            self.norm = norm
            for param in params:
                param.grad = None  # the step then changes neither the weights nor the optimiser's state

    def allows(self, iteration: int, values: Mapping[str, float], images: list[str], scale: float, remedy: str) -> bool:
        """Return whether the optimiser may make the step of `iteration`.

        values: losses and GRAD_NORMS. images: names of this rank's images; bad steps gather those of all ranks. scale:
        the loss scale of fp16, else 1; above 1, overflowing gradients are expected, and the scaler lowers it.
        Raises UserError at the last of `patience` bad steps in a row.
        """
        bad = next((name for name, value in values.items() if not math.isfinite(value)), None)
        if bad is None:
            self.in_a_row = 0
            return True
        if bad in GRAD_NORMS and scale > 1:
            return False
        self.in_a_row += 1
        value = "norm of the gradients" if bad in GRAD_NORMS else f"loss {bad}"
        named = ", ".join(chain(*gathered(images)))
        text = f"iteration {iteration}: the {value} is {values[bad]}{f' on {named}' if named else ''}"
        if self.in_a_row >= self.patience:
            raise UserError(
                f"{text}; bad steps in a row: {self.in_a_row} (train.nan_patience); the weights were left as they "
                f"were; {remedy}, look for broken images, and go on from the last saved state with --auto_resume"
            )
        get_root_logger().warning(
            f"{text}; the step is left out ({self.in_a_row} in a row; at {self.patience} the run ends)"
        )
        return False
