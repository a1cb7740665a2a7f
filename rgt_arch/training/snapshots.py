"""Snapshots: a training state and the networks saved with it, found, opened and verified once, and restored.

BasicSR (train.py:68-88) takes whatever carries the iteration's number: a truncated state, or a network of another run
that the optimiser never saw. PyTorch's zip reader skips the checksums, so that a flipped bit goes unnoticed.
"""

from __future__ import annotations

import hashlib
import logging
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rgt_arch.config.checks.networks import unfit
from rgt_arch.config.classes import find_class, is_known
from rgt_arch.errors import UsageError, UserError
from rgt_arch.torch_files import load_data_only
from rgt_arch.training.generators import restore_generators
from rgt_arch.training.ranks import on_rank_zero
from rgt_arch.training.run_folder import belongs_to_run, saved_iterations
from rgt_arch.weights.building import load_weights
from rgt_arch.weights.inspecting import is_derived

Options = dict[str, Any]

STATE_KEYS = ("epoch", "iter", "optimizers", "schedulers")


@dataclass(frozen=True)
class Snapshot:
    """What a save left on the disk: the state and, by label ("g"), the contents of the network files."""

    path: Path
    state: Mapping[str, Any]
    networks: Mapping[str, Mapping[str, Any]]
    """{"g": {"params": weights, "params_ema": weights}}."""
    in_run: bool
    """Whether it belongs to the run that goes on, and not to another one."""

    @classmethod
    def open(cls, path: Path, opt: Options) -> Snapshot:
        """Read a state and its networks. Raises UserError where one is missing, damaged, or not of the same save."""
        state = _read_state(path)
        iteration, digests = state["iter"], state.get("networks")
        if path.stem.isdigit() and int(path.stem) != iteration:
            raise UserError(f"{path}: is of iteration {iteration}, not of that in its name")
        networks = {
            label: _read_network(
                file, iteration, digests.get(f"network_{label}") if isinstance(digests, dict) else None
            )
            for label, file in _network_files(opt, path, iteration).items()
        }
        return cls(path, state, networks, belongs_to_run(opt, str(path)))

    @property
    def iteration(self) -> int:
        """Iterations done when it was saved."""
        return int(self.state["iter"])

    @property
    def owes_validation(self) -> bool:
        """Whether the run was killed before the validation of this iteration had ended."""
        return self.in_run and bool(self.state.get("owes_validation"))

    def refuse_unfit(self, opt: Options) -> None:
        """Raise UsageError for a state of other networks or optimisers than those of the options.

        The number of optimisers of a user's own model is known only after it is built.
        """
        own, saved = sum(key.startswith("optim_") for key in opt["train"]), len(self.state["optimizers"])
        if saved != own and is_known(find_class("model", opt.get("model_type"))):
            raise UsageError(f"{self.path}: is of {saved} optimisers, and train has {own}; resume with its own options")
        for label, content in self.networks.items():
            if (problem := unfit(opt, f"network_{label}", content["params"])) is not None:
                raise UsageError(f"{_network_files(opt, self.path, self.iteration)[label]}: {problem}")

    def prepare(self, opt: Options, notices: list[str]) -> None:
        """Set the options for a model that `restore` will fill: no weights to start from, and the run's seed."""
        opt["path"]["resume_state"] = str(self.path)
        for label in self.networks:
            opt["path"][f"pretrain_network_{label}"] = None
        seed = self.state.get("seed")
        if type(seed) is not int or seed == opt["manual_seed"]:
            return
        if opt["seed_is_drawn"]:
            opt["manual_seed"] = seed
        else:
            notices.append(
                f"manual_seed: is {opt['manual_seed']}, and {seed} in the state resumed from: other samples follow"
            )

    def restore(self, model: Any, opt: Options, samples_per_iter: int, logger: logging.Logger) -> None:
        """Put networks, optimisers, schedules and best results back. Raises UserError for a state that does not fit."""
        for label, content in self.networks.items():
            file = _network_files(opt, self.path, self.iteration)[label]
            logger.info(f"Loading network_{label} from {file}")
            averaged = getattr(model, f"net_{label}_ema", None)
            try:
                load_weights(model.get_bare_model(getattr(model, f"net_{label}")), content["params"], strict=True)
                if averaged is not None:
                    load_weights(averaged, content.get("params_ema", content["params"]), strict=True)
            except UsageError as error:
                raise UserError(f"{file}: {error}; resume with the options it was trained with") from error
        try:
            model.resume_training(self.state)
        except (AssertionError, KeyError, ValueError) as error:
            raise UserError(
                f"path.resume_state: the state of iteration {self.iteration} does not fit train.optim_g and "
                f"train.scheduler ({error}); resume with the options it was trained with"
            ) from error
        model.best_metric_results = _best_results(self.state.get("best_metric_results"), opt)
        logger.info(f"Resuming training from epoch: {self.state['epoch']}, iter: {self.iteration}.")
        self._warn_of_changes(opt, samples_per_iter, logger)

    def _warn_of_changes(self, opt: Options, samples_per_iter: int, logger: logging.Logger) -> None:
        """Warn where the option file asks for something else than the saved run goes on with."""
        for index, state in enumerate(self.state["optimizers"]):
            asked = opt["train"].get(("optim_g", "optim_d")[min(index, 1)], {}).get("lr")
            saved = [group["initial_lr"] for group in state["param_groups"] if "initial_lr" in group]
            if asked is not None and saved and not any(math.isclose(rate, asked) for rate in saved):
                logger.warning(
                    f"The saved schedule goes on from lr {saved[0]:g}; the {asked:g} of the option file is not used; "
                    "to train with it, begin a run of another name from these weights (path:pretrain_network_g)"
                )
        batch = self.state.get("samples_per_iter")
        if batch and batch != samples_per_iter:
            logger.warning(
                f"Saved with {batch} images an iteration, goes on with {samples_per_iter}: other samples follow; "
                f"for the same ones set batch_size_per_gpu so that all processes together take {batch}"
            )
        ranks = len(self.state.get("generators", ()))
        if ranks not in (0, opt["world_size"]):
            logger.warning(f"Saved by {ranks} processes: drop path draws other numbers from here on")

    def restore_generators(self, opt: Options, device: torch.device) -> None:
        """Before the first step: the random numbers of a run that was not broken."""
        states = self.state.get("generators", ())
        if len(states) != opt["world_size"]:
            return
        try:
            restore_generators(states[opt["rank"]], device)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"path.resume_state: the random generators in the state of iteration {self.iteration} cannot be "
                f"restored ({error}); resume from another state"
            ) from error


def find_snapshot(opt: Options, *, auto_resume: bool, restart: bool, notices: list[str]) -> Snapshot | None:
    """The snapshot to go on from: the newest whole one of this run, or what `path:resume_state` names; None to begin.

    Rank 0 chooses. Damaged ones are passed over with a notice. Raises UsageError or UserError for a named one that
    cannot be used.
    """
    chosen: list[Snapshot | None] = [None]

    def choose() -> str | None:
        chosen[0] = found = _choose(opt, auto_resume, notices)
        if restart and found is not None and found.in_run:
            raise UsageError(
                f"--restart would archive the run that path:resume_state = {found.path} belongs to; drop one of the two"
            )
        if found is not None:
            found.refuse_unfit(opt)
            if found.iteration > opt["train"]["total_iter"]:
                raise UsageError(
                    f"{found.path}: is of iteration {found.iteration}, and train:total_iter is "
                    f"{opt['train']['total_iter']}; raise it, or name an earlier state"
                )
        return None if found is None else str(found.path)

    path = on_rank_zero(choose)
    return Snapshot.open(Path(path), opt) if path is not None and chosen[0] is None else chosen[0]


def _choose(opt: Options, auto_resume: bool, notices: list[str]) -> Snapshot | None:
    named = opt["path"].get("resume_state")
    found = _newest_whole(opt, Path(opt["path"]["training_states"]), notices) if auto_resume else None
    return _named(opt, Path(named), notices) if found is None and named else found


def _named(opt: Options, path: Path, notices: list[str]) -> Snapshot:
    """The snapshot of a state, or the newest whole one beside it when that one is damaged."""
    if not path.is_file():
        raise UsageError(f"path:resume_state = {path}: no such file; give a file N.state, or use --auto_resume")
    try:
        return Snapshot.open(path, opt)
    except UserError as error:
        problem = _without_remedy(error)
    found = _newest_whole(opt, path.parent, [], leave_out=path.name)
    if found is None:
        raise UserError(
            f"{problem}, and there is no other state beside it; name another one, or drop path:resume_state"
        )
    notices.append(f"{problem}; resuming from {found.path}")
    return found


def _newest_whole(opt: Options, folder: Path, notices: list[str], leave_out: str = "") -> Snapshot | None:
    problems: list[str] = []
    for iteration in saved_iterations(folder):
        path = folder / f"{iteration}.state"
        if path.name == leave_out:
            continue
        try:
            found = Snapshot.open(path, opt)
        except UserError as error:
            problems.append(_without_remedy(error))
            continue
        if problems:
            notices.append(f"{'; '.join(problems)}; resuming from {path}")
        return found
    if problems:
        notices.append(f"{'; '.join(problems)}; nothing is left to resume from, so the run begins again")
    return None


def _without_remedy(error: UserError) -> str:
    return str(error).rpartition(";")[0] or str(error)


def network_labels(opt: Options) -> list[str]:
    """["g"], or ["g", "d"] with a discriminator: the networks that are trained, and that resuming restores."""
    ignored = opt["path"].get("ignore_resume_networks") or ()
    labels = [key.removeprefix("network_") for key in opt if key.startswith("network_") and key not in ignored]
    return [label for label in labels if f"optim_{label}" in opt["train"]]


def finished_iterations(opt: Options) -> int | None:
    """How many iterations the run of this name did, where nothing is left to do for it, else None.

    A run is finished when its latest weights are of the last iteration. Files of BasicSR do not record theirs: they are
    if they were written after a state of it. A version of this package that wrote them before the last validation
    recorded in the state that it is owed.
    """
    latest, states = Path(opt["path"]["models"], "net_g_latest.pth"), Path(opt["path"]["training_states"])
    newest = next(iter(saved_iterations(states)), None)
    state = None if newest is None else states / f"{newest}.state"
    try:
        info = load_data_only(latest).get("rgt_info")
        if state is not None and load_data_only(state).get("owes_validation"):
            return None
    except (UserError, AttributeError):  # a missing or damaged file
        return None
    if isinstance(info, Mapping):
        reached = int(info.get("iteration", 0))
    else:
        reached = newest if newest and state and latest.stat().st_mtime >= state.stat().st_mtime else 0
    return reached if reached >= opt["train"]["total_iter"] else None


def _network_files(opt: Options, state: Path, iteration: int) -> dict[str, Path]:
    """The weights saved together with `state`, by label."""
    beside = state.resolve().parent.parent / "models"
    folder = beside if beside.is_dir() else Path(opt["path"]["models"])
    return {label: folder / f"net_{label}_{iteration}.pth" for label in network_labels(opt)}


def _read_state(path: Path) -> dict[str, Any]:
    _check_sums(path)
    state = load_data_only(path)
    if not isinstance(state, dict) or any(key not in state for key in STATE_KEYS) or type(state["iter"]) is not int:
        raise UserError(f"{path}: no BasicSR training state (it needs {', '.join(STATE_KEYS)}); take a file N.state")
    return state


def _read_network(path: Path, iteration: int, expected: str | None) -> dict[str, Any]:
    """The content of a network file of `iteration` with the weights of the digest `expected`.

    expected: from the training state; None in states of BasicSR, which hold none.
    """
    _check_sums(path)
    content = load_data_only(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("params"), Mapping):
        raise UserError(f"{path}: no weights of a training are in it; take a file that training saved")
    info = content.get("rgt_info")
    saved = info.get("iteration", iteration) if isinstance(info, Mapping) else iteration
    if saved != iteration:
        raise UserError(f"{path}: is of iteration {saved}, its training state of {iteration}; take files of one save")
    if expected is not None and digest(content) != expected:
        raise UserError(f"{path}: does not hold the weights that were saved with its training state; take both again")
    return dict(content)


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of the trained tensors in a network file's content: names, types, shapes and values, in order."""
    whole = hashlib.sha256()
    for key, weights in content.items():
        for name, tensor in weights.items() if isinstance(weights, Mapping) else ():
            if isinstance(tensor, Tensor) and not is_derived(name):
                whole.update(f"{key} {name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                if tensor.numel():
                    flat = tensor.detach().cpu().contiguous().flatten()
                    whole.update(flat.view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _check_sums(path: Path) -> None:
    """Raise UserError where a checksum inside a PyTorch file is wrong; loading reports what is not a zip file."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError, RuntimeError):
        return
    if damaged is not None:
        raise UserError(f"{path}: is damaged ({damaged} in it has another checksum than when it was saved); delete it")


def _best_results(stored: Any, opt: Options) -> dict[str, dict[str, dict[str, Any]]]:
    """The best metrics of a training state, for the metrics of the options; entries of another form are left out."""
    best: dict[str, dict[str, dict[str, Any]]] = {}
    for dataset, record in stored.items() if isinstance(stored, Mapping) else ():
        best[dataset] = {}
        for metric, metric_opt in ((opt.get("val") or {}).get("metrics") or {}).items():
            better = metric_opt.get("better", "higher")
            known: Any = record.get(metric) if isinstance(record, Mapping) else None
            is_result = isinstance(known, Mapping) and {"better", "val", "iter"} <= known.keys()
            best[dataset][metric] = {"better": better, "val": -math.inf if better == "higher" else math.inf, "iter": -1}
            if is_result and known["better"] == better and not math.isnan(known["val"]):
                best[dataset][metric] = dict(known)
    return best
