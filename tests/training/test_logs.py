"""Logs of a run: log files, numbers that are written before the state that relies on them, one wandb run."""

from __future__ import annotations

import logging
import sys
import types
from unittest.mock import Mock

import pytest
import torch
from basicsr.utils import get_root_logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rgt_arch.errors import UserError
from rgt_arch.training import logs
from rgt_arch.training.logs import Numbers, StepLog, open_log, write_log

LOGGER = logging.getLogger("test")


@pytest.fixture
def opt(tmp_path):
    logger = {"use_tb_logger": True, "csv": True, "wandb": {"project": None}, "print_freq": 2}
    paths = {"experiments_root": str(tmp_path), "log": str(tmp_path)}
    return {"name": "run", "root_path": str(tmp_path), "rank": 0, "logger": logger, "path": paths} | {
        "train": {"total_iter": 1000}
    }


def drawn(folder, tag):
    events = EventAccumulator(str(folder / "tb_logger/run"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)] if tag in events.Tags()["scalars"] else []


def test_each_run_has_its_own_log_even_if_the_logger_was_used_before(opt, tmp_path, monkeypatch):
    """Also within the same second; waiting notices go to the first log only."""
    monkeypatch.setattr(logs, "get_time_str", lambda: "20260101_120000")
    get_root_logger().warning("too early")
    notices = ["said before there was a log"]
    for run in ("first", "second"):
        logger = open_log(opt, notices)
        assert len([*tmp_path.glob("*.log")]) == ["first", "second"].index(run)  # none before write_log
        write_log(opt, "train", logger)
        logger.info(run)
    one, two = ((tmp_path / f"train_run_20260101_120000{end}.log").read_text() for end in ("", "_2"))
    assert one.count("said before there was a log") == 1
    assert one.endswith("first\n")
    assert two.endswith("second\n")
    assert "said before" not in two
    assert notices == []
    assert get_root_logger() is logging.getLogger("basicsr")


def test_validation_results_are_written_at_once(opt, tmp_path):
    numbers = Numbers(opt, 0, LOGGER)
    numbers.add_scalar("losses/l_pix", 0.5, 1)
    numbers.add_scalar("metrics/Set5/psnr", 30.0, 3)
    assert drawn(tmp_path, "losses/l_pix") == [(1, 0.5)]
    assert drawn(tmp_path, "metrics/Set5/psnr") == [(3, 30.0)]
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1:] == ["3,Set5,psnr,30.0"]
    numbers.close()


def test_numbers_has_the_interface_of_summary_writer(opt, tmp_path):
    """With its argument names, and for images too; with a CSV alone, none of these calls raises."""
    for use_tb_logger in (True, False):
        opt["logger"].update(use_tb_logger=use_tb_logger)
        numbers = Numbers(opt, 0, LOGGER)
        numbers.add_scalar("mine", scalar_value=0.5, global_step=7, walltime=1.0)
        numbers.add_scalar("metrics/Set5/psnr", 30.0)
        numbers.add_scalar("other", 0.25, global_step=8, new_style=True)
        numbers.add_image("picture", torch.zeros(3, 4, 4), global_step=7)
        numbers.close()
        with pytest.raises(AttributeError):
            numbers.no_method_of_a_summary_writer  # noqa: B018
    assert drawn(tmp_path, "mine") == [(7, 0.5)]
    events = EventAccumulator(str(tmp_path / "tb_logger/run"))
    events.Reload()
    assert [event.step for event in events.Images("picture")] == [7]
    assert [event.step for event in events.Tensors("other")] == [8]
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1:] == []


def test_points_after_the_checkpoint_are_drawn_once(opt, tmp_path):
    for start, steps, value in ((0, (1, 2, 3, 4), 0.5), (2, (3, 4), 0.25)):
        numbers = Numbers(opt, start, LOGGER)
        for step in steps:
            numbers.add_scalar("losses/l_pix", value, step)
        numbers.close()
    assert drawn(tmp_path, "losses/l_pix") == [(1, 0.5), (2, 0.5), (3, 0.25), (4, 0.25)]


@pytest.mark.parametrize(("tensorboard", "csv", "rank"), [(True, False, 0), (False, True, 0), (True, True, 1)])
def test_files_are_written_only_if_enabled_and_only_by_rank_zero(opt, tmp_path, tensorboard, csv, rank):
    opt["rank"] = rank
    opt["logger"].update(use_tb_logger=tensorboard, csv=csv)
    numbers = Numbers(opt, 0, LOGGER)
    numbers.add_scalar("metrics/Set5/psnr", 30.0, 3)
    numbers.close()
    assert (tmp_path / "tb_logger").exists() is (tensorboard and not rank)
    assert (tmp_path / "metrics.csv").exists() is (csv and not rank)


def test_lines_and_rows_every_print_freq_iterations_with_eta_and_true_epochs(opt, tmp_path, monkeypatch):
    """The ETA is the recent time per iteration times the remaining iterations, whatever the time since the start."""
    numbers = Numbers(opt, 900, LOGGER)
    steps = StepLog(opt, 900, numbers, torch.device("cpu"))
    lines = []
    monkeypatch.setattr(steps._lines.logger, "info", lines.append)
    monkeypatch.setattr(steps._iteration_timer, "get_avg_time", lambda: 3661.0)
    model = types.SimpleNamespace(get_current_log=lambda: {"l_pix": 0.5}, get_current_learning_rate=lambda: [2e-4])
    for iteration in (901, 902, 999, 1000):
        steps.step_done(model, iteration, epoch=72)
    steps.close()
    numbers.close()
    assert [line.partition(", lr")[0] for line in lines] == [
        "[run..][epoch: 72, iter:     902",
        "[run..][epoch: 72, iter:   1,000",
    ]
    assert "[eta: 4 days, 3:39:3" in lines[0]  # 98 times 1:01:01
    assert "[eta: 0:00:00, " in lines[1]
    assert drawn(tmp_path, "losses/l_pix") == [(902, 0.5), (1000, 0.5)]
    rows = (tmp_path / "metrics.csv").read_text().splitlines()[1:]
    assert rows == ["902,,lr,0.0002", "902,,l_pix,0.5", "1000,,lr,0.0002", "1000,,l_pix,0.5"]


def test_tensorboard_on_a_full_disk_loses_points_and_the_run_continues(opt, tmp_path, monkeypatch, caplog):
    import torch.utils.tensorboard

    written, full, made = [], [], []

    class Writer:
        def __init__(self, folder, purge_step):
            made.append((folder, purge_step))

        def add_scalar(self, *values):
            if full:
                raise OSError(28, "No space left on device")
            written.append(values)

        def flush(self):
            pass

        close = flush

    monkeypatch.setattr(torch.utils.tensorboard, "SummaryWriter", Writer)
    numbers = Numbers(opt, 3, LOGGER)
    for step in range(5):
        full[:] = [True] if step in (1, 2) else []
        numbers.add_scalar("loss", 0.5, step)
    numbers.close()
    assert [step for _, _, step in written] == [0, 3, 4]
    folder = str(tmp_path / "tb_logger/run")
    assert caplog.messages == [f"{folder}: cannot be written (No space left on device); curves have a gap"]
    assert made == [(folder, 4)] * 3  # at the start, and for each attempt after a failure


@pytest.fixture
def wandb(monkeypatch):
    """A fake wandb that records the calls of `init`; the real one needs an account."""
    calls = []

    class Error(Exception):
        pass

    def init(**keywords):
        calls.append(keywords)

    module = types.SimpleNamespace(init=init, Error=Error, calls=calls)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_resumed_training_continues_its_wandb_run(opt, wandb):
    opt["logger"]["wandb"]["project"] = "mine"
    for start_iter, resume_id in ((0, None), (5, None), (0, None), (7, ""), (9, "other")):
        opt["logger"]["wandb"]["resume_id"] = resume_id
        Numbers(opt, start_iter, LOGGER).close()
    Numbers({**opt, "rank": 1}, 0, LOGGER).close()
    first, again, second, once_more, named = (call["id"] for call in wandb.calls)
    assert first == again != second == once_more
    assert named == "other"
    assert all(call["sync_tensorboard"] and call["resume"] == "allow" for call in wandb.calls)


def test_error_of_wandb_is_reported_in_one_line(opt, wandb, monkeypatch):
    opt["logger"]["wandb"]["project"] = "mine"
    refused = wandb.Error("No API key configured.\nUse `wandb login` to log in.")
    monkeypatch.setattr(wandb, "init", Mock(side_effect=refused))
    with pytest.raises(UserError, match=r"logger:wandb: No API key .* in; or set WANDB_MODE=offline, or project: ~$"):
        Numbers(opt, 0, LOGGER)
