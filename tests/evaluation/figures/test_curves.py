"""`rgt figure curves`: points of metrics.csv and TensorBoard files, and wrong inputs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from rgt_arch.evaluation.figures.curves import read_runs, smoothed
from rgt_arch.evaluation.training_runs import HEADER


def write_run(folder: Path, iterations: Iterable[int], offset: float = 0.0) -> None:
    """Write metrics.csv and a TensorBoard file; the run prints every 100 and validates every 250 iterations."""
    folder.mkdir(exist_ok=True)
    rows = [",".join(HEADER)]
    writer = SummaryWriter(str(folder.parent / f"tb_{folder.name}"))
    for iteration in iterations:
        values = {}
        if iteration % 100 == 0:
            values = {("", "l_pix"): 1 / iteration + offset, ("", "l_total"): 2.0, ("", "lr"): 2e-4}
        if iteration % 250 == 0:
            values |= {(name, "psnr"): 20 + iteration / 100 + offset for name in ("Set5", "my set")}
        for (dataset, name), value in values.items():
            rows.append(f"{iteration},{dataset},{name},{value!r}")
            if name != "lr":
                writer.add_scalar(f"metrics/{dataset}/{name}" if dataset else f"losses/{name}", value, iteration)
    writer.close()
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("source", ["run", "run/metrics.csv", "tb_run"])
def test_points_equal_the_values_of_the_run(tmp_path, source):
    write_run(tmp_path / "run", range(1, 1001))
    (run,) = read_runs([str(tmp_path / source)])
    assert run.label == source.split("/")[0]
    assert list(run.series["l_pix", ""]) == list(range(100, 1001, 100))
    assert run.series["l_pix", ""][300] == pytest.approx(1 / 300, rel=1e-3)
    assert run.series["psnr", "Set5"] == pytest.approx({250: 22.5, 500: 25, 750: 27.5, 1000: 30})
    assert run.series["psnr", "my set"] == pytest.approx(run.series["psnr", "Set5"])


def test_later_tensorboard_values_of_a_resumed_run_replace_earlier_ones(tmp_path, monkeypatch):
    write_run(tmp_path / "run", range(1, 800))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 60)
    write_run(tmp_path / "run", range(501, 851), offset=1.0)
    points = read_runs([f"resumed={tmp_path / 'tb_run'}"])[0].series["l_pix", ""]
    assert list(points) == list(range(100, 801, 100))
    assert points[500] < 0.5 < points[600]


@pytest.mark.parametrize(
    ("tags", "keys"),
    [
        (
            ("metrics/Set5/psnr", "losses/l_g_pix", "out_d_real"),
            {("l_g_pix", ""), ("out_d_real", ""), ("psnr", "Set5")},
        ),
        (
            ("metrics/psnr", "metrics/ssim", "losses/l_pix"),
            {("l_pix", ""), ("psnr", "validation"), ("ssim", "validation")},
        ),
        (("metrics/psnr", "metrics/psnr/000", "metrics/psnr/011"), {("psnr", "validation")}),
        (("m_psnr", "losses/l_pix"), {("l_pix", ""), ("psnr", "validation")}),
        (("Set5/m_psnr",), {("psnr", "Set5")}),
    ],
    ids=["BasicSR, HAT, Real-ESRGAN", "older BasicSR", "videos", "NAFNet", "with data set"],
)
def test_tensorboard_values_of_other_projects_are_drawn(figure, tmp_path, tags, keys):
    with SummaryWriter(str(tmp_path / "tb_logger/run")) as writer:
        for tag in tags:
            for iteration in (1, 2):
                writer.add_scalar(tag, iteration / 2, iteration)
    assert set(read_runs(["tb_logger/run"])[0].series) == keys
    said = figure("curves", "tb_logger/run")
    for name, dataset in keys - {("out_d_real", ""), ("ssim", "validation")}:  # drawn with --show
        best = ", highest 1 at 2" if dataset else ""
        assert f"run: {f'{dataset} {name}'.strip()}: 2 values, 1 at 2{best}\n" in said


def test_best_validation_ignores_nan_and_repeated_series_are_drawn_once(figure, tmp_path):
    write_run(tmp_path / "run", range(1, 1001))
    file = tmp_path / "run/metrics.csv"
    file.write_text(file.read_text().replace("psnr,22.5", "psnr,nan"))
    said = figure("curves", "run", "--show", "psnr", "psnr", "loss", "l_pix")
    assert "Set5 psnr: 4 values, 30 at 1000, highest 30 at 1000" in said
    assert said.count("l_pix") == 1


def test_smoothing_equals_tensorboard_and_skips_nan():
    assert smoothed([3.0, 3.0, float("nan"), 3.0], 0.9) == pytest.approx([3, 3, 3, 3])
    assert smoothed([0.0, 1.0], 0.5) == pytest.approx([0, 2 / 3])
    assert np.array_equal(smoothed([1.0, 5.0], 0.0), [1, 5])


def test_several_runs_are_drawn_with_their_labels(figure, tmp_path):
    write_run(tmp_path / "run", range(1, 1001))
    write_run(tmp_path / "other", range(1, 501), offset=1.0)
    said = figure("curves", "with $x$=run", "other", "--show", "loss", "psnr", "lr", "-o", "curves.svg")
    assert "with $x$: Set5 psnr: 4 values, 30 at 1000, highest 30 at 1000" in said
    assert "other: l_pix: 5 values" in said
    drawn = Path("curves.svg").read_text("utf-8")
    for label in ("with $x$", "other", "PSNR (dB), Set5", "PSNR (dB), my set", "l_pix", "l_total", "learning rate"):
        assert f"<!-- {label} -->" in drawn or label in drawn
    figure("curves", "run", "other", "--log", "--from", "200", "--smooth", "0")


def test_axis_of_close_values_shows_the_values(figure, tmp_path):
    rows = [",".join(HEADER), *(f"{iteration},Set5,psnr,{32.251 + iteration / 1e6}" for iteration in range(1, 300))]
    (tmp_path / "metrics.csv").write_text("\n".join(rows))
    figure("curves", "metrics.csv", "-o", "curves.svg")
    drawn = Path("curves.svg").read_text("utf-8")
    assert "<!-- 32.2511" in drawn
    assert "e1 -->" not in drawn


def test_wrong_inputs_are_named_in_one_line(figure, tmp_path):
    write_run(tmp_path / "run", range(1, 301))
    (tmp_path / "notes.txt").write_text("no log\n")
    for arguments, message in [
        (["nowhere"], "nowhere: no such file or folder"),
        (["."], "there is no metrics.csv"),
        (["notes.txt"], "notes.txt: cannot be read as the metrics.csv of a run: does not begin with iteration,dataset"),
        (["run", "--show", "lpips"], "--show lpips: the runs have no such values; they have l_pix, l_total, loss"),
        (["run", "--smooth", "1"], "--smooth 1: must be from 0"),
        (["run", "--from", "2000"], "--from 2000: run ends before"),
        (["run", "run"], "two runs have this name"),
        (["x" * 300 + "=nowhere"], "nowhere: no such file or folder"),
    ]:
        said = figure("curves", *arguments, code=2)
        assert message in said
        assert said.count("\n") == 1
