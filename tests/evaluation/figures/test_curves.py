"""`rgt figure curves`: the points of BasicSR's own loggers, of resumed runs, and inputs that do not fit."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from basicsr.models.sr_model import SRModel
from basicsr.utils.logger import MessageLogger
from rgt_arch.basicsr_compat.training_loop import TrainingLoader
from torch.utils.tensorboard import SummaryWriter

from rgt_arch.evaluation.figures.curves import smoothed
from rgt_arch.evaluation.figures.training_logs import read_runs

FORMAT = logging.Formatter("%(asctime)s %(levelname)s: %(message)s")


def write_run(
    folder: Path,
    time: str,
    iterations: Iterable[int],
    offset: float = 0.0,
    *,
    print_freq: int = 100,
    val_freq: int = 250,
    resumed: int = 0,
    owed: bool = False,
) -> None:
    """Log and TensorBoard file of a run as BasicSR's own logger and validation write them."""
    folder.mkdir(exist_ok=True)
    logger = logging.getLogger("basicsr")
    file = logging.FileHandler(folder / f"train_mine_{time}.log", "w")
    file.setFormatter(FORMAT)
    logger.addHandler(file)
    writer = SummaryWriter(str(folder.parent / f"tb_{folder.name}"))
    opt = {"name": "mine", "logger": {"print_freq": print_freq, "use_tb_logger": True}, "train": {"total_iter": 1000}}
    message = MessageLogger(opt, tb_logger=writer)
    model = SRModel.__new__(SRModel)
    model.opt = {"val": {"metrics": {"psnr": {}}}}
    logger.info("\n  val:[\n    val_freq: %s\n  ]\n", float(val_freq))

    def validate(val_loader: str, iteration: int, *_: object) -> None:
        model.metric_results = {"psnr": 20 + iteration / 100 + offset}
        model._log_validation_metric_values(iteration, val_loader, writer)

    if resumed:
        logger.info(f"Resuming training from epoch: 0, iter: {resumed}.")  # train.py:133
    if owed:
        loop = TrainingLoader([], {"start_iter": resumed, "val": {"save_img": False}}, ["Set5", "my set"])
        loop.model = SimpleNamespace(validation=validate)
        loop._validate()
    for iteration in iterations:
        if iteration % print_freq == 0:
            loss = {"epoch": 0, "iter": iteration, "lrs": [2e-4], "time": 0.1, "data_time": 0.0}
            message({**loss, "l_pix": 1 / iteration + offset, "l_total": 2.0})
        if iteration % val_freq == 0:
            for name in ("Set5", "my set"):
                validate(name, iteration)
    writer.close()
    logger.removeHandler(file)
    file.close()


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """BasicSR's logger at the level of its commands."""
    logger = logging.getLogger("basicsr")
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger._cache.clear()  # type: ignore[attr-defined]


@pytest.mark.parametrize("source", ["run", "tb_run"])
def test_points_are_those_the_run_logged(tmp_path, source):
    write_run(tmp_path / "run", "20260101_100000", range(1, 1001))
    series = read_runs([str(tmp_path / source)])[0].series
    assert list(series["l_pix", ""]) == list(range(100, 1001, 100))
    assert series["l_pix", ""][300] == pytest.approx(1 / 300, rel=1e-3)
    assert series["psnr", "Set5"] == pytest.approx({250: 22.5, 500: 25, 750: 27.5, 1000: 30})
    assert series["psnr", "my set"] == pytest.approx(series["psnr", "Set5"])


@pytest.mark.parametrize("source", ["run", "tb_run"])
def test_of_a_resumed_run_the_later_values_count(tmp_path, source, monkeypatch):
    write_run(tmp_path / "run", "20260101_100000", range(1, 800))  # killed; its last state is that of 500
    import time

    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 60)
    write_run(tmp_path / "run", "20260101_110000", range(501, 651), offset=1.0)
    series = read_runs([f"resumed={tmp_path / source}"])[0].series
    assert list(series["l_pix", ""]) == list(range(100, 601, 100))
    assert series["l_pix", ""][500] < 0.5 < series["l_pix", ""][600]
    assert series["psnr", "Set5"] == pytest.approx({250: 22.5, 500: 25})


def test_validations_more_often_than_printed_lines_keep_their_iterations(tmp_path):
    write_run(tmp_path / "run", "20260101_100000", range(1, 401), print_freq=200, val_freq=50)
    log = next((tmp_path / "run").glob("*.log"))
    assert list(read_runs([str(log)])[0].series["psnr", "Set5"]) == list(range(50, 401, 50))


@pytest.mark.parametrize("owed", [False, True])
@pytest.mark.parametrize("start_iter", [False, True])
def test_first_validation_of_a_resumed_run_has_its_iteration_without_printed_lines(tmp_path, owed, start_iter):
    """Saved at 100 and resumed: the first validation is that of 150, or of 100 if that was not over when it ended."""
    write_run(tmp_path / "run", "20260101_100000", range(1, 120), print_freq=200, val_freq=50)
    write_run(
        tmp_path / "run", "20260101_110000", range(101, 240), 1.0, print_freq=200, val_freq=50, resumed=100, owed=owed
    )
    later = max((tmp_path / "run").glob("*.log"))
    if start_iter:  # which the options in the log have, if not the line
        text = later.read_text("utf-8").replace("    val_freq", "  start_iter: 100\n    val_freq")
        later.write_text("".join(line for line in text.splitlines(True) if "Resuming" not in line), "utf-8")
    points = {50: 20.5, 100: 22 if owed else 21, 150: 22.5, 200: 23}
    assert read_runs([str(tmp_path / "run")])[0].series["psnr", "Set5"] == pytest.approx(points)
    del points[50]
    assert read_runs([str(later)])[0].series["psnr", "my set"] == pytest.approx(
        points if owed else {150: 22.5, 200: 23}
    )


def test_validation_owed_at_an_end_that_val_freq_does_not_divide_is_of_the_end(tmp_path):
    write_run(tmp_path / "run", "20260101_100000", [], val_freq=250, resumed=600, owed=True)
    assert read_runs([str(tmp_path / "run")])[0].series["psnr", "Set5"] == {600: 26}


def test_log_that_was_cut_in_a_number_ends_before_it(tmp_path):
    """1.2345e-02 must not become 1.2."""
    write_run(tmp_path / "run", "20260101_100000", range(1, 501))
    log = next((tmp_path / "run").glob("*.log"))
    content = log.read_bytes()
    whole = read_runs([str(log)])[0].series
    for cut in range(content.index(b"iter:     300,"), len(content), 7):
        log.write_bytes(content[:cut])
        for key, points in read_runs([str(log)])[0].series.items():
            assert points.items() <= whole[key].items()


def test_best_validation_is_a_number_and_what_is_asked_for_twice_is_drawn_once(figure, tmp_path):
    write_run(tmp_path / "run", "20260101_100000", range(1, 1001))
    log = next((tmp_path / "run").glob("*.log"))
    log.write_text(log.read_text("utf-8").replace("psnr: 22.5000", "psnr: nan"), "utf-8")
    said = figure("curves", log, "--show", "psnr", "psnr", "loss", "l_pix")
    assert "Set5 psnr: 4 values, 30 at 1000, highest 30 at 1000" in said
    assert said.count("l_pix") == 1


def test_smoothing_is_tensorboards_and_skips_nan():
    assert smoothed([3.0, 3.0, float("nan"), 3.0], 0.9) == pytest.approx([3, 3, 3, 3])
    assert smoothed([0.0, 1.0], 0.5) == pytest.approx([0, 2 / 3])
    assert np.array_equal(smoothed([1.0, 5.0], 0.0), [1, 5])


def test_several_runs_are_drawn_with_their_labels(figure, tmp_path):
    write_run(tmp_path / "run", "20260101_100000", range(1, 1001))
    write_run(tmp_path / "other", "20260101_100000", range(1, 501), offset=1.0)
    said = figure("curves", "with $x$=run", "other", "--show", "loss", "psnr", "lr", "-o", "curves.svg")
    assert "with $x$: Set5 psnr: 4 values, 30 at 1000, highest 30 at 1000" in said
    assert "other: l_pix: 5 values" in said
    drawn = Path("curves.svg").read_text("utf-8")
    for label in ("with $x$", "other", "PSNR (dB), Set5", "PSNR (dB), my set", "l_pix", "l_total", "learning rate"):
        assert f"<!-- {label} -->" in drawn or label in drawn
    figure("curves", "run", "other", "--log", "--from", "200", "--smooth", "0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["."], "there is no train_*.log"),
        (["notes.txt"], "there are no losses"),
        (["run", "--show", "lpips"], "--show lpips: the runs have no such values; they have"),
        (["run", "--smooth", "1"], "--smooth 1: must be from 0"),
        (["run", "--from", "2000"], "--from 2000: run ends before"),
        (["run", "run"], "two runs have this name"),
        (["x" * 300], "no such file or folder"),
        (["x" * 300 + "=nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_what_does_not_fit_is_named(figure, tmp_path, arguments, message):
    write_run(tmp_path / "run", "20260101_100000", range(1, 301))
    (tmp_path / "notes.txt").write_text("no log\n")
    said = figure("curves", *arguments, code=2)
    assert message in said
    assert said.count("\n") == 1
