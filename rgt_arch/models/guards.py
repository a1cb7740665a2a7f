"""Skip and report steps whose loss or gradient is not finite; end the run after `patience` of them in a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from basicsr.utils import get_root_logger

from rgt_arch.errors import UserError

GRAD_NORM = "grad_norm"


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

        values: losses and GRAD_NORM. images: names those of the batch, and is called for steps that are left out.
        scale: the loss scale of fp16, else 1; while it is above 1 the scaler lowers it, and overflowing gradients are
        its ordinary business. Raises UserError at the last of `patience` bad steps in a row.
        """
        bad = next((name for name, value in values.items() if not math.isfinite(value)), None)
        if bad is None:
            self.in_a_row = 0
            return True
        if bad == GRAD_NORM and scale > 1:
            return False
        self.in_a_row += 1
        what = "norm of the gradients" if bad == GRAD_NORM else f"loss {bad}"
        named = images()
        said = f"iteration {iteration}: the {what} is {values[bad]}{f' on {named}' if named else ''}"
        if self.in_a_row >= self.patience:
            raise UserError(
                f"{said}; bad steps in a row: {self.in_a_row} (train.nan_patience); the weights were left as they "
                f"were; {remedy}, look for broken images, and go on from the last saved state with --auto_resume"
            )
        get_root_logger().warning(
            f"{said}; the step is left out ({self.in_a_row} in a row; at {self.patience} the run ends)"
        )
        return False
