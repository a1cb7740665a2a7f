"""Parts of an optimiser step: micro-batches, optimisers by name, and the guard against steps that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.optim import Optimizer

from rgt_arch.config.classes import optimizers
from rgt_arch.config.problems import suggestion
from rgt_arch.errors import UsageError, UserError

GRAD_NORM = "grad_norm"


def micro_batches(lq: Tensor, gt: Tensor, parts: int) -> Iterable[tuple[Tensor, Tensor, float]]:
    """Parts of a batch with their share of it; where it does not divide, sizes differ by one image."""
    if parts > len(lq):
        raise UsageError(
            f"train.accumulate: {parts} is more than the {len(lq)} images of a batch; "
            "lower it or raise datasets.train.batch_size_per_gpu"
        )
    for part, target in zip(lq.tensor_split(parts), gt.tensor_split(parts), strict=True):
        yield part, target, len(part) / len(lq)


def loss_weight(criterion: nn.Module, share: float) -> float:
    """Factor on a micro-batch's loss that makes the gradients of all micro-batches add up to the whole batch's.

    BasicSR's losses are means over the batch, or sums with `reduction: sum`. The `fro` criterion of PerceptualLoss is
    a norm over the batch, which cannot be put together from parts: UsageError for a share below 1.
    """
    if share < 1 and getattr(criterion, "criterion_type", None) == "fro":
        raise UsageError("train.accumulate cannot split perceptual_opt.criterion: fro (a norm over the batch); use l1")
    return 1.0 if getattr(criterion, "reduction", "mean") == "sum" else share


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


class FiniteGuard:
    """Decides which steps are made, from values that are the same on all ranks."""

    def __init__(self, patience: int) -> None:
        """patience: bad steps in a row that end the run."""
        self.patience = patience
        self.in_a_row = 0

    def allows(
        self, iteration: int, values: Mapping[str, float], images: Callable[[], str], scale: float, remedy: str
    ) -> bool:
        """Whether the optimiser may make the step of `iteration`.

        values: losses and GRAD_NORM. images: names those of the batch, and is called for bad steps only. scale: the
        loss scale of fp16, else 1; while it is above 1 the scaler lowers it, and overflowing gradients are expected.
        Raises UserError at the last of `patience` bad steps in a row.
        """
        bad = next((name for name, value in values.items() if not math.isfinite(value)), None)
        if bad is None:
            self.in_a_row = 0
            return True
        if bad == GRAD_NORM and scale > 1:
            return False
        self.in_a_row += 1
        value = "norm of the gradients" if bad == GRAD_NORM else f"loss {bad}"
        named = images()
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
