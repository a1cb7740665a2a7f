"""Make the option dict of BasicSR's builders and models from the flags of `basicsr train|test`.

The file is read once, checked as a whole before anything is created, and completed as BasicSR's `parse_options` does
(utils/options.py:83-178).
"""

from __future__ import annotations

import copy
import importlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rgt_arch.config.loading import Options, read_written
from rgt_arch.config.overrides import apply_overrides
from rgt_arch.data.inspect.targets import validate_options
from rgt_arch.errors import UsageError
from rgt_arch.training import ranks
from rgt_arch.weights.zoo import resolve_path


@dataclass
class Flags:
    """The flags of `basicsr train` and `basicsr test`."""

    opt: str
    """The option file."""
    launcher: str = "none"
    auto_resume: bool = False
    restart: bool = False
    debug: bool = False
    force_yml: Sequence[str] = ()
    modules: Sequence[str] = ()
    """The user's own modules to import (`--import`)."""


def read_options(flags: Flags, root: str, notices: list[str], *, is_train: bool) -> Options:
    """Return the checked and completed options of a run; join the other ranks and seed the random generators.

    root: the folder of experiments/ and results/. notices: gets the warnings. Raises UsageError with all errors of the
    option file.
    """
    for module in flags.modules:  # first: the options may name their classes
        try:
            importlib.import_module(module)
        except Exception as error:  # a user's module can raise anything
            raise UsageError(
                f"--import {module}: {type(error).__name__}: {error}; it must be importable from the current directory"
            ) from error
    written = read_written(flags.opt)
    opt: Options = copy.deepcopy(written.options)  # the checks compare both
    written = written._replace(overridden=apply_overrides(opt, flags.force_yml))
    wanted = opt.get("num_gpu")
    if flags.launcher != "none" and isinstance(wanted, int) and wanted > 1 and torch.cuda.is_available():
        opt["num_gpu"] = 1  # the file counts the GPUs of all machines; each process takes one
    resume_root = root if flags.auto_resume else None
    notices += validate_options(
        opt, file=flags.opt, is_train=is_train, root=os.getcwd(), resume_root=resume_root, written=written
    )
    if flags.launcher != "none":
        ranks.init_dist(flags.launcher, cpu=opt["num_gpu"] == 0, **(opt.get("dist_params") or {}))
    _complete(opt, flags, root, is_train)
    return opt


def resolve_weights(opt: Options) -> None:
    """Replace names of weights in `path` by their files, downloaded at first use, which models of all classes load."""
    for key, value in opt["path"].items():
        if key.startswith("pretrain_network") and value is not None:
            opt["path"][key] = str(resolve_path(value))


def _complete(opt: Options, flags: Flags, root: str, is_train: bool) -> None:
    """Add what BasicSR's parse_options adds: ranks, seed, phases, scales and paths."""
    from basicsr.utils import set_random_seed
    from basicsr.utils.dist_util import get_dist_info

    opt["dist"] = flags.launcher != "none"
    opt["rank"], opt["world_size"] = get_dist_info()
    opt["seed_is_drawn"] = opt.get("manual_seed") is None
    if opt["seed_is_drawn"]:
        opt["manual_seed"] = ranks.on_rank_zero(lambda: random.randint(1, 10000))
    set_random_seed(opt["manual_seed"] + opt["rank"])
    opt["is_train"], opt["auto_resume"], opt["root_path"] = is_train, flags.auto_resume, root
    if flags.debug and not opt["name"].startswith("debug"):
        opt["name"] = f"debug_{opt['name']}"
    for phase, dataset in opt["datasets"].items():
        dataset["phase"] = phase.split("_")[0]
        if "scale" in opt:
            dataset["scale"] = opt["scale"]
        for key in ("dataroot_gt", "dataroot_lq"):
            if dataset.get(key) is not None:
                dataset[key] = os.path.expanduser(dataset[key])
    for key, value in opt["path"].items():
        if value is not None and ("resume_state" in key or "pretrain_network" in key):
            opt["path"][key] = os.path.expanduser(value)
    folder, other = ("experiments", "results") if is_train else ("results", "experiments")
    opt["path"].pop(f"{other}_root", None)
    run = Path(opt["path"].get(f"{folder}_root") or Path(root, folder, opt["name"])).expanduser()
    opt["path"][f"{folder}_root"] = str(run)
    opt["path"].update(log=str(run), visualization=str(run / "visualization"))
    if is_train:
        opt["path"].update(models=str(run / "models"), training_states=str(run / "training_states"))
    if is_train and "debug" in opt["name"]:
        if opt.get("val"):
            opt["val"]["val_freq"] = 8
        opt["logger"].update(print_freq=1, save_checkpoint_freq=8)
