"""Tables of ablations: means and spread over seeds, differences with the same seed, and what is missing."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest

from rgt_arch.evaluation.ablation.formats import as_csv, as_json, as_markdown
from rgt_arch.evaluation.ablation.plan import Plan, Variant
from rgt_arch.evaluation.ablation.running import Run


@pytest.fixture(scope="module")
def plan() -> Plan:
    options = {
        "network_g": {"type": "RGT", "embed_dim": 96, "depth": [1], "num_heads": [2]},
        "datasets": {"train": {"name": "photographs"}, "val": {"name": "Set of one"}},
        "train": {"total_iter": 4},
        "val": {"metrics": {"psnr": {"test_y_channel": True}, "ssim": {"test_y_channel": True}}},
    }
    variants = [Variant(label, (), options) for label in ("RGT", "no CPE")]
    return Plan(Path("list.yml"), Path("base.yml"), tuple(variants), (1, 2))


def runs(plan: Plan, *psnr: float | None) -> list[Run]:
    """Of seed 1: RGT, no CPE; of seed 2: RGT, no CPE."""
    pairs = [(variant, seed) for seed in plan.seeds for variant in plan.variants]
    return [
        Run(
            variant,
            seed,
            Path(),
            None if value is None else {("Set of one", "psnr"): value, ("Set of one", "ssim"): 0.5},
        )
        for (variant, seed), value in zip(pairs, psnr, strict=True)
    ]


def test_differences_are_taken_seed_by_seed(plan):
    """The seeds lie 2 dB apart, the variants always 0.1."""
    text = as_markdown(plan, runs(plan, 30.0, 29.9, 32.0, 31.9))
    reference, other = text.splitlines()[2:4]
    assert "| 31.000 ± 1.414 | – | 0.5000 ± 0.0000 |" in reference
    assert "| 30.900 ± 1.414 | −0.100 ± 0.000 |" in other
    assert f"| {plan.variants[1].cost.parameters:,} |" in other


def test_what_is_missing_or_failed_is_said_and_left_out_of_the_means(plan):
    some = runs(plan, 30.0, 29.9, 32.0, None)
    assert "−0.100 |" in as_markdown(plan, some).splitlines()[3]
    assert "Not trained yet: no CPE (seed 2)" in as_markdown(plan, some)
    failed = [*some[:3], Run(plan.variants[1], 2, Path(), failure="it broke")]
    assert "- Failed: no CPE, seed 2: it broke" in as_markdown(plan, failed)


def test_csv_and_json_hold_the_numbers_in_full(plan):
    values = (30.0, 29.87654321, 32.0, 31.9)
    rows = list(csv.DictReader(io.StringIO(as_csv(plan, runs(plan, *values)))))
    assert [(row["variant"], row["metric"]) for row in rows] == [
        ("RGT", "psnr"),
        ("RGT", "ssim"),
        ("no CPE", "psnr"),
        ("no CPE", "ssim"),
    ]
    assert float(rows[2]["mean"]) == pytest.approx((29.87654321 + 31.9) / 2, abs=1e-9)
    assert rows[0]["difference"] == ""
    content = json.loads(as_json(plan, runs(plan, *values)))
    assert content["variants"][1]["results"][0]["mean"] == pytest.approx(float(rows[2]["mean"]), abs=1e-12)
    assert [run["seed"] for run in content["runs"]] == [1, 1, 2, 2]


def test_diverged_trainings_are_null_in_json(plan):
    content = json.loads(as_json(plan, runs(plan, math.nan, 30.0, 31.0, 32.0)))
    assert content["variants"][0]["results"][0]["mean"] is None
    assert content["runs"][0]["scores"]["Set of one"]["psnr"] is None
