"""Resuming: the newest complete checkpoint of the run, on CPUs and GPUs, without executing code.

Where: basicsr/train.py:68-88. What goes wrong: resuming asks for the current CUDA device; `--auto_resume` looks under
the current directory whatever the root is, and trusts the newest state even if it is truncated or its network was
never written; the network is looked for in this run's folder even when the state belongs to another's, and folders
are not created then. Delete it once BasicSR checks what it resumes from and loads it onto the CPU.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any, NoReturn

from rgt_arch.basicsr_compat import run_folders
from rgt_arch.basicsr_compat.checkpoint_pairs import check_network, read_state, recorded_iteration
from rgt_arch.basicsr_compat.distributed import on_rank_zero
from rgt_arch.basicsr_compat.notices import notice
from rgt_arch.config.checks.networks import unfit
from rgt_arch.config.classes import find_class, is_known
from rgt_arch.errors import UsageError, UserError
from rgt_arch.torch_files import load_data_only
from rgt_arch.weights import read_checkpoint

Options = dict[str, Any]


def load_resume_state(opt: Options) -> dict[str, Any] | None:
    """The training state to continue from, on the CPU, or None to begin; sets `opt["start_iter"]` and
    `opt["start_epoch"]`.

    Rank 0 chooses for all ranks. With `auto_resume` a run that has done all its iterations is left as it is:
    SystemExit(0).
    """
    opt["start_iter"] = opt["start_epoch"] = 0
    path, finished = on_rank_zero(lambda: _choose(opt))
    if finished is not None:
        _stop_finished(opt, finished)
    if path is None:
        return None
    state = read_state(path)
    opt["start_iter"], opt["start_epoch"] = state["iter"], state["epoch"]
    _take_seed(opt, state.get("seed"))
    opt["path"]["resume_state"] = path
    _point_networks_at(opt, path, state["iter"])
    return state


def _choose(opt: Options) -> tuple[str | None, int | None]:
    """Path of the state to resume from: the newest complete one of this run, or what `path: resume_state` names.

    And the iterations of the run where it is finished, with `auto_resume`.
    """
    named = opt["path"].get("resume_state")
    found = None
    if opt["auto_resume"]:
        found = _newest_complete(opt, Path(opt["path"]["training_states"]))
        finished = _finished(opt, found)
        if finished is not None:
            return found, finished
    if found is None and named:
        found = _named(opt, Path(named))
    if opt.get("restart") and run_folders.belongs_to_run(opt, found):
        raise UsageError(
            f"--restart would archive the run that path:resume_state = {found} belongs to; drop one of the two"
        )
    if found and opt["is_train"]:
        _refuse_unfit(opt, found)
        run_folders.create({key: opt["path"][key] for key in run_folders.FOLDER_KEYS if key in opt["path"]})
        _remove_unfinished_files(opt)
    return found, None


def _refuse_unfit(opt: Options, state: str) -> None:
    """Raise UsageError for a state of other networks or optimisers than those of the options.

    A model of the user's own may have more optimisers than sections, or fewer: only building it will tell.
    """
    content, model = read_state(state), find_class("model", opt.get("model_type"))
    own, saved = sum(key.startswith("optim_") for key in opt["train"]), len(content["optimizers"])
    if saved != own and is_known(model):
        raise UsageError(
            f"{state}: is of {saved} optimisers, and train has {own}; resume with the options it was trained with"
        )
    for name, path in _networks(opt, state, content["iter"]).items():
        if (problem := unfit(opt, name, read_checkpoint(path).state_dict("params"))) is not None:
            raise UsageError(f"{path}: {problem}")


def _finished(opt: Options, newest: str | None) -> int | None:
    """How many iterations the run of this name did, where there is nothing left to do for it, else None.

    Done is a run whose last weights are written, and whose validation of them, if a state of the end says that it was
    to come. A run of other models, whose files do not say what they are of, is done at its last state.
    """
    total = int(opt["train"]["total_iter"])
    state = None if newest is None else read_state(newest)
    reached = 0 if state is None else int(state["iter"])
    if state is not None and reached >= total and state.get("owes_validation"):
        return None
    latest = Path(opt["path"]["models"]) / "net_g_latest.pth"
    try:
        ended = recorded_iteration(load_data_only(latest))
    except UserError:
        return None
    if ended is None:
        return reached if reached >= total else None
    return ended if ended >= total else None


def _remove_unfinished_files(opt: Options) -> None:
    """Files that a killed run was writing (`rgt_arch.files.written_whole` names them so), some as large as a
    checkpoint."""
    for left in Path(opt["path"]["experiments_root"]).rglob(".*.part*"):
        if re.fullmatch(r"\..+\.\d+\.part(\.\w+)?", left.name) and left.is_file():
            left.unlink(missing_ok=True)


def _take_seed(opt: Options, seed: Any) -> None:
    """Go on with the seed that the run began with, on which the order of the data and the crops depend."""
    if type(seed) is not int or seed == opt["manual_seed"]:
        return
    if opt.get("seed_is_drawn"):
        opt["manual_seed"] = seed
    else:
        notice(f"manual_seed: is {opt['manual_seed']}, and {seed} in the state resumed from: other samples follow")


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
        content = read_state(state)
        if state.stem.isdigit() and int(state.stem) != content["iter"]:
            return f"{state}: is of iteration {content['iter']}, not of that in its name"
        digests = content.get("networks")
        for name, path in _networks(opt, state, content["iter"]).items():
            check_network(path, content["iter"], digests.get(name) if isinstance(digests, dict) else None)
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
