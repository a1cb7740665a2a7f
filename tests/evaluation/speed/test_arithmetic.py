"""Counted operations are those of the official network; the agreement check tells equal from different."""

from __future__ import annotations

import pytest
import torch

from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.errors import UserError
from rgt_arch.evaluation.speed import arithmetic
from rgt_arch.evaluation.speed.agreement import Agreement, compare, require
from rgt_arch.evaluation.speed.arithmetic import best_rates, counting, plain_flops
from rgt_arch.evaluation.speed.clock import in_turns
from rgt_arch.evaluation.speed.networks import build, random_images
from rgt_arch.evaluation.speed.report import table
from rgt_arch.evaluation.speed.settings import Size

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [Size(32, 64), Size(72, 80)])
def test_plain_operations_are_those_that_the_official_forward_does(size):
    """With the heads of RGT, 15 and 30 wide, which ours pads; 72×80 does not divide into windows."""
    config = {**PRESETS["RGT"], "depth": [2], "num_heads": [6], "upscale": 2}
    official = build("official", config, 0, CPU)
    with counting() as counter:
        official(random_images(size, config, 0, CPU))
    assert plain_flops(config, size) == counter.get_total_flops()


def test_best_rates_are_operations_over_seconds(monkeypatch):
    monkeypatch.setattr(arithmetic, "_SHAPES", dict.fromkeys(arithmetic.KINDS, ((8, 16, 4), (16, 16, 4))))
    monkeypatch.setattr(arithmetic, "seconds", lambda work, device: 0.5)
    products = {kind: 2 * 16 * 16 * 16 * (9 if kind == "conv3x3" else 1) for kind in arithmetic.KINDS}
    assert best_rates(CPU, ["fp32"]) == {"fp32": {kind: count / 0.5 for kind, count in products.items()}}
    for kind, count in products.items():
        work, flops = arithmetic._product(kind, 16, 16, 4, "bf16", CPU)
        with counting() as counter:
            work()
        assert flops == counter.get_total_flops() == count


def test_runs_alternate_and_turn_round():
    order = []
    works = {name: lambda name=name: order.append(name) for name in "abc"}
    times = in_turns(works, 3, CPU, lambda: None)
    assert "".join(order) == "abccbaabc"
    assert [len(values) for values in times.values()] == [3, 3, 3]


def test_weights_of_both_makers_are_equal_and_every_part_matters(tiny):
    ours, theirs = (build(maker, tiny.config(), 3, CPU) for maker in ("ours", "official"))
    for (name, mine), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.equal(mine, other), name
        assert mine.abs().max() > 0.01, name


def test_psnr_and_difference_of_known_outputs():
    reference = torch.tensor([0.0, 2.0])
    agreement = compare(torch.tensor([0.02, 2.0]), reference)
    assert agreement.difference == pytest.approx(0.02)
    assert agreement.psnr == pytest.approx(40 + 10 * torch.log10(torch.tensor(2.0)).item(), abs=1e-3)
    assert compare(reference, reference) == Agreement(0.0, None)


@pytest.mark.parametrize(
    ("agreement", "dtype", "words"),
    [
        (Agreement(2e-4, 80.0), "fp32", r"outputs differ at 8×8: max \|difference\| 2.0e-04 > 1e-04"),
        (Agreement(float("nan"), float("nan")), "fp32", "outputs differ"),
        (Agreement(0.5, 39.0), "bf16", "PSNR 39.0 dB < 40 dB"),
        (Agreement(float("nan"), float("nan")), "bf16", "PSNR nan"),
    ],
)
def test_what_is_not_rounding_is_refused(agreement, dtype, words):
    with pytest.raises(UserError, match=words):
        require(agreement, dtype, Size(8, 8))


def test_rounding_is_allowed():
    require(Agreement(9e-5, 90.0), "fp32", "")
    require(Agreement(0.0, None), "bf16", "")
    require(Agreement(0.3, 41.0), "bf16", "")


def test_table_columns_are_aligned():
    assert table(("", "s", "GB"), [("a", "1.00", "–"), ("long", "12.00", "3")]).splitlines() == [
        "          s  GB",
        "a      1.00   –",
        "long  12.00   3",
    ]
