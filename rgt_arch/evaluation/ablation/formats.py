"""The table of an ablation: means and spread over the seeds, differences to the reference, and what each costs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rgt_arch.evaluation.ablation.plan import Plan, Variant
from rgt_arch.evaluation.ablation.running import Run, as_plain
from rgt_arch.evaluation.complexity import PAPER_SIZE


@dataclass(frozen=True)
class Spread:
    """A mean over seeds."""

    mean: float
    deviation: float | None
    """Sample standard deviation; None for a single seed."""
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None where there are no values."""
        if not values:
            return None
        with np.errstate(invalid="ignore"):  # a PSNR may be infinite, and that of a diverged training is none
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            return cls(float(np.mean(values)), deviation, len(values))


@dataclass(frozen=True)
class Result:
    """One variant on one data set in one metric."""

    dataset: str
    metric: str
    shown: str
    value: Spread | None
    difference: Spread | None
    """To the reference with the same seed; None for the reference itself."""


def results(plan: Plan, runs: Sequence[Run], variant: Variant) -> list[Result]:
    """What was measured of a variant, in the order of the table's columns."""
    scores = {(run.variant.label, run.seed): run.scores for run in runs if run.scores}
    reference = plan.variants[0].label
    found = []
    for name, metric, shown in plan.measured():
        values = {
            (label, seed): of_run[name][metric]
            for (label, seed), of_run in scores.items()
            if label in (variant.label, reference)
        }
        own = [values[variant.label, seed] for seed in plan.seeds if (variant.label, seed) in values]
        differences = [
            values[variant.label, seed] - values[reference, seed]
            for seed in plan.seeds
            if variant.label != reference and (variant.label, seed) in values and (reference, seed) in values
        ]
        found.append(Result(name, metric, shown, Spread.of(own), Spread.of(differences)))
    return found


def as_markdown(plan: Plan, runs: Sequence[Run]) -> str:
    """A row for each variant; below it what the numbers are, and what is missing."""
    columns = [f"{name} {shown}" for name, _, shown in plan.measured()]
    lines = [
        "| Variant | Parameters | Multiply-adds |" + "".join(f" {column} | difference |" for column in columns),
        "|:--|--:|--:|" + "--:|--:|" * len(columns),
    ]
    for variant in plan.variants:
        cells = [variant.label, f"{variant.cost.parameters:,}", f"{variant.cost.total / 1e9:.2f} G"]
        for result in results(plan, runs, variant):
            cells += [_cell(result.value, result.metric), _cell(result.difference, result.metric, "+")]
        lines.append("| " + " | ".join(cells) + " |")
    count = len(plan.seeds)
    remarks = [
        f"Mean ± standard deviation over {count} seed{'s' if count > 1 else ''} ({', '.join(map(str, plan.seeds))}), "
        f"{plan.total_iter} iterations each; differences to {plan.variants[0].label} with the same seed and data.",
        f"Multiply-adds at {PAPER_SIZE} input pixels, counted as in `rgt complexity`.",
        *(f"Failed: {run.variant.label}, seed {run.seed}: {run.failure}" for run in runs if run.failure),
    ]
    unknown = [f"{run.variant.label} (seed {run.seed})" for run in runs if not run.on_record]
    if unknown:
        remarks.append(f"Whether the data was the same is not on record for {', '.join(unknown)}.")
    waiting = [f"{run.variant.label} (seed {run.seed})" for run in runs if not run.scores and not run.failure]
    if waiting:
        remarks.append(f"Not trained yet: {', '.join(waiting)}; run the command again without --report.")
    return "\n".join([*lines, "", *(f"- {remark}" for remark in remarks)]) + "\n"


def as_csv(plan: Plan, runs: Sequence[Run]) -> str:
    """A line for each variant, data set and metric, numbers in full."""
    rows: list[list[object]] = [
        ["variant", "parameters", "multiply_adds", "set", "metric", "seeds", "mean", "deviation",
         "difference", "difference_deviation"]
    ]  # fmt: skip
    for variant in plan.variants:
        start = [variant.label, variant.cost.parameters, variant.cost.total]
        for result in results(plan, runs, variant):
            value, difference = result.value, result.difference
            rows.append(
                [*start, result.dataset, result.metric, value.seeds if value else 0]
                + [number for spread in (value, difference) for number in _numbers(spread)]
            )
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def as_json(plan: Plan, runs: Sequence[Run]) -> str:
    """Everything, every training included. What is no finite number is null."""
    variants = [
        {
            "label": variant.label,
            "file": str(variant.file),
            "network_g": variant.options["network_g"],
            "parameters": variant.cost.parameters,
            "multiply_adds": variant.cost.total,
            "results": [
                {
                    "set": result.dataset,
                    "metric": result.metric,
                    "seeds": result.value.seeds if result.value else 0,
                    **dict(zip(("mean", "deviation"), _numbers(result.value), strict=True)),
                    **dict(zip(("difference", "difference_deviation"), _numbers(result.difference), strict=True)),
                }
                for result in results(plan, runs, variant)
            ],
        }
        for variant in plan.variants
    ]
    content = {"total_iter": plan.total_iter, "seeds": plan.seeds, "variants": variants, "runs": as_plain(runs)}
    return json.dumps(_finite(content), indent=1, allow_nan=False) + "\n"


FORMATS: Mapping[str, Callable[[Plan, Sequence[Run]], str]] = {
    "markdown": as_markdown,
    "csv": as_csv,
    "json": as_json,
}


def _cell(spread: Spread | None, metric: str, sign: str = "") -> str:
    if spread is None:
        return "–"
    digits = 3 if metric == "psnr" else 4
    text = f"{spread.mean:{sign}.{digits}f}".replace("-", "−")
    return text if spread.deviation is None else f"{text} ± {spread.deviation:.{digits}f}"


def _numbers(spread: Spread | None) -> tuple[float | None, float | None]:
    return (spread.mean, spread.deviation) if spread else (None, None)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
