"""`rgt ablation`: trainings by `basicsr train`, one after the other, kept on disk by variant and seed."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rgt_arch.data.images import walk_files
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.ablation.plan import Options, Plan, Variant, check_runnable, read_plan
from rgt_arch.evaluation.tables.store import software
from rgt_arch.evaluation.training_runs import METRICS_FILE, basicsr_train, read_metrics
from rgt_arch.files import check_output, file_digest, written_whole
from rgt_arch.progress import Progress

Scores = dict[tuple[str, str], float]
"""By data set and metric, a mean over its images."""

_READERS_LOCK = "lock.mdb"  # LMDB changes it whenever somebody reads


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
    """The file of the table, checked before anything is trained."""
    overwrite: bool = False


@dataclass(frozen=True)
class Run:
    """One training: a variant with a seed."""

    variant: Variant
    seed: int
    folder: Path
    scores: Scores | None = None
    """Of the validation at its end; None if it has not ended."""
    failure: str = ""

    @property
    def record_file(self) -> Path:
        """What the training was started with."""
        return self.folder / "started_with.json"


def run_ablation(settings: AblationSettings) -> tuple[Plan, list[Run]]:
    """Train all variants that are not trained yet, and give the scores of all, seed by seed.

    A training that fails is kept with its reason, and the others go on. Raises UsageError for a list, options, data or
    kept trainings that do not fit, before anything is trained.
    """
    plan = read_plan(settings.file, overrides=settings.overrides, seeds=settings.seeds, only=settings.only)
    if settings.output is not None:
        check_output("--output", settings.output, [settings.file, plan.base], overwrite=settings.overwrite)
    root = settings.keep / settings.file.stem
    runs = [
        Run(variant, seed, root / variant.slug / f"seed_{seed}") for seed in plan.seeds for variant in plan.variants
    ]
    data = None if settings.report else {key: _fingerprint(path) for key, path in plan.files().items()}
    _check_kept(runs, data)
    runs = [_with_scores(run, plan) for run in runs]
    if settings.report or data is None or all(run.scores for run in runs):
        return plan, runs
    check_runnable(plan)
    finished = sum(run.scores is not None for run in runs)
    if finished:
        print(f"{finished} of {len(runs)} trainings were finished before", file=sys.stderr)
    for number, run in enumerate(runs):
        if run.scores is None:
            print(f"[{number + 1}/{len(runs)}] {run.variant.label}, seed {run.seed}", file=sys.stderr, flush=True)
            try:
                runs[number] = _train(run, plan, data)
            except UserError as error:
                print(f"rgt ablation: {run.variant.label}, seed {run.seed}: {error}", file=sys.stderr)
                runs[number] = Run(run.variant, run.seed, run.folder, failure=str(error))
    return plan, runs


def _train(run: Run, plan: Plan, data: Mapping[str, str]) -> Run:
    """Train to the end, from the newest checkpoint if there is one. Raises UserError if the training fails."""
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{run.folder}: cannot be made ({error.strerror})") from error
    record = {"options": run.variant.options, "data": data, "software": software()}
    if not run.record_file.is_file():
        with written_whole(run.record_file) as beside:
            beside.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    absolute = [f"{key}={path}" for key, path in plan.files().items()]
    overrides = [*run.variant.overrides, *absolute, f"manual_seed={run.seed}"]
    basicsr_train(plan.base, run.folder, run.variant.slug, plan.total_iter, overrides)
    trained = _with_scores(run, plan)
    if trained.scores is None:
        raise UserError(
            f"{run.folder}: the training wrote no scores for iteration {plan.total_iter}; remove it to train anew"
        )
    return trained


def _with_scores(run: Run, plan: Plan) -> Run:
    """The run with the scores of its last validation, if it has come to its end. Raises UsageError if damaged."""
    file = run.folder / "experiments" / run.variant.slug / METRICS_FILE
    if not file.is_file():
        return run
    series = read_metrics(file)
    wanted = {(dataset, metric): series.get((metric, dataset), {}) for dataset, metric, _ in plan.measured()}
    if not all(plan.total_iter in points for points in wanted.values()):
        return run
    scores = {key: points[plan.total_iter] for key, points in wanted.items()}
    return Run(run.variant, run.seed, run.folder, scores)


def _check_kept(runs: Sequence[Run], data: Mapping[str, str] | None) -> None:
    """Compare what kept trainings were started with. Raises UsageError for other options, other data or other files.

    data: fingerprints of the data now; None if only the kept trainings are compared with each other.
    """
    for run in runs:
        try:
            there = any(not file.name.startswith(".") for file in run.folder.iterdir())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UsageError(
                f"{run.folder}: cannot be read as a folder ({error.strerror}); choose another folder with --keep"
            ) from error
        if not there:
            continue
        if not run.record_file.is_file():
            raise UsageError(f"{run.folder}: is not empty and no ablation made it; choose another folder with --keep")
        try:
            record = json.loads(run.record_file.read_text("utf-8"))
            options, before, versions = record["options"], dict(record["data"]), dict(record["software"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{run.record_file}: is damaged; remove {run.folder}, or choose another --keep") from error
        remedy = "choose another folder with --keep, or remove that one"
        if difference := first_difference(options, json.loads(json.dumps(run.variant.options))):
            key, old, new = difference
            raise UsageError(f"{run.folder}: holds a run in which {key} is {old!r}, now it is {new!r}; {remedy}")
        data = before if data is None else data
        if difference := first_difference(before, dict(data)):
            key, old, new = difference
            raise UsageError(f"{run.folder}: {key} held other files when this was trained ({old}; now {new}); {remedy}")
        if versions != software():
            changed = ", ".join(name for name in versions if versions[name] != software().get(name))
            print(
                f"rgt ablation: {run.folder}: was trained with other versions than now installed ({changed})",
                file=sys.stderr,
            )


def first_difference(one: Options, other: Options, key: str = "") -> tuple[str, Any, Any] | None:
    """The first key at which two trees of options differ, and its values in both; None for a missing one."""
    for name in {**one, **other}:
        mine, theirs = one.get(name), other.get(name)
        path = f"{key}:{name}" if key else name
        if isinstance(mine, dict) and isinstance(theirs, dict):
            if found := first_difference(mine, theirs, path):
                return found
        elif mine != theirs:
            return path, mine, theirs
    return None


def _fingerprint(path: Path) -> str:
    """The content of a file, or of all files of a folder: number, bytes and a digest. Raises UsageError."""
    try:
        files = sorted(walk_files(path)) if path.is_dir() else [path]
        facts = [(file, file.stat()) for file in files if file.name != _READERS_LOCK]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; --report does without the data") from error
    return _digest(path, tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in facts))


@cache
def _digest(path: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    """Read once in a process, as long as sizes and times stay: every run of an ablation asks for the same data."""
    whole = hashlib.sha256()
    with Progress(len(files), f"reading {path}", "file") as progress:
        for file, _, _ in files:
            name = "" if file == path else file.relative_to(path).as_posix()
            whole.update(f"{name}\0{file_digest(file)}\n".encode(errors="surrogateescape"))
            progress.advance()
    return f"{len(files)} files of {sum(size for _, size, _ in files):,} bytes, {whole.hexdigest()[:16]}"
