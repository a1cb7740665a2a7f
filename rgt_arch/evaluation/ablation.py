"""`rgt ablation`: variants of a network, trained by `basicsr train` with equal seeds and data, and compared."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rgt_arch.config.loading import WrittenOptions, load_options, read_written
from rgt_arch.config.overrides import apply_overrides
from rgt_arch.config.problems import Report, suggestion
from rgt_arch.config.validation import check_options
from rgt_arch.data.inspect.targets import validate_options
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.complexity import PAPER_SIZE, Part, count, network_config
from rgt_arch.evaluation.reports import ABSENT, ResultTable, number
from rgt_arch.evaluation.run_records import check_record, files_of, fingerprints, keep_record
from rgt_arch.evaluation.training_runs import METRICS_FILE, basicsr_train, read_metrics
from rgt_arch.files import check_output

FORMATS = ("markdown", "latex", "csv", "json")
_KEYS = ("base", "overrides", "seeds", "variants")


@dataclass(frozen=True)
class AblationSettings:
    """Settings of an ablation, with the defaults of `rgt ablation`."""

    file: Path
    """The list of variants."""
    seeds: Sequence[int] | None = None
    """Replace the seeds of the list."""
    only: Sequence[str] | None = None
    """Labels of the variants to train besides the reference; None: all."""
    overrides: Sequence[str] = ()
    """Entries of --force_yml for all variants."""
    keep: Path = Path("experiments/ablation")
    report: bool = False
    """Only report finished trainings; train nothing."""
    output: Path | None = None
    """The file of the table, checked before anything is trained."""
    overwrite: bool = False


@dataclass(frozen=True)
class Variant:
    """One of the compared networks."""

    label: str
    overrides: tuple[str, ...]
    """Entries of --force_yml that turn the base file into its options."""
    options: dict[str, Any]
    """The base file with the overrides applied."""

    @cached_property
    def cost(self) -> Part:
        """Parameters and multiply-adds of the whole network at the paper's size."""
        return count(network_config(self.options, self.label), PAPER_SIZE).whole

    @property
    def slug(self) -> str:
        """The label as a name of folders and runs."""
        return re.sub(r"[^\w.-]+", "_", self.label).strip("._")


@dataclass
class Run:
    """One training: a variant with a seed."""

    variant: Variant
    seed: int
    folder: Path
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    """Means of the final validation by data set and metric; empty before the end."""
    failure: str = ""


@dataclass(frozen=True)
class Ablation:
    """The trainings of a list, seed by seed. The first variant is the reference."""

    base: Path
    variants: Sequence[Variant]
    seeds: Sequence[int]
    runs: Sequence[Run]

    @property
    def total_iter(self) -> int:
        """Iterations of each training."""
        return int(self.variants[0].options["train"]["total_iter"])

    def measured(self) -> list[tuple[str, str]]:
        """Return the (data set, metric) pairs that validations measure, in their order."""
        options = self.variants[0].options
        sets = [data["name"] for phase, data in options["datasets"].items() if phase.startswith("val")]
        return [(name, metric) for name in sets for metric in (options.get("val") or {}).get("metrics") or ()]

    def results(self, variant: Variant) -> Iterator[tuple[str, str, list[float], list[float]]]:
        """Yield (data set, metric, values, differences to the reference with the same seed) of a variant."""
        own, reference = (
            {run.seed: run.scores for run in self.runs if run.variant is of and run.scores}
            for of in (variant, self.variants[0])
        )
        shared = [seed for seed in own if seed in reference and variant is not self.variants[0]]
        for name, key in self.measured():
            differences = [own[seed][name][key] - reference[seed][name][key] for seed in shared]
            yield name, key, [scores[name][key] for scores in own.values()], differences

    def text(self, form: str) -> str:
        """Return means and deviations over the seeds, differences to the reference, and costs, in one of `FORMATS`."""
        metrics = self.variants[0].options["val"]["metrics"]
        head = [("", "Variant"), ("", "Parameters"), ("", "Multiply-adds")]
        for name, key in self.measured():
            shown = f"{name} {key.upper()}{'-Y' if metrics[key].get('test_y_channel') else ''}"
            head += [(shown, ""), (shown, "difference")]
        rows, records, variants = [], [], []
        for variant in self.variants:
            cost = {"parameters": variant.cost.parameters, "multiply_adds": variant.cost.total}
            rows.append([variant.label, f"{variant.cost.parameters:,}", f"{variant.cost.total / 1e9:.2f} G"])
            results = []
            for dataset, metric, values, differences in self.results(variant):
                digits = 3 if metric == "psnr" else 4
                rows[-1] += [_cell(values, digits), _cell(differences, digits, "+")]
                numbers = dict(zip(("mean", "deviation"), _spread(values), strict=True))
                numbers |= zip(("difference", "difference_deviation"), _spread(differences), strict=True)
                results.append({"set": dataset, "metric": metric, "seeds": len(values), **numbers})
                records.append({"variant": variant.label, **cost, **results[-1]})
            network = variant.options["network_g"]
            variants.append({"label": variant.label, "network_g": network, **cost, "results": results})
        trainings = [
            {"variant": r.variant.label, "seed": r.seed, "scores": r.scores or None, "failure": r.failure or None}
            for r in self.runs
        ]
        content = {"total_iter": self.total_iter, "seeds": self.seeds, "base": str(self.base), "variants": variants,
                   "runs": trainings}  # fmt: skip
        return ResultTable(head, rows, 1, self._remarks(), {"csv": records}, content).text(form)

    def _remarks(self) -> list[str]:
        failed = [f"Failed: {run.variant.label}, seed {run.seed}: {run.failure}" for run in self.runs if run.failure]
        waiting = [f"{run.variant.label} (seed {run.seed})" for run in self.runs if not (run.scores or run.failure)]
        missing = [f"Not trained yet: {', '.join(waiting)}; run the command again without --report."] if waiting else []
        return [
            f"Mean ± standard deviation over seeds {', '.join(map(str, self.seeds))}, {self.total_iter} iterations "
            f"each; differences to {self.variants[0].label} with the same seed and data.",
            f"Multiply-adds at {PAPER_SIZE} input pixels, counted as in `rgt complexity`.",
            *failed,
            *missing,
        ]


def run_ablation(settings: AblationSettings) -> Ablation:
    """Train all variants that are not trained yet, and return the scores of all.

    A failed training is recorded with its reason, and the rest continue. Before any training, raises UsageError for
    an invalid list, options or data, and for kept trainings that do not match them.
    """
    base, variants, seeds = _read_list(settings)
    if settings.output is not None:
        check_output("--output", settings.output, [settings.file, base], overwrite=settings.overwrite)
    root = settings.keep / settings.file.stem
    runs = [Run(variant, seed, root / variant.slug / f"seed_{seed}") for seed in seeds for variant in variants]
    ablation = Ablation(base, variants, seeds, runs)
    if not ablation.measured():
        raise UsageError(f"{base}: there is no validation set or no val:metrics, so nothing to compare; add them")
    files = files_of(variants[0].options)
    data: Mapping[str, str] | None = None if settings.report else fingerprints(files)
    for run in runs:
        data = check_record(run.folder, run.variant.options, data)
        run.scores = _scores(run, ablation)
    waiting = [] if settings.report else [run for run in runs if not run.scores]
    if waiting and len(waiting) < len(runs):
        print(f"{len(runs) - len(waiting)} of {len(runs)} trainings were finished before", file=sys.stderr)
    for run in waiting:
        name = f"{run.variant.label}, seed {run.seed}"
        print(f"[{runs.index(run) + 1}/{len(runs)}] {name}", file=sys.stderr, flush=True)
        try:
            _train(run, ablation, files, data or {})
        except UserError as error:
            print(f"rgt ablation: {name}: {error}", file=sys.stderr)
            run.failure = str(error)
    return ablation


# --- the list ---


def _read_list(settings: AblationSettings) -> tuple[Path, list[Variant], list[int]]:
    """Base option file, variants and seeds. Raises UsageError for a list or options that cannot be compared."""
    file, content = settings.file, load_options(settings.file)
    for key in content:
        if key not in _KEYS:
            raise UsageError(f"{file}: unknown key {key}; {suggestion(key, _KEYS)}")
    base, listed = content.get("base"), content.get("variants")
    if not isinstance(base, str):
        raise UsageError(f"{file}: base is {base!r}; give an option file, relative to this list")
    base = file.parent / base
    if not isinstance(listed, dict) or len(listed) < 2:
        raise UsageError(
            f"{file}: variants: needs two or more, as 'no CPE: [network_g:cpe=false]'; the first is the reference"
        )
    seeds = settings.seeds or content.get("seeds")
    if not isinstance(seeds, (list, tuple)) or not seeds or any(type(seed) is not int or seed < 0 for seed in seeds):
        raise UsageError(f"{file}: seeds is {seeds!r}; give whole numbers from 0, such as [10, 20, 30]")
    for label in settings.only or ():
        if label not in listed:
            raise UsageError(f"--only {label!r}: {file} has no such variant; {suggestion(label, listed)}")
    written, variants = read_written(base), list[Variant]()
    for label, changes in listed.items():
        if variants and settings.only and label not in settings.only:
            continue
        for key, entries in ((f"variants:{label}", changes), ("overrides", content.get("overrides"))):
            if not isinstance(entries or [], list) or not all(isinstance(entry, str) for entry in entries or ()):
                raise UsageError(f"{file}: {key} is {entries!r}; give a list such as [network_g:cpe=false]")
        if any(not entry.startswith("network_g:") for entry in changes or ()):
            raise UsageError(f"{file}: variants:{label}: {changes}: variants may change keys of network_g only")
        overrides = (*(content.get("overrides") or ()), *settings.overrides, *(changes or ()))
        options = copy.deepcopy(written.options)
        apply_overrides(options, overrides)
        network_config(options, f"{file}: variants:{label}")
        _check_options(options, base, written, data=not settings.report)
        variant = Variant(label, overrides, options)
        for other in variants:
            if variant.slug == other.slug or options["network_g"] == other.options["network_g"]:
                raise UsageError(
                    f"{file}: variants: {other.label!r} and {label!r} have the same network, or names that give the "
                    "same folder"
                )
        variants.append(variant)
    return base, variants, list(dict.fromkeys(seeds))


def _check_options(options: Mapping[str, Any], base: Path, written: WrittenOptions, *, data: bool) -> None:
    """Check a variant's options as `basicsr train` does. data: check the files that they name too."""
    copied = copy.deepcopy(dict(options))
    if data:
        validate_options(copied, file=base, is_train=True, root=Path.cwd(), written=written)
    else:
        report = Report(str(base), written)
        check_options(copied, report, is_train=True)
        report.raise_errors()


# --- trainings ---


def _train(run: Run, ablation: Ablation, files: Mapping[str, Path], data: Mapping[str, str]) -> None:
    """Train to the end, from the newest checkpoint if there is one. Raises UserError if the training fails."""
    keep_record(run.folder, run.variant.options, data)
    absolute = [f"{key}={path}" for key, path in files.items()]
    overrides = [*run.variant.overrides, *absolute, f"manual_seed={run.seed}", "path:resume_state=~"]
    basicsr_train(ablation.base, run.folder, run.variant.slug, ablation.total_iter, overrides)
    run.scores = _scores(run, ablation)
    if not run.scores:
        raise UserError(
            f"{run.folder}: the training wrote no scores for iteration {ablation.total_iter}; remove it to train anew"
        )


def _scores(run: Run, ablation: Ablation) -> dict[str, dict[str, float]]:
    """Scores of a run's final validation; empty before the end. Raises UsageError for a damaged metrics.csv."""
    file = run.folder / "experiments" / run.variant.slug / METRICS_FILE
    series, scores = read_metrics(file) if file.is_file() else {}, dict[str, dict[str, float]]()
    for name, metric in ablation.measured():
        value = series.get((metric, name), {}).get(ablation.total_iter)
        if value is None:
            return {}
        scores.setdefault(name, {})[metric] = value
    return scores


# --- numbers ---


def _spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation; None where there are too few values."""
    with np.errstate(invalid="ignore"):  # a PSNR may be infinite, and NaN after a diverged training
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return float(np.mean(values)) if values else None, deviation


def _cell(values: Sequence[float], digits: int, sign: str = "") -> str:
    mean, deviation = _spread(values)
    if mean is None:
        return ABSENT
    return number(mean, digits, sign) + ("" if deviation is None else f" ± {number(deviation, digits)}")
