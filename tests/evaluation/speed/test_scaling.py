"""Fitted growth, and the picture of it."""

from __future__ import annotations

import numpy as np
import pytest

from rgt_arch.evaluation.speed import scaling
from rgt_arch.evaluation.speed.apart import Outcome
from rgt_arch.evaluation.speed.scaling import Growth, ScalingSettings, growth, measure_scaling
from rgt_arch.evaluation.speed.scaling_plot import Curve, Panel, scaling_plot
from rgt_arch.evaluation.speed.settings import Size


@pytest.mark.parametrize("exponent", [0.9, 1.0, 2.0])
def test_exponent_of_a_power_law_is_found(exponent):
    fit = growth([(pixels, 3 * pixels**exponent) for pixels in (300, 100, 1000, 9000)])
    assert fit is not None
    assert fit.exponent == pytest.approx(exponent)


def test_largest_step_is_by_pixel_between_neighbours():
    fit = growth([(100, 1.0), (200, 2.0), (220, 3.3), (440, 6.6)])
    assert fit is not None
    assert (fit.largest_step, fit.step_from, fit.step_to) == (pytest.approx(1.5), 200, 220)


def test_one_size_has_no_growth():
    assert growth([(100, 1.0), (100, 2.0)]) is None
    assert growth([]) is None


def test_what_ran_out_of_memory_is_shown_and_left_out_of_the_fit(tiny, monkeypatch, capsys):
    def measured(task):
        pixels = task.size[0] * task.size[1]
        if task.maker == "official" and pixels > 10_000:
            return Outcome(needed=5 * 10**9)
        factor = 4 if task.maker == "official" else 1
        return Outcome(memory=factor * 1000 * pixels, seconds=factor * 1e-4 * pixels)

    monkeypatch.setattr(scaling, "run_apart", measured)
    settings = ScalingSettings("rgt_t", 2, peer=True, device="cpu", sizes=("64x64", "32x32", "128x128"))
    scaling.run_scaling(settings)
    out = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split()[-4:] for line in out.splitlines() if "float32" in line}
    assert rows["32×32 ours float32"] == ["0.102", "0.001", "4.00", "0.250"]
    assert "128×128 official float32" in rows
    assert "out of memory (needed > 5.00 GB)" in out
    assert "official: memory grows with pixels^1.000; largest step between neighbours: ×1.00 a pixel" in out
    assert "from 1024 to 4096 pixels" in out


def test_each_size_and_network_is_measured_once_in_a_process_of_its_own(tiny, monkeypatch):
    tasks = []
    monkeypatch.setattr(scaling, "run_apart", lambda task: tasks.append(task) or Outcome(1, 1.0))
    settings = ScalingSettings("rgt_t", 2, peer=True, device="cpu", rounds=4, memory_limit=0.5, dtype="bf16")
    measure_scaling(settings, [Size(32, 64)])
    assert [(task.maker, task.size, task.rounds, task.allowed, task.dtype) for task in tasks] == [
        (maker, (32, 64), 4, 500_000_000, "bf16") for maker in ("official", "ours")
    ]


def test_plot_has_each_curve_in_its_colour_and_place():
    points = [(1000, 1.0), (10_000, 10.0)]
    curves = [Curve("official", "official", [(x, 4 * y) for x, y in points]), Curve("ours", "ours", points)]
    picture = np.asarray(scaling_plot("title", [Panel("Time", "s", curves), Panel("Memory", "GB", [])]))
    below_legend = picture[110:].astype(int)

    def rows(colour):
        return np.nonzero((abs(below_legend - colour) < 30).all(axis=-1))[0]  # thin lines are blended with the ground

    ours, official = rows((0x00, 0x72, 0xB2)), rows((0xD5, 0x5E, 0x00))
    assert ours.size
    assert official.size
    assert official.mean() < ours.mean(), "the larger values stand higher"


def test_growth_is_plain_data():
    assert growth([(1, 1.0), (2, 2.0)]) == Growth(pytest.approx(1.0), pytest.approx(1.0), 1, 2)
