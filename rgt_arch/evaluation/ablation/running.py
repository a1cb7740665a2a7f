"""`rgt ablation`: trainings by `basicsr train`, one after the other, kept on disk: an interrupted one goes on."""

from __future__ import annotations

import copy
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from tqdm import tqdm

from rgt_arch.basicsr_compat.run_folders import saved_iterations
from rgt_arch.config import load_options
from rgt_arch.config.loading import parse_yaml
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.ablation.plan import Options, Plan, Variant, check_runnable, first_difference, read_plan
from rgt_arch.evaluation.subprocesses import basicsr_train
from rgt_arch.files import written_whole

Scores = dict[str, dict[str, float]]
"""{data set: {metric: mean over its images}}"""

_FILES = ("dataroot_gt", "dataroot_lq", "meta_info_file", "meta_info")
_NUMBER = r"-?(?:[\d.]+|nan|inf)"


@dataclass(frozen=True)
class AblationSettings:
    """What to train; the defaults are those of `rgt ablation`."""

    file: Path
    """The list."""
    seeds: Sequence[int] | None = None
    """In place of the list's."""
    only: Sequence[str] | None = None
    """Labels of the variants beside the reference; None for all."""
    overrides: Sequence[str] = ()
    """As --force_yml takes them."""
    keep: Path = Path("experiments/ablation")
    report: bool = False
    """Train nothing."""


@dataclass(frozen=True)
class Run:
    """One training: a variant with a seed."""

    variant: Variant
    seed: int
    scores: Scores | None = None
    """Of its last validation; None where it has not come to its end."""
    failure: str = ""
    """Why it did not."""


@dataclass(frozen=True)
class _Place:
    """The folder of a run, in which its `basicsr train` is started."""

    folder: Path
    variant: Variant

    @property
    def option_file(self) -> Path:
        return self.folder / "train.yml"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def states(self) -> Path:
        return self.folder / "experiments" / self.variant.slug / "training_states"

    def newest_state(self) -> int:
        """Iterations that are saved; 0 where there are none."""
        return next(iter(saved_iterations(self.states)), 0)


def run_ablation(settings: AblationSettings) -> tuple[Plan, list[Run]]:
    """Train what is not trained yet, and give the scores of all, seed by seed.

    A training that fails is remembered with its reason, and the others go on. Raises UsageError for a list, option
    files or kept runs that do not fit, before anything is trained.
    """
    plan = read_plan(settings.file, overrides=settings.overrides, seeds=settings.seeds, only=settings.only)
    pairs = [(variant, seed) for seed in plan.seeds for variant in plan.variants]
    places = {
        (variant.label, seed): _Place(settings.keep / plan.name / variant.slug / f"seed_{seed}", variant)
        for variant, seed in pairs
    }
    runs = [Run(variant, seed, _kept(places[variant.label, seed], seed)) for variant, seed in pairs]
    if settings.report or all(run.scores for run in runs):
        return plan, runs
    check_runnable(plan, Path.cwd())
    with _alone(settings.keep / plan.name):
        for place in places.values():
            _check_unfinished(place)
        return plan, list(_train_all(plan, runs, places))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Raises UsageError where another process trains in `folder`, or it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise UsageError(
            f"{folder}: another `rgt ablation` trains here; wait for it, or choose another --keep"
        ) from error
    except OSError as error:
        raise UsageError(f"{folder}: cannot be used ({error.strerror}); choose another folder with --keep") from error


def run_options(variant: Variant, seed: int) -> Options:
    """The options of a run, as a file in a folder of its own says them: files are absolute, name and seed its own."""
    options = copy.deepcopy(variant.options)
    options["name"] = variant.slug
    options["manual_seed"] = seed
    for data in options["datasets"].values():
        for key in _FILES:
            if data.get(key):
                data[key] = str(Path(data[key]).expanduser().absolute())
    options["path"] = {**(options.get("path") or {}), "resume_state": None}
    weights = options["path"].get("pretrain_network_g")
    if weights and Path(weights).expanduser().exists():  # else it is a name of published weights
        options["path"]["pretrain_network_g"] = str(Path(weights).expanduser().absolute())
    plain: Options = parse_yaml(_as_yaml(options), "options").options
    return plain


def _as_yaml(options: Options) -> str:
    return yaml.safe_dump(options, sort_keys=False, allow_unicode=True)


# --- what is there ---


def _kept(place: _Place, seed: int) -> Scores | None:
    """The scores of a run that has come to its end; None where there is none.

    Raises UsageError where the folder holds a run with other options: nothing of it is thrown away.
    """
    if place.option_file.is_file():
        there = load_options(place.option_file)
        there["path"] = {**(there.get("path") or {}), "resume_state": None}
        difference = first_difference(there, run_options(place.variant, seed))
        if difference:
            key, before, now = difference
            raise UsageError(
                f"{place.folder}: holds a run in which {key} is {before!r}, now it is {now!r}; choose another folder "
                "with --keep, or remove that one"
            )
    try:
        content = json.loads(place.result.read_text("utf-8"))
        scores: Scores = content["scores"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{place.result}: cannot be read as a result; remove it, and its run is validated anew"
        ) from error
    return scores


def _check_unfinished(place: _Place) -> None:
    """Raises UsageError for a folder with content that no run of ours left: it would be lost."""
    if place.folder.is_dir() and any(place.folder.iterdir()) and not place.option_file.is_file():
        raise UsageError(f"{place.folder}: is not empty and no ablation made it; choose another folder with --keep")


# --- training ---


def _train_all(plan: Plan, runs: Sequence[Run], places: dict[tuple[str, int], _Place]) -> Iterator[Run]:
    missing = [run for run in runs if run.scores is None]
    left = {id(run): plan.total_iter - places[run.variant.label, run.seed].newest_state() for run in missing}
    if len(missing) < len(runs):
        print(f"{len(runs) - len(missing)} of {len(runs)} trainings were finished before", file=sys.stderr)
    done, start = 0, time.monotonic()
    for run in runs:
        if run.scores is not None:
            yield run
            continue
        remaining = sum(left[id(other)] for other in missing[missing.index(run) :])
        estimate = (
            f"; {tqdm.format_interval((time.monotonic() - start) / done * remaining)} left for all" if done else ""
        )
        print(
            f"[{runs.index(run) + 1}/{len(runs)}] {run.variant.label}, seed {run.seed}: {left[id(run)]} of "
            f"{plan.total_iter} iterations to go{estimate}",
            file=sys.stderr,
            flush=True,
        )
        try:
            yield Run(run.variant, run.seed, _train(places[run.variant.label, run.seed], run.seed, plan))
        except UserError as error:
            print(f"rgt ablation: {run.variant.label}, seed {run.seed}: {error}", file=sys.stderr)
            yield Run(run.variant, run.seed, failure=str(error))
        done += left[id(run)]


def _train(place: _Place, seed: int, plan: Plan) -> Scores:
    """Train from the newest state to the end, and keep the scores. Raises UserError if the training fails."""
    options = run_options(place.variant, seed)
    newest = place.newest_state()
    if newest:
        # relative to the run's folder, so that the whole may be moved
        options["path"]["resume_state"] = str((place.states / f"{newest}.state").relative_to(place.folder))
    elif (place.folder / "experiments").is_dir():
        shutil.rmtree(place.folder / "experiments")  # it ended before its first checkpoint
    place.folder.mkdir(parents=True, exist_ok=True)
    with written_whole(place.option_file) as beside:
        beside.write_text(_as_yaml(options), "utf-8")
    basicsr_train(place.option_file, plan.total_iter)
    scores = last_validation((place.folder / "train_output.txt").read_text("utf-8"), plan)
    for name, metric, _ in plan.measured():
        if metric not in scores.get(name, {}):
            raise UserError(f"{place.folder}: the training said no {metric} of {name} at its end; look at its output")
    with written_whole(place.result) as beside:
        beside.write_text(json.dumps({"scores": scores, "seed": seed}, indent=1) + "\n", "utf-8")
    return scores


def last_validation(output: str, plan: Plan) -> Scores:
    """The scores that `basicsr train` printed last, by data set: "Validation Set5", then a line for each metric."""
    scores: Scores = {}
    current = None
    names = {name for name, _, _ in plan.measured()}
    for line in output.splitlines():
        heading = re.search(r"INFO: Validation (.+)$", line)
        value = re.match(rf"\s*# ([\w-]+): ({_NUMBER})\b", line)
        if heading:
            current = heading[1] if heading[1] in names else None
        elif value and current is not None:
            scores.setdefault(current, {})[value[1]] = float(value[2])
    return scores


def as_plain(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Every training for JSON."""
    return [
        {"variant": run.variant.label, "seed": run.seed, "scores": run.scores, "failure": run.failure or None}
        for run in runs
    ]
