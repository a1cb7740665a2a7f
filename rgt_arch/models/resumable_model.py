"""What a model leaves on the disk and goes on from exactly: networks and training states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from os import path as osp
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from torch import nn

from rgt_arch.basicsr_compat import checkpoint_pairs
from rgt_arch.config import train_settings
from rgt_arch.errors import UserError
from rgt_arch.models.checkpoints import (
    are_finite,
    load_file_weights,
    network_content,
    plain_metrics,
    read_best_metrics,
)
from rgt_arch.models.generators import generator_states, restore_generators
from rgt_arch.models.guards import FiniteGuard
from rgt_arch.models.saving import Keeper
from rgt_arch.torch_files import save_whole
from rgt_arch.weights import read_checkpoint
from rgt_arch.weights.building import resolve_path


class ResumableModel(SRModel):
    """SRModel whose training states hold all that the next step depends on, and whose files are whole or not there."""

    scaler: torch.amp.GradScaler

    def __init__(self, opt: dict[str, Any]) -> None:
        """Build the model; reads `train.nan_patience`, `logger.keep_checkpoints` and `logger.keep_best`."""
        self.iteration = 0
        """Iterations done so far, those before a resume included."""
        self.best_metric_results: dict[str, dict[str, dict[str, Any]]] = {}
        self.owes_validation = False
        """Whether the state resumed from was saved before a validation of its iteration that did not end."""
        self.validated: dict[str, tuple[int | str, bool, dict[str, float]]] = {}
        """By data set, the results of the weights as they are: iteration, whether images were saved, metrics."""
        self._saved_state: tuple[int, int] | None = None
        self._epoch = 0  # of the newest save, or of the state resumed from
        self._digests: dict[str, tuple[int, str]] = {}  # by network: iteration of the newest file, its digest
        self._generators: tuple[int, list[Any]] | None = None  # iteration, and what each rank's were after it
        self._to_restore: Mapping[str, Any] | None = None
        if opt["is_train"]:
            self.guard = FiniteGuard(train_settings(opt).nan_patience)
        super().__init__(opt)

    @cached_property
    def keeper(self) -> Keeper:
        """Needs the folders of a run, which a model that only makes steps is built without."""
        return Keeper.from_options(self.opt)

    # --- best results ---

    def _initialize_best_metric_results(self, dataset_name: str) -> None:
        """As BaseModel, but a resumed record may be of other metrics than the options have now."""
        known = self.best_metric_results.pop(dataset_name, {})
        super()._initialize_best_metric_results(dataset_name)
        record = self.best_metric_results[dataset_name]
        record.update({m: best for m, best in known.items() if m in record and record[m]["better"] == best["better"]})

    def record_validation(self, dataset_name: str, current_iter: int) -> None:
        """Keep the weights where they are the best so far, and add the results to the state saved just before."""
        if self.keeper.best and dataset_name == next(iter(self._validation_sets()), None):
            self._keep_best(dataset_name, self.keeper.best)
        if self._saved_state and self._saved_state[1] == current_iter:  # BasicSR saves before it validates
            epoch = self._saved_state[0]
            self.keeper.attempt(lambda: self.save_training_state(epoch, current_iter), current_iter)

    def _validation_sets(self) -> list[str]:
        """Names of the data sets that training validates on, in the order of the option file."""
        datasets = self.opt.get("datasets") or {}
        return [data["name"] for phase, data in datasets.items() if phase.split("_")[0] == "val"]

    def _is_validation_due(self, iteration: int) -> bool:
        """Whether BasicSR's loop validates after an iteration (train.py:184 and :203), and has not done so yet."""
        val, names = self.opt.get("val"), self._validation_sets()
        if not val or all(name in self.validated for name in names):
            return False
        return iteration % val.get("val_freq", 1) == 0 or iteration >= self.opt["train"]["total_iter"]

    def _keep_best(self, dataset_name: str, metric: str) -> None:
        best = self.best_metric_results.get(dataset_name, {}).get(metric)
        if best is None or best["iter"] != self.iteration or not are_finite(self.net_g):
            return
        if self.keeper.attempt(lambda: self._save_networks("best"), self.iteration):
            get_root_logger().info(f"Saved net_g_best.pth: {metric} {best['val']:.4f} at iteration {self.iteration}")

    # --- files ---

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Load weights of any published layout without running code from the file; UserError where they do not fit.

        `load_path` may be a name that `rgt weights` lists; what is not here yet is downloaded.
        `param_key` None takes the average where there is one, but what was trained where training resumes.
        With `strict` false, what differs is listed and left out; an EMA network then starts from the network's values.
        """
        net, logger = self.get_bare_model(net), get_root_logger()
        checkpoint = read_checkpoint(resolve_path(load_path))
        if param_key is None and self.is_train and self.opt["path"].get("resume_state"):
            param_key = "params"  # training goes on with what the optimiser trained, not with its average
        used = checkpoint.resolve_key(param_key)
        if param_key is not None and used != param_key:
            logger.info(f"Loading: {param_key} does not exist, use {used or 'the state dict that the file is'}.")
        logger.info(f"Loading {type(net).__name__} model from {load_path}, with param key: [{used or None}].")
        weights = checkpoint.state_dict(used)
        if not strict:
            self._print_different_keys_loading(net, weights, strict)
            if net is getattr(self, "net_g_ema", None):
                self.model_ema(0)  # what the file does not have was initialised apart from net_g
        load_file_weights(net, weights, load_path, strict)
        self.validated.clear()

    @master_only
    def save_network(
        self,
        net: nn.Module | list[nn.Module],
        net_label: str,
        current_iter: int | str,
        param_key: str | list[str] = "params",
    ) -> None:
        """BasicSR's file, with `rgt_info` and `rgt_config`, whole or not at all."""
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        networks = {key: self.get_bare_model(net_) for key, net_ in zip(keys, nets, strict=True)}
        content = network_content(networks, self.iteration)
        if isinstance(current_iter, int) and current_iter != -1:
            key = f"network_{net_label.removeprefix('net_')}"
            self._digests[key] = (current_iter, checkpoint_pairs.digest(content))
        name = "latest" if current_iter == -1 else current_iter
        save_whole(content, osp.join(self.opt["path"]["models"], f"{net_label}_{name}.pth"))

    def _save_networks(self, current_iter: int | str) -> None:
        if hasattr(self, "net_g_ema"):
            nets, keys = [self.net_g, self.net_g_ema], ["params", "params_ema"]
            self.save_network(nets, "net_g", current_iter, param_key=keys)
        else:
            self.save_network(self.net_g, "net_g", current_iter)

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """BasicSR's training state, whole or not at all, plus all that the next step and a resumed run depend on.

        All ranks must call it: each has random generators of its own.
        """
        if current_iter == -1:
            return
        generators = self._generators_after(current_iter)
        if self.opt["rank"] == 0:
            state = {
                "epoch": epoch,
                "iter": current_iter,
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
                "scaler": self.scaler.state_dict(),
                "best_metric_results": plain_metrics(self.best_metric_results),
                "generators": generators,
                "seed": self.opt.get("manual_seed"),
                "samples_per_iter": self.opt.get("samples_per_iter"),
                "networks": {name: of for name, (saved, of) in self._digests.items() if saved == current_iter},
                "bad_steps": self.guard.in_a_row,
                "owes_validation": self._is_validation_due(current_iter),
            }
            save_whole(state, osp.join(self.opt["path"]["training_states"], f"{current_iter}.state"))
        self._saved_state = (epoch, current_iter)

    def save(self, epoch: int, current_iter: int) -> bool:
        """Save the networks and the training state; -1 stands for the latest, of which only the networks are saved.

        The latest have a checkpoint of their iteration before them, from which a run killed in its last validation goes
        on with that; the loop calls their epoch -1, so it is given that of the save before. Returns whether it could.
        UserError for the latest, and where three saves in a row failed.
        """
        if not are_finite(self.net_g):
            if current_iter == -1:
                raise UserError("the weights are not finite: the latest are not saved; go on from an earlier state")
            get_root_logger().error(f"iteration {current_iter} is not saved: its weights are not finite")
            return False
        if current_iter == -1:
            if self.iteration and (self._saved_state is None or self._saved_state[1] != self.iteration):
                self.save(max(epoch, self._epoch), self.iteration)
            self._save_networks(-1)
            get_root_logger().info(f"Saved iteration {self.iteration} as net_g_latest.pth")
            return True
        self._epoch = epoch
        self._generators_after(current_iter)  # on all ranks, before the one that writes may fail
        if not self.keeper.attempt(lambda: self._save_pair(epoch, current_iter), current_iter):
            return False
        if self.opt["rank"] == 0:
            self.keeper.prune(current_iter)
        return True

    def _save_pair(self, epoch: int, current_iter: int) -> None:
        self._save_networks(current_iter)
        self.save_training_state(epoch, current_iter)

    def _generators_after(self, iteration: int) -> list[Any]:
        """The random generators of all ranks after an iteration."""
        if self._generators is None or self._generators[0] != iteration:
            states: list[Any] = [generator_states(self.device)]
            if self.opt["dist"]:
                states = [None] * self.opt["world_size"]
                torch.distributed.all_gather_object(states, generator_states(self.device))
            self._generators = (iteration, states)
        return self._generators[1]

    def restore_generators(self) -> None:
        """Before the first step after a resume: the random numbers of a run that was not broken."""
        if self._to_restore is None:
            return
        try:
            restore_generators(self._to_restore, self.device)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"path.resume_state: the random generators in the state of iteration {self.iteration} cannot be "
                f"restored ({error}); resume from another state"
            ) from error
        self._to_restore = None

    def _tell_changed_rate(self, resume_state: Mapping[str, Any]) -> None:
        """Warn where the option file asks for a learning rate that is not the saved schedule's, which goes on."""
        for index, state in enumerate(resume_state["optimizers"]):
            asked = self.opt["train"].get(("optim_g", "optim_d")[min(index, 1)], {}).get("lr")
            saved = [group["initial_lr"] for group in state["param_groups"] if "initial_lr" in group]
            if asked is not None and saved and not any(math.isclose(rate, asked) for rate in saved):
                get_root_logger().warning(
                    f"The saved schedule goes on from lr {saved[0]:g}; the {asked:g} of the option file is not used; "
                    "to train with it, begin a run of another name from these weights (path:pretrain_network_g)"
                )

    def resume_training(self, resume_state: Mapping[str, Any]) -> None:
        """Restore what `save_training_state` wrote; official and BasicSR files, which hold less, work too."""
        try:
            super().resume_training(resume_state)
        except (AssertionError, KeyError, ValueError) as error:
            raise UserError(
                f"path.resume_state: the state of iteration {resume_state.get('iter')} does not fit train.optim_g and "
                f"train.scheduler ({error}); resume with the options it was trained with"
            ) from error
        self.iteration, self._epoch = int(resume_state["iter"]), int(resume_state["epoch"])
        if self.scaler.is_enabled() and resume_state.get("scaler"):
            self.scaler.load_state_dict(resume_state["scaler"])
        self.best_metric_results = read_best_metrics(resume_state.get("best_metric_results"))
        self.guard.in_a_row = int(resume_state.get("bad_steps", 0))
        self._digests = {name: (self.iteration, of) for name, of in resume_state.get("networks", {}).items()}
        states = resume_state.get("generators", [])
        if len(states) == self.opt["world_size"]:
            self._generators, self._to_restore = (self.iteration, states), states[self.opt["rank"]]
        elif states:
            get_root_logger().warning(f"Saved by {len(states)} processes: drop path draws other numbers from here on")
        self._tell_changed_rate(resume_state)
        batch, now = resume_state.get("samples_per_iter"), self.opt.get("samples_per_iter")
        if batch and now and batch != now:
            get_root_logger().warning(
                f"Saved with {batch} images an iteration, goes on with {now}: other samples follow; "
                f"for the same ones set batch_size_per_gpu so that all processes together take {batch}"
            )
        if osp.exists(osp.join(self.opt["path"]["training_states"], f"{self.iteration}.state")):
            self.owes_validation = bool(resume_state.get("owes_validation"))
            self._saved_state = (int(resume_state["epoch"]), self.iteration)
