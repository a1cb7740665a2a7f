"""Checkpoint manager: writes snapshots of a run atomically, keeps the newest and the best, survives a full disk."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rgt_arch.config.loading import Options
from rgt_arch.config.settings import logger_settings
from rgt_arch.data.pair_pool import pool_state
from rgt_arch.errors import UserError
from rgt_arch.launchers import gathered
from rgt_arch.models.rgt_model import RGTModel
from rgt_arch.torch_files import load_data_only, save_whole
from rgt_arch.training.ranks import on_rank_zero
from rgt_arch.training.run_folder import saved_iterations
from rgt_arch.training.snapshots import Snapshot, digest, generator_states, network_labels

FAILURES = 3
"""Number of failed saves in a row that ends the run."""


class CheckpointManager:
    """Saves a model of any class, with all values that the next step and a resumed run depend on."""

    def __init__(
        self, opt: Options, model: Any, samples_per_iter: int, snapshot: Snapshot | None, logger: logging.Logger
    ):
        """snapshot: the one that the run resumes from, if any."""
        self._opt, self._model, self._samples_per_iter, self._logger = opt, model, samples_per_iter, logger
        self._models, self._states = Path(opt["path"]["models"]), Path(opt["path"]["training_states"])
        self.saved = 0 if snapshot is None else snapshot.iteration
        """The last saved iteration."""
        last = snapshot.state if snapshot is not None and snapshot.in_run else {}
        self._of_save = {key: last[key] for key in ("epoch", "generators", "pools", "networks") if key in last}
        self._failures, self._failed_at = 0, -1

    def save(self, epoch: int, iteration: int, *, owes_validation: bool) -> None:
        """Save the networks and the state after an iteration; all ranks must call it.

        owes_validation: whether the validation of this iteration is still to do; a run resumed from here does it first.
        A failed save keeps the earlier checkpoints, and the next save tries again. Raises UserError at the third
        failure in a row.
        """
        generators, pools = zip(*gathered((generator_states(self._model.device), pool_state(self._model))), strict=True)

        def write() -> None:
            files = {label: self._models / f"net_{label}_{iteration}.pth" for label in network_labels(self._opt)}
            self._save_networks(epoch, iteration, list(files.values()))
            digests = {f"network_{label}": digest(load_data_only(file)) for label, file in files.items()}
            self._of_save = {"epoch": epoch, "generators": [*generators], "pools": [*pools], "networks": digests}
            self._save_state(iteration, owes_validation)

        def save() -> bool:
            if not all(_are_finite(getattr(self._model, f"net_{label}")) for label in network_labels(self._opt)):
                self._logger.error(f"iteration {iteration} is not saved: its weights are not finite")
                return False
            if not self._attempt(write, iteration):
                return False
            self._failures = 0
            self._prune(iteration)
            return True

        if on_rank_zero(save):
            self.saved = iteration

    def save_validation(self, iteration: int) -> None:
        """Add the results of a validation to the state saved just before, and keep the weights if they are the best."""

        def save() -> None:
            self._keep_best(iteration)
            if self.saved == iteration and self._of_save.get("networks"):
                self._attempt(lambda: self._save_state(iteration, owes_validation=False), iteration)

        on_rank_zero(save)

    def save_latest(self, iteration: int) -> None:
        """Save the weights of a finished run as net_g_latest.pth. Raises UserError on failure."""

        def save() -> None:
            if not _are_finite(self._model.net_g):
                raise UserError(
                    "the weights are not finite, so net_g_latest.pth is not saved; resume from an earlier checkpoint"
                )
            self._save_networks(-1, -1, [self._models / "net_g_latest.pth"])
            self._logger.info(f"Saved iteration {iteration} as net_g_latest.pth")

        on_rank_zero(save)

    def _save_networks(self, epoch: int, iteration: int, files: list[Path]) -> None:
        """Write the networks to `files`. Raises UserError if one is not written."""
        if isinstance(self._model, RGTModel):
            self._model.save_networks(iteration)
            return
        # BasicSR's models also write a training state, in whose place `_save_state` writes a fuller one, and they only
        # warn about files that they cannot write.
        before = {file: file.stat().st_mtime_ns for file in files if file.exists()}
        with tempfile.TemporaryDirectory() as elsewhere:
            self._model.opt["path"]["training_states"] = elsewhere
            self._model.save(epoch, iteration)
        for file in files:
            if not file.exists() or file.stat().st_mtime_ns == before.get(file):
                raise UserError(f"{file}: was not written; the warnings above report why")

    def _save_state(self, iteration: int, owes_validation: bool) -> None:
        model = self._model
        state = {
            **self._of_save,
            "iter": iteration,
            "optimizers": [optimizer.state_dict() for optimizer in model.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in model.schedulers],
            **getattr(model, "extra_state", dict)(),
            # as Python numbers: `weights_only` loading refuses NumPy's
            "best_metric_results": json.loads(json.dumps(getattr(model, "best_metric_results", {}), default=float)),
            "seed": self._opt["manual_seed"],
            "samples_per_iter": self._samples_per_iter,
            "owes_validation": owes_validation,
        }
        save_whole(state, self._states / f"{iteration}.state")

    def _keep_best(self, iteration: int) -> None:
        """Save net_g_best.pth if the metric `logger.keep_best` on the first validation set is the best so far."""
        metric = logger_settings(self._opt).keep_best
        first = next((data["name"] for phase, data in self._opt["datasets"].items() if phase.startswith("val")), None)
        best = getattr(self._model, "best_metric_results", {}).get(first, {}).get(metric)
        if best is None or best["iter"] != iteration or not isinstance(self._model, RGTModel):
            return
        if _are_finite(self._model.net_g) and self._attempt(lambda: self._model.save_networks("best"), iteration):
            self._logger.info(f"Saved net_g_best.pth: {metric} {best['val']:.4f} at iteration {iteration}")

    def _attempt(self, write: Callable[[], None], iteration: int) -> bool:
        """Whether `write` succeeds. UserError at the third failure in a row: a full disk may be freed before that."""
        try:
            write()
        except UserError as error:
            self._failures += iteration != self._failed_at  # a checkpoint and the best weights count as one save
            self._failed_at = iteration
            # resuming needs networks and state, and disk space may be short
            if not (self._states / f"{iteration}.state").exists():
                _delete(*self._models.glob(f"net_*_{iteration}.pth"))
            newest = next(iter(saved_iterations(self._states)), None)
            kept = "no checkpoint is saved yet" if newest is None else f"the last checkpoint, {newest}, is kept"
            if self._failures >= FAILURES:
                raise UserError(
                    f"{error}; {self._failures} saves in a row failed; {kept}; make room and go on with --auto_resume"
                ) from error
            self._logger.error(
                f"iteration {iteration} is not saved: {error}; {kept}; the next save tries again "
                f"(failures in a row: {self._failures}; {FAILURES} end the run)"
            )
            return False
        return True

    def _prune(self, iteration: int) -> None:
        """Keep the newest `logger.keep_checkpoints` checkpoints up to `iteration`. Later ones belong to another run."""
        keep = logger_settings(self._opt).keep_checkpoints
        saved = [saved for saved in saved_iterations(self._states) if saved <= iteration]
        for old in [] if keep is None else saved[keep:]:
            # networks first: a state without networks is detected, and deleted at the next call
            _delete(*self._models.glob(f"net_*_{old}.pth"), self._states / f"{old}.state")


def _are_finite(network: nn.Module) -> bool:
    """Whether all parameters are finite."""
    norms = [parameter.detach().abs().amax() for parameter in network.parameters() if parameter.numel()]
    return not norms or bool(torch.stack(norms).isfinite().all())


def _delete(*paths: Path) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
