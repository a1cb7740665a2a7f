"""Which checkpoints of a run stay on the disk, and what happens where the disk takes no more of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basicsr.utils import get_root_logger

from rgt_arch.basicsr_compat.run_folders import saved_iterations
from rgt_arch.config import logger_settings
from rgt_arch.errors import UserError

FAILURES = 3
"""Saves in a row that may fail; the last one ends the run."""


@dataclass
class Keeper:
    """The checkpoints in a run's `models` and `training_states`."""

    models: Path
    states: Path
    keep: int | None = None
    """`logger.keep_checkpoints`: how many to keep; None is all."""
    best: str | None = None
    """`logger.keep_best`: the metric whose best weights are kept as net_g_best.pth."""
    failures: int = 0
    """Saves that failed since the last that did not."""
    _failed_at: int | None = None

    @classmethod
    def from_options(cls, opt: Mapping[str, Any]) -> Keeper:
        """Read the keys of the option file's `logger` section."""
        logger, path = logger_settings(opt), opt["path"]
        return cls(
            Path(path["models"]),
            Path(path["training_states"]),
            keep=logger.keep_checkpoints,
            best=logger.keep_best,
        )

    def attempt(self, write: Callable[[], None], iteration: int) -> bool:
        """Call `write` and say whether it could; UserError at the third failure in a row.

        A failed save leaves the checkpoints before it, and the next one tries again: a full disk may be emptied.
        """
        try:
            write()
        except UserError as error:
            self.failures += iteration != self._failed_at  # a checkpoint and the best weights are one save
            self._failed_at = iteration
            self._drop_half(iteration)
            newest = next(iter(saved_iterations(self.states)), None)
            kept = "no checkpoint is saved yet" if newest is None else f"the last checkpoint, {newest}, is kept"
            if self.failures >= FAILURES:
                raise UserError(
                    f"{error}; {self.failures} saves in a row failed; {kept}; make room and go on with --auto_resume"
                ) from error
            get_root_logger().error(
                f"iteration {iteration} is not saved: {error}; {kept}; the next save tries again "
                f"({self.failures} of {FAILURES} failures that end the run)"
            )
            return False
        self.failures = 0
        return True

    def prune(self, iteration: int) -> None:
        """Delete the checkpoints before `iteration`, which is saved, but for the newest; later ones are not of it."""
        if self.keep is None:
            return
        flush_folder(self.models)
        flush_folder(self.states)  # or a power cut could bring back the old names and not the new ones
        earlier = [saved for saved in saved_iterations(self.states) if saved <= iteration]
        for old in earlier[self.keep :]:
            # the networks first: a state without them is seen, and deleted, at the next call
            for path in (*self.models.glob(f"net_*_{old}.pth"), self.states / f"{old}.state"):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    def _drop_half(self, iteration: int) -> None:
        """Delete the networks of a save whose state could not be written: nobody can use them, and room is short."""
        if not (self.states / f"{iteration}.state").exists():
            for path in self.models.glob(f"net_*_{iteration}.pth"):
                with contextlib.suppress(OSError):
                    path.unlink()


def flush_folder(folder: Path) -> None:
    """Have the names in a folder written to the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
