"""`rgt ablation`: trainings by `basicsr train`, one after the other, kept on disk: an interrupted one goes on."""

from __future__ import annotations

import copy
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

from rgt_arch.basicsr_compat.run_folders import claim, release
from rgt_arch.config.loading import parse_yaml
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.ablation.inputs import DATA_KEYS, WEIGHTS_KEY, Contents, have_changed, read_contents
from rgt_arch.evaluation.ablation.kept import Place, Record, Scores, check_same_data, doubts
from rgt_arch.evaluation.ablation.plan import Options, Plan, Variant, check_runnable, read_plan
from rgt_arch.evaluation.subprocesses import basicsr_train
from rgt_arch.evaluation.tables.store import software
from rgt_arch.files import check_output, written_whole

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
    output: Path | None = None
    """The file that the table goes to, checked before anything is trained."""
    overwrite: bool = False


@dataclass(frozen=True)
class Run:
    """One training: a variant with a seed."""

    variant: Variant
    seed: int
    scores: Scores | None = None
    """Of its last validation; None where it has not come to its end."""
    failure: str = ""
    """Why it did not."""
    on_record: bool = True
    """Whether it is known what data the scores are of."""


def run_ablation(settings: AblationSettings) -> tuple[Plan, list[Run]]:
    """Train what is not trained yet, and give the scores of all, seed by seed.

    A training that fails is remembered with its reason, and the others go on. Raises UsageError for a list, option
    files, data or kept trainings that do not fit, before anything is trained.
    """
    plan = read_plan(settings.file, overrides=settings.overrides, seeds=settings.seeds, only=settings.only)
    if settings.output is not None:
        inputs = [settings.file, *(variant.file for variant in plan.variants)]
        check_output("--output", settings.output, inputs, overwrite=settings.overwrite)
    places = [
        Place(settings.keep / plan.name / variant.slug / f"seed_{seed}", variant, seed)
        for seed in plan.seeds
        for variant in plan.variants
    ]
    runs = _kept(plan, places)
    if settings.report:
        _check_data(places, None)
        return plan, runs
    if not all(run.scores for run in runs):
        check_runnable(plan, Path.cwd())
        with _alone(settings.keep / plan.name):
            contents = _check_data(places, _options_of_all(places))
            # another process may have ended some since
            return plan, list(_train_all(plan, _kept(plan, places), places, contents))
    _check_data(places, _options_of_all(places))
    return plan, runs


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Raises UsageError where another process trains in `folder`, or it cannot be made."""
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise UsageError(
            f"{folder}: another `rgt ablation` trains here; wait for it, or choose another --keep"
        ) from error
    except OSError as error:
        raise UsageError(f"{folder}: cannot be used ({error.strerror}); choose another folder with --keep") from error
    try:
        yield
    finally:
        lock.release()


def run_options(variant: Variant, seed: int) -> Options:
    """The options of a run, as a file in a folder of its own says them: files are absolute, name and seed its own."""
    options = copy.deepcopy(variant.options)
    options["name"] = variant.slug
    options["manual_seed"] = seed
    for data in options["datasets"].values():
        for key in DATA_KEYS:
            if data.get(key):
                data[key] = str(Path(data[key]).expanduser().absolute())
    options["path"] = {**(options.get("path") or {}), "resume_state": None}
    weights = options["path"].get(WEIGHTS_KEY)
    if weights and Path(weights).expanduser().exists():  # else it is a name of published weights
        options["path"][WEIGHTS_KEY] = str(Path(weights).expanduser().absolute())
    plain: Options = parse_yaml(_as_yaml(options), "options").options
    return plain


def _as_yaml(options: Options) -> str:
    return yaml.safe_dump(options, sort_keys=False, allow_unicode=True)


# --- what is there ---


def _kept(plan: Plan, places: Sequence[Place]) -> list[Run]:
    """The trainings as they are now. Raises UsageError where a folder holds one with other options."""
    for place in places:
        place.check_options(run_options(place.variant, place.seed))
    return [_as_run(place, place.scores(plan)) for place in places]


def _as_run(place: Place, scores: Scores | None) -> Run:
    return Run(place.variant, place.seed, scores, on_record=scores is None or place.record_file.is_file())


def _check_data(places: Sequence[Place], options: Options | None) -> Contents:
    """What the data that `options` name holds, after saying what cannot be known of the kept trainings' data.

    options: None where only kept trainings are looked at. Raises UsageError where they had other data.
    """
    begun = [place for place in places if place.is_begun()]
    records = {place: record for place in begun if (record := place.record()) is not None}
    contents = read_contents(options, [record.contents for record in records.values()]) if options else None
    check_same_data(records, contents)
    for doubt in doubts(begun, records):
        print(f"rgt ablation: {doubt}", file=sys.stderr)
    return contents or {}


def _options_of_all(places: Sequence[Place]) -> Options:
    """Those of the first: in what files they name, no two differ."""
    return run_options(places[0].variant, places[0].seed)


# --- training ---


def _train_all(plan: Plan, runs: Sequence[Run], places: Sequence[Place], contents: Contents) -> Iterator[Run]:
    missing = [run for run in runs if run.scores is None]
    left = {id(run): plan.total_iter - place.newest_state() for run, place in zip(runs, places, strict=True)}
    if len(missing) < len(runs):
        print(f"{len(runs) - len(missing)} of {len(runs)} trainings were finished before", file=sys.stderr)
    done, start = 0, time.monotonic()
    for run, place in zip(runs, places, strict=True):
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
            yield _as_run(place, _train(place, plan, contents))
        except UserError as error:
            print(f"rgt ablation: {run.variant.label}, seed {run.seed}: {error}", file=sys.stderr)
            yield Run(run.variant, run.seed, failure=str(error))
        done += left[id(run)]


def _train(place: Place, plan: Plan, contents: Contents) -> Scores:
    """Train from the newest state to the end, and keep the scores. Raises UserError if the training fails."""
    options = run_options(place.variant, place.seed)
    if (changed := have_changed(options, contents)) is not None:
        raise UsageError(f"{changed}: the files changed while the trainings ran; choose another folder with --keep")
    newest = place.newest_state()
    record = place.record() if newest else Record(contents, [software()])
    if newest:
        # relative to the run's folder, so that the whole may be moved
        options["path"]["resume_state"] = str((place.states / f"{newest}.state").relative_to(place.folder))
    else:
        _clear(place)
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{place.folder}: cannot be made ({error.strerror})") from error
    with written_whole(place.option_file) as beside:
        beside.write_text(_as_yaml(options), "utf-8")
    if record is not None:  # else it was begun by a version that kept none, and stays without
        place.keep_record(record.going_on())
    basicsr_train(place.option_file, plan.total_iter)
    scores = last_validation((place.folder / "train_output.txt").read_text("utf-8"), plan)
    for name, metric, _ in plan.measured():
        if metric not in scores.get(name, {}):
            raise UserError(f"{place.folder}: the training said no {metric} of {name} at its end; look at its output")
    place.keep_scores(scores)
    return scores


def _clear(place: Place) -> None:
    """Remove what a training left that ended before its first checkpoint.

    Raises UsageError where it has not ended: one whose `rgt ablation` was killed goes on.
    """
    claim(str(place.states.parent))
    try:
        shutil.rmtree(place.folder / "experiments")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be removed ({error.strerror})") from error
    finally:
        release()


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
