"""Find, open, verify and restore snapshots: a training state and the networks saved with it.

BasicSR (train.py:68-88) takes any file with the iteration's number: a truncated state, or a network of another run that
does not match the optimiser. PyTorch's zip reader skips the checksums, so that a flipped bit is not detected.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rgt_arch.config.checks.networks import unfit
from rgt_arch.config.classes import find_class, is_known
from rgt_arch.config.loading import Options, value_at
from rgt_arch.data.pair_pool import restore_pool
from rgt_arch.errors import UsageError, UserError
from rgt_arch.torch_files import load_data_only
from rgt_arch.training.ranks import on_rank_zero
from rgt_arch.training.run_folder import belongs_to_run, saved_iterations
from rgt_arch.weights.building import load_weights
from rgt_arch.weights.inspecting import is_derived
from rgt_arch.weights.reading import read_checkpoint

STATE_KEYS = ("epoch", "iter", "optimizers", "schedulers")
_OF_OPTIONS = {"milestones", "gamma", "periods", "cumulative_period", "restarts", "restart_weights", "eta_min"}


@dataclass(frozen=True)
class Snapshot:
    """A saved checkpoint: the training state and, by label ("g"), the contents of the network files."""

    path: Path
    state: Mapping[str, Any]
    networks: Mapping[str, Mapping[str, Any]]
    """{"g": {"params": weights, "params_ema": weights}}."""
    files: Mapping[str, Path]
    """The network files, by label."""
    in_run: bool
    """Whether it belongs to this run, not to another one."""

    @classmethod
    def open(cls, path: Path, opt: Options) -> Snapshot:
        """Read a state and its networks. Raises UserError if one is missing, damaged, or from another save."""
        state = _load(path)
        if not isinstance(state, dict) or any(key not in state for key in STATE_KEYS) or type(state["iter"]) is not int:
            raise UserError(f"{path}: is not a BasicSR training state ({', '.join(STATE_KEYS)}); name a file N.state")
        iteration, digests = state["iter"], state.get("networks") or {}  # states of BasicSR have no digests
        if path.stem.isdigit() and int(path.stem) != iteration:
            raise UserError(f"{path}: holds iteration {iteration}, but its name has another; restore the name")
        beside = path.resolve().parent.parent / "models"
        folder = beside if beside.is_dir() else Path(opt["path"]["models"])
        files = {label: folder / f"net_{label}_{iteration}.pth" for label in network_labels(opt)}
        networks = {
            label: _read_network(file, iteration, digests.get(f"network_{label}")) for label, file in files.items()
        }
        return cls(path, state, networks, files, belongs_to_run(opt, str(path)))

    @property
    def iteration(self) -> int:
        """Iterations done before the save."""
        return int(self.state["iter"])

    @property
    def owes_validation(self) -> bool:
        """Whether the run was killed before the validation of this iteration ended."""
        return self.in_run and bool(self.state.get("owes_validation"))

    def refuse_unfit(self, opt: Options) -> None:
        """Raise UsageError if the networks, optimisers or iteration of the state do not fit the options.

        The number of optimisers of a user-defined model is known only after the model is built.
        """
        own, saved = sum(key.startswith("optim_") for key in opt["train"]), len(self.state["optimizers"])
        if saved != own and is_known(find_class("model", opt.get("model_type"))):
            raise UsageError(f"{self.path}: holds {saved} optimisers, but train has {own}; resume with its own options")
        for label, content in self.networks.items():
            if (problem := unfit(opt, f"network_{label}", content["params"])) is not None:
                raise UsageError(f"{self.files[label]}: {problem}")
        if self.iteration > (total := opt["train"]["total_iter"]):
            raise UsageError(
                f"{self.path}: is of iteration {self.iteration}, and train:total_iter is {total}; raise it, or name an "
                "earlier state"
            )

    def prepare(self, opt: Options, notices: list[str]) -> None:
        """Set the options for a model that `restore` will fill: no pretrained weights, and the run's seed."""
        opt["path"]["resume_state"] = str(self.path)
        for label in self.networks:
            opt["path"][f"pretrain_network_{label}"] = None
        seed, own = self.state.get("seed", opt["manual_seed"]), opt["manual_seed"]
        if opt["seed_is_drawn"]:
            opt["manual_seed"] = seed
        elif seed != own:
            notices.append(f"manual_seed is {own}, but {seed} in the resumed state: the samples will differ")

    def restore(self, model: Any, opt: Options, samples_per_iter: int, logger: logging.Logger) -> None:
        """Restore networks, optimisers, schedulers and best results. Raises UserError for a state that does not fit."""
        for label, content in self.networks.items():
            logger.info(f"Loading network_{label} from {self.files[label]}")
            averaged = getattr(model, f"net_{label}_ema", None)
            try:
                load_weights(model.get_bare_model(getattr(model, f"net_{label}")), content["params"], strict=True)
                if averaged is not None:
                    load_weights(averaged, content.get("params_ema", content["params"]), strict=True)
            except UsageError as error:
                raise UserError(f"{self.files[label]}: {error}; resume with the options it was trained with") from error
        # a run that is made longer has more periods or milestones than the saved one
        schedules = [
            {key: value for key, value in saved.items() if key not in _OF_OPTIONS} for saved in self.state["schedulers"]
        ]
        try:
            model.resume_training({**self.state, "schedulers": schedules})
        except (AssertionError, KeyError, ValueError) as error:
            raise UserError(
                f"path.resume_state: the state of iteration {self.iteration} does not fit train.optim_g and "
                f"train.scheduler ({error}); resume with the options it was trained with"
            ) from error
        pools = self.state.get("pools", ())
        if len(pools) == opt["world_size"]:
            restore_pool(model, pools[opt["rank"]], opt.get("gt_size", value_at(opt, ("datasets", "train", "gt_size"))))
        _restore_best_results(model, self.state.get("best_metric_results") or {})
        logger.info(f"Resuming training from epoch: {self.state['epoch']}, iter: {self.iteration}.")
        self._warn_of_changes(opt, samples_per_iter, logger)

    def _warn_of_changes(self, opt: Options, samples_per_iter: int, logger: logging.Logger) -> None:
        """Warn if learning rate, images per iteration or number of processes differ from those of the saved run."""
        for name, state in zip(("optim_g", "optim_d"), self.state["optimizers"], strict=False):
            asked = opt["train"].get(name, {}).get("lr")
            saved = [group["initial_lr"] for group in state["param_groups"] if "initial_lr" in group]
            if asked is not None and saved and not any(math.isclose(rate, asked) for rate in saved):
                logger.warning(
                    f"The saved schedule goes on from lr {saved[0]:g}; the {asked:g} of the option file is not used; "
                    "to train with it, begin a run of another name from these weights (path:pretrain_network_g)"
                )
        batch, ranks = self.state.get("samples_per_iter", samples_per_iter), len(self.state.get("generators", ()))
        if batch != samples_per_iter:
            logger.warning(
                f"Saved with {batch} images an iteration, continues with {samples_per_iter}: the samples will differ; "
                f"for the same ones set batch_size_per_gpu so that all processes together take {batch}"
            )
        if ranks not in (0, opt["world_size"]):
            logger.warning(f"Saved by {ranks} processes: drop path and degradations draw other numbers from here on")

    def restore_generators(self, opt: Options, device: torch.device) -> None:
        """Restore the random generators; called before the first step, for the numbers of an uninterrupted run."""
        states = self.state.get("generators", ())
        if len(states) == opt["world_size"]:
            restore_generators(states[opt["rank"]], device)


def find_snapshot(opt: Options, *, auto_resume: bool, restart: bool, notices: list[str]) -> Snapshot | None:
    """Return the snapshot to resume from: the newest intact one of this run, or that of `path:resume_state`; else None.

    Rank 0 chooses. Damaged snapshots are skipped with a notice; a damaged `path:resume_state` is replaced by the newest
    intact state in its folder. Raises UsageError or UserError if a snapshot cannot be used.
    """
    chosen: list[Snapshot | None] = [None]

    def choose() -> str | None:
        named, problems = opt["path"].get("resume_state"), list[str]()
        found = _first_whole(_states(Path(opt["path"]["training_states"])), opt, problems) if auto_resume else None
        if found is None and named:
            if not Path(named).is_file():
                raise UsageError(f"path:resume_state = {named}: no such file; give an N.state, or use --auto_resume")
            others = [path for path in _states(Path(named).parent) if path != Path(named)]
            found = _first_whole([Path(named), *others], opt, problems)
            if found is None:
                raise UserError(
                    f"{problems[0]}, and there is no other state beside it; name another one, or drop path:resume_state"
                )
        if problems:
            begins = "nothing is left to resume from, so the run begins again"
            notices.append(f"{'; '.join(problems)}; {f'resuming from {found.path}' if found else begins}")
        if auto_resume and named and found and belongs_to_run(opt, named) and Path(named).stem != found.path.stem:
            notices.append(f"path:resume_state = {named} is not used: --auto_resume takes the newest, {found.path}")
        if restart and found is not None and found.in_run:
            raise UsageError(
                f"--restart would archive the run that path:resume_state = {found.path} belongs to; drop one of the two"
            )
        if found is not None:
            found.refuse_unfit(opt)
        chosen[0] = found
        return None if found is None else str(found.path)

    path = on_rank_zero(choose)
    return Snapshot.open(Path(path), opt) if path is not None and chosen[0] is None else chosen[0]


def _states(folder: Path) -> list[Path]:
    return [folder / f"{iteration}.state" for iteration in saved_iterations(folder)]


def _first_whole(paths: Iterable[Path], opt: Options, problems: list[str]) -> Snapshot | None:
    """The first intact snapshot; the errors of the snapshots before it are added to `problems`."""
    for path in paths:
        try:
            return Snapshot.open(path, opt)
        except UserError as error:
            problems.append(str(error).rpartition(";")[0] or str(error))
    return None


def network_labels(opt: Options) -> list[str]:
    """Return ["g"], or ["g", "d"] with a discriminator: the trained networks that resuming restores."""
    ignored = opt["path"].get("ignore_resume_networks") or ()
    labels = [key.removeprefix("network_") for key in opt if key.startswith("network_") and key not in ignored]
    return [label for label in labels if f"optim_{label}" in opt["train"]]


def finished_iterations(opt: Options) -> int | None:
    """Return the iterations of a finished run, whose latest weights are of the last iteration, else None.

    Files of BasicSR's models do not record the iteration: it is that of the newest state if the file is newer.
    """
    latest = Path(opt["path"]["models"], "net_g_latest.pth")
    try:
        reached = read_checkpoint(latest).iteration
    except UserError:  # a missing or damaged file
        return None
    for state in _states(Path(opt["path"]["training_states"]))[:1]:
        if reached is None and latest.stat().st_mtime >= state.stat().st_mtime:
            reached = int(state.stem)
    return reached if reached and reached >= opt["train"]["total_iter"] else None


def _load(path: Path) -> Any:
    """The content of a PyTorch file. Raises UserError if the file cannot be read or a checksum in it is wrong."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError, RuntimeError):
        damaged = None  # loading reports files that are not zip files
    if damaged is not None:
        raise UserError(f"{path}: is damaged ({damaged} in it has another checksum than when it was saved); delete it")
    return load_data_only(path)


def _read_network(path: Path, iteration: int, expected: str | None) -> dict[str, Any]:
    """The content of a network file. Raises UserError if it has another iteration or, if `expected`, another digest."""
    content = _load(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("params"), Mapping):
        raise UserError(f"{path}: holds no weights of a training; name a network file that training saved")
    saved = (content.get("rgt_info") or {}).get("iteration", iteration)
    if saved != iteration:
        raise UserError(f"{path}: holds iteration {saved}, its training state {iteration}; use files of one save")
    if expected is not None and digest(content) != expected:
        raise UserError(f"{path}: does not hold the weights that were saved with its training state; take both again")
    return dict(content)


def digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a network file's trained tensors: names, types, shapes and values, in order."""
    whole = hashlib.sha256()
    for key, weights in content.items():
        for name, tensor in weights.items() if isinstance(weights, Mapping) else ():
            if isinstance(tensor, Tensor) and not is_derived(name):
                whole.update(f"{key} {name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                if tensor.numel():
                    flat = tensor.detach().cpu().contiguous().flatten()
                    whole.update(flat.view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _restore_best_results(model: Any, stored: Mapping[str, Any]) -> None:
    """Restore the best results for the metrics of the options; new metrics have no best value yet."""
    model.best_metric_results = {}
    for dataset, known in stored.items() if (model.opt.get("val") or {}).get("metrics") else ():
        model._initialize_best_metric_results(dataset)
        for name, best in model.best_metric_results[dataset].items():
            if known.get(name, {}).get("better") == best["better"]:
                best.update(known[name])


def generator_states(device: torch.device) -> dict[str, Any]:
    """Return the states of the global generators of Python, NumPy, PyTorch and the GPU; drop path draws from them.

    They are lists and tensors only, so that a file with them loads with `weights_only`.
    """
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    states: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [[int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(states: Mapping[str, Any], device: torch.device) -> None:
    """Restore the states that `generator_states` returned; a generator without a state stays unchanged."""
    version, words, gauss = states["python"]
    keys, position, has_gauss, cached = states["numpy"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
