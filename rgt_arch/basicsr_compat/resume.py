"""Resuming: the newest complete checkpoint of the run, on CPUs and GPUs, without executing code.

Where: basicsr/train.py:68-88. What goes wrong: resuming asks for the current CUDA device; `--auto_resume` looks under
the current directory whatever the root is, and trusts the newest state even if it is truncated or its network was
never written; the network is looked for in this run's folder even when the state belongs to another's, and folders
are not created then. Delete it once BasicSR checks what it resumes from and loads it onto the CPU.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any, NoReturn

from rgt_arch.basicsr_compat import run_folders
from rgt_arch.basicsr_compat.distributed import on_rank_zero
from rgt_arch.basicsr_compat.notices import notice
from rgt_arch.errors import UsageError, UserError
from rgt_arch.torch_files import load_data_only

Options = dict[str, Any]

STATE_KEYS = ("epoch", "iter", "optimizers", "schedulers")


def load_resume_state(opt: Options) -> dict[str, Any] | None:
    """The training state to continue from, on the CPU, or None to begin; sets `opt["start_iter"]` and
    `opt["start_epoch"]`.

    Rank 0 chooses for all ranks. With `auto_resume` a run that has done all its iterations is left as it is:
    SystemExit(0).
    """
    opt["start_iter"] = opt["start_epoch"] = 0
    path = on_rank_zero(lambda: _choose(opt))
    if path is None:
        return None
    state = read_state(path)
    if opt["auto_resume"] and state["iter"] >= int(opt["train"]["total_iter"]):
        _stop_finished(opt, state["iter"])
    opt["start_iter"], opt["start_epoch"] = state["iter"], state["epoch"]
    opt["path"]["resume_state"] = path
    _point_networks_at(opt, path, state["iter"])
    return state


def read_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a training state. Raises UserError for a file that is damaged or none of BasicSR's states."""
    state = load_data_only(path)
    if not isinstance(state, dict) or any(key not in state for key in STATE_KEYS):
        raise UserError(f"{path}: no BasicSR training state (it needs {', '.join(STATE_KEYS)}); take a file N.state")
    return state


def _choose(opt: Options) -> str | None:
    """Path of the state to resume from: the newest complete one of this run, or what `path: resume_state` names."""
    named = opt["path"].get("resume_state")
    found = None
    if opt["auto_resume"]:
        found = _newest_complete(opt, Path(opt["path"]["training_states"]))
    if found is None and named:
        found = _named(opt, Path(named))
    if opt.get("restart") and run_folders.belongs_to_run(opt, found):
        raise UsageError(
            f"--restart would archive the run that path:resume_state = {found} belongs to; drop one of the two"
        )
    if found and opt["is_train"]:
        run_folders.create({key: opt["path"][key] for key in run_folders.FOLDER_KEYS if key in opt["path"]})
    return found


def _named(opt: Options, path: Path) -> str:
    """The state `path`, or the newest complete one beside it when that one is damaged."""
    if not path.is_file():
        raise UsageError(f"path:resume_state = {path}: no such file; give a file N.state, or use --auto_resume")
    problem = _problem(opt, path)
    if problem is None:
        return str(path)
    found = _newest_complete(opt, path.parent, leave_out=path.name)
    if found is None:
        raise UserError(
            f"{problem}, and there is no other state beside it; name another one, or drop path:resume_state"
        )
    notice(f"{problem}; resuming from {found}")
    return found


def _newest_complete(opt: Options, folder: Path, leave_out: str = "") -> str | None:
    """The newest state in `folder` that can be read and whose networks can; a notice names those passed over."""
    problems: list[str] = []
    for iteration in run_folders.saved_iterations(folder):
        path = folder / f"{iteration}.state"
        if path.name == leave_out:
            continue
        problem = _problem(opt, path)
        if problem is None:
            if problems:
                notice(f"{'; '.join(problems)}; resuming from {path}")
            return str(path)
        problems.append(problem)
    if problems:
        notice(f"{'; '.join(problems)}; nothing is left to resume from, so the run begins again")
    return None


def _problem(opt: Options, state: Path) -> str | None:
    """Why one cannot resume from `state`, or None when it and its networks are whole."""
    try:
        iteration = read_state(state)["iter"]
        for path in _networks(opt, state, iteration).values():
            load_data_only(path)
    except UserError as error:
        return str(error).rpartition(";")[0] or str(error)
    return None


def _networks(opt: Options, state: Path | str, iteration: int) -> dict[str, str]:
    """{"network_g": path of the weights saved together with `state`}, for the networks that resuming restores."""
    beside = Path(state).resolve().parent.parent / "models"
    folder = beside if beside.is_dir() else Path(opt["path"]["models"])
    ignored = opt["path"].get("ignore_resume_networks") or ()
    names = [key for key in opt if key.startswith("network_") and key not in ignored]
    return {name: str(folder / f"net_{name.removeprefix('network_')}_{iteration}.pth") for name in names}


def _point_networks_at(opt: Options, state: str, iteration: int) -> None:
    """BasicSR's check_resume (it sets the weights to load, and says so), for the folder that `state` lies in.

    Under `param_key_g: ~` a file's averaged weights come first, from which no optimiser may go on.
    """
    import basicsr.train

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        basicsr.train.check_resume(opt, iteration)
    for name, path in _networks(opt, state, iteration).items():
        opt["path"][f"pretrain_{name}"] = path
        opt["path"][f"param_key_{name.removeprefix('network_')}"] = "params"


def _stop_finished(opt: Options, iteration: int) -> NoReturn:
    if opt["rank"] == 0:
        print(
            f"{opt['path']['experiments_root']}: this run is finished ({iteration} iterations); "
            "raise train:total_iter to continue it, or pass --restart to begin again"
        )
    raise SystemExit(0)
