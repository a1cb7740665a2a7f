"""The table of an ablation: means and spread over the seeds, differences to the reference, and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rgt_arch.evaluation.ablation.plan import Plan, Variant
from rgt_arch.evaluation.ablation.running import Run
from rgt_arch.evaluation.complexity import PAPER_SIZE
from rgt_arch.evaluation.reports import csv_text, json_text, markdown_table


@dataclass(frozen=True)
class Spread:
    """A mean over seeds; None where there are no values."""

    mean: float | None
    deviation: float | None
    """Sample standard deviation; None for a single seed."""
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of the values of some seeds."""
        with np.errstate(invalid="ignore"):  # a PSNR may be infinite, and NaN after a diverged training
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            return cls(float(np.mean(values)) if values else None, deviation, len(values))


def results(plan: Plan, runs: Sequence[Run], variant: Variant) -> list[tuple[str, str, Spread, Spread]]:
    """(data set, metric, spread, spread of the differences to the reference with the same seed) of a variant."""
    scores = {(run.variant.label, run.seed): run.scores for run in runs if run.scores}
    reference = plan.variants[0].label
    found = []
    for dataset, metric, _ in plan.measured():
        of = {key: of_run[dataset, metric] for key, of_run in scores.items()}
        own = [of[variant.label, seed] for seed in plan.seeds if (variant.label, seed) in of]
        differences = [
            of[variant.label, seed] - of[reference, seed]
            for seed in plan.seeds
            if variant.label != reference and {(variant.label, seed), (reference, seed)} <= of.keys()
        ]
        found.append((dataset, metric, Spread.of(own), Spread.of(differences)))
    return found


def as_markdown(plan: Plan, runs: Sequence[Run]) -> str:
    """A row for each variant; below it what the numbers are, and what is missing."""
    columns = [cell for name, _, shown in plan.measured() for cell in (f"{name} {shown}", "difference")]
    rows = []
    for variant in plan.variants:
        cells = [variant.label, f"{variant.cost.parameters:,}", f"{variant.cost.total / 1e9:.2f} G"]
        for _, metric, value, difference in results(plan, runs, variant):
            cells += [_cell(value, metric), _cell(difference, metric, "+")]
        rows.append(cells)
    waiting = [f"{run.variant.label} (seed {run.seed})" for run in runs if not run.scores and not run.failure]
    remarks = [
        f"Mean ± standard deviation over {len(plan.seeds)} seed{'s' if len(plan.seeds) > 1 else ''} "
        f"({', '.join(map(str, plan.seeds))}), {plan.total_iter} iterations each; differences to "
        f"{plan.variants[0].label} with the same seed and data.",
        f"Multiply-adds at {PAPER_SIZE} input pixels, counted as in `rgt complexity`.",
        *(f"Failed: {run.variant.label}, seed {run.seed}: {run.failure}" for run in runs if run.failure),
        *([f"Not trained yet: {', '.join(waiting)}; run the command again without --report."] if waiting else []),
    ]
    return markdown_table(["Variant", "Parameters", "Multiply-adds", *columns], rows, left=1, remarks=remarks)


def as_csv(plan: Plan, runs: Sequence[Run]) -> str:
    """A line for each variant, data set and metric, numbers in full."""
    head = ["variant", "parameters", "multiply_adds", "set", "metric", "seeds", "mean", "deviation", "difference",
            "difference_deviation"]  # fmt: skip
    rows = [
        [variant.label, variant.cost.parameters, variant.cost.total, dataset, metric, value.seeds, value.mean,
         value.deviation, difference.mean, difference.deviation]
        for variant in plan.variants
        for dataset, metric, value, difference in results(plan, runs, variant)
    ]  # fmt: skip
    return csv_text([head, *rows])


def as_json(plan: Plan, runs: Sequence[Run]) -> str:
    """Everything, every training included."""
    variants = [
        {
            "label": variant.label,
            "network_g": variant.options["network_g"],
            "parameters": variant.cost.parameters,
            "multiply_adds": variant.cost.total,
            "results": [
                {"set": dataset, "metric": metric, "seeds": value.seeds, "mean": value.mean,
                 "deviation": value.deviation, "difference": difference.mean,
                 "difference_deviation": difference.deviation}
                for dataset, metric, value, difference in results(plan, runs, variant)
            ],
        }
        for variant in plan.variants
    ]  # fmt: skip
    trainings = []
    for run in runs:
        scores: dict[str, dict[str, float]] = {}
        for (dataset, metric), value in (run.scores or {}).items():
            scores.setdefault(dataset, {})[metric] = value
        trainings.append({"variant": run.variant.label, "seed": run.seed, "scores": scores or None,
                          "failure": run.failure or None})  # fmt: skip
    content = {"total_iter": plan.total_iter, "seeds": plan.seeds, "base": str(plan.base), "variants": variants}
    return json_text({**content, "runs": trainings})


FORMATS: Mapping[str, Callable[[Plan, Sequence[Run]], str]] = {
    "markdown": as_markdown,
    "csv": as_csv,
    "json": as_json,
}


def _cell(spread: Spread, metric: str, sign: str = "") -> str:
    if spread.mean is None:
        return "–"
    digits = 3 if metric == "psnr" else 4
    text = f"{spread.mean:{sign}.{digits}f}".replace("-", "−")
    return text if spread.deviation is None else f"{text} ± {spread.deviation:.{digits}f}"
