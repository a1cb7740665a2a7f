"""What a run logs as numbers: complete before a state says so, once after a resume, and one run of wandb."""

from __future__ import annotations

import sys
import types

import basicsr.train
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rgt_arch.basicsr_compat import curves, training_loop, wandb_runs
from rgt_arch.errors import UserError


@pytest.fixture
def opt(tmp_path):
    logger = {"use_tb_logger": True, "csv": True, "wandb": {"project": None}}
    return {"name": "run", "root_path": str(tmp_path), "rank": 0, "logger": logger} | {
        "path": {"experiments_root": str(tmp_path)}
    }


def drawn(folder, tag):
    events = EventAccumulator(str(folder / "tb_logger/run"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)] if tag in events.Tags()["scalars"] else []


def test_a_validation_is_in_the_files_at_once(opt, tmp_path):
    log = basicsr.train.init_tb_loggers(opt)
    log.add_scalar("losses/l_pix", 0.5, 1)
    log.add_scalar("metrics/Set5/psnr", 30.0, 3)
    assert drawn(tmp_path, "losses/l_pix") == [(1, 0.5)]
    assert drawn(tmp_path, "metrics/Set5/psnr") == [(3, 30.0)]
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1:] == ["3,Set5,psnr,30.0"]
    log.close()


def test_models_log_to_it_as_to_a_summary_writer(opt, tmp_path):
    """By its argument names, and what is no number: nothing of it is an error where there is a CSV alone."""
    for use_tb_logger in (True, False):
        opt["logger"].update(use_tb_logger=use_tb_logger)
        log = basicsr.train.init_tb_loggers({**opt, "start_iter": 0})
        log.add_scalar("mine", scalar_value=0.5, global_step=7, walltime=1.0)
        log.add_scalar("metrics/Set5/psnr", 30.0)
        log.add_scalar("other", 0.25, global_step=8, new_style=True)
        log.add_image("picture", torch.zeros(3, 4, 4), global_step=7)
        log.close()
        assert hasattr(log, "log_dir") is use_tb_logger
    assert drawn(tmp_path, "mine") == [(7, 0.5)]
    events = EventAccumulator(str(tmp_path / "tb_logger/run"))
    events.Reload()
    assert [event.step for event in events.Images("picture")] == [7]
    assert [event.step for event in events.Tensors("other")] == [8]
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1:] == []


def test_numbers_are_in_the_files_before_the_state_that_goes_on_from_them(monkeypatch):
    monkeypatch.setattr(training_loop, "_current", None)
    done = []
    loader = training_loop.TrainingLoader([], {}, [])
    loader.tb_logger = curves.Curves(types.SimpleNamespace(flush=lambda: done.append("flush")), csv=None)
    methods = {name: lambda *_, name=name: done.append(name) for name in ("optimize_parameters", "save", "validation")}
    model = training_loop.following_model(lambda _: types.SimpleNamespace(**methods))({})
    model.save(0, 3)
    assert done == ["flush", "save"]


def test_points_after_the_checkpoint_are_drawn_once(opt, tmp_path):
    log = basicsr.train.init_tb_loggers(opt)
    for step in (1, 2, 3, 4):
        log.add_scalar("losses/l_pix", 0.5, step)
    log.close()
    log = basicsr.train.init_tb_loggers({**opt, "start_iter": 2})
    for step in (3, 4):
        log.add_scalar("losses/l_pix", 0.25, step)
    log.close()
    assert drawn(tmp_path, "losses/l_pix") == [(1, 0.5), (2, 0.5), (3, 0.25), (4, 0.25)]


@pytest.mark.parametrize(("tensorboard", "csv"), [(True, False), (False, True), (False, False)])
def test_each_file_is_written_where_it_is_asked_for(opt, tmp_path, tensorboard, csv):
    opt["logger"].update(use_tb_logger=tensorboard, csv=csv)
    log = basicsr.train.init_tb_loggers(opt)
    assert (log is None) is not (tensorboard or csv)
    assert (tmp_path / "tb_logger").exists() is tensorboard
    assert (tmp_path / "metrics.csv").exists() is csv
    assert curves.going_on(lambda _: None)({**opt, "rank": 1}) is None


@pytest.fixture
def wandb(monkeypatch):
    """wandb, which needs an account: its `init` is what is called."""
    calls = []

    class Error(Exception):
        pass

    def init(**keywords):
        calls.append(keywords)
        return types.SimpleNamespace(id=keywords["id"] or f"id{len(calls)}", project=keywords["project"])

    module = types.SimpleNamespace(init=init, Error=Error, calls=calls)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_a_resumed_training_goes_on_with_its_wandb_run(opt, wandb):
    opt["logger"]["wandb"]["project"] = "mine"
    assert basicsr.train.init_wandb_logger is wandb_runs.init_wandb_logger
    for start_iter, resume_id in ((0, None), (5, None), (0, None), (7, ""), (9, "other")):
        opt["logger"]["wandb"]["resume_id"] = resume_id
        basicsr.train.init_tb_loggers({**opt, "start_iter": start_iter}).close()
    basicsr.train.init_wandb_logger({**opt, "rank": 1})
    assert [call["id"] for call in wandb.calls] == [None, "id1", None, "id3", "other"]
    assert all(call["sync_tensorboard"] and call["resume"] == "allow" for call in wandb.calls)


def test_what_wandb_refuses_is_told_in_one_line(opt, wandb, monkeypatch):
    opt["logger"]["wandb"]["project"] = "mine"

    def refuse(**_):
        raise wandb.Error("No API key configured.\nUse `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match=r"logger:wandb: No API key .* in; or set WANDB_MODE=offline, or project: ~$"):
        basicsr.train.init_tb_loggers(opt)
