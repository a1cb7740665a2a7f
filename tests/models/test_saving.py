"""Which checkpoints stay, and what a run does with a disk that takes no more."""

from __future__ import annotations

import errno
import os

import pytest
import torch

from rgt_arch.errors import UserError
from rgt_arch.torch_files import load_data_only


def step(model, batch, iteration):
    model.update_learning_rate(iteration)
    model.feed_data(batch(2))
    model.optimize_parameters(iteration)


def files(tmp_path):
    return sorted(path.name for path in tmp_path.glob("*s/*"))


def test_only_the_newest_checkpoints_stay(build, batch, tmp_path):
    model = build(logger={"keep_checkpoints": 2})
    (tmp_path / "models/net_g_9.pth").write_text("of a longer run before")
    (tmp_path / "training_states/9.state").write_text("of a longer run before")
    (tmp_path / "models/net_g_1.pth").write_text("without a state, so not of our making")
    for iteration in (2, 3, 4):
        step(model, batch, iteration)
        assert model.save(0, iteration)
    model.save(-1, -1)
    networks = ["net_g_1.pth", "net_g_3.pth", "net_g_4.pth", "net_g_9.pth", "net_g_latest.pth"]
    assert files(tmp_path) == ["3.state", "4.state", "9.state", *networks]


def test_the_checkpoint_before_the_latest_has_an_epoch_to_go_on_from(build, batch, tmp_path):
    """BasicSR's loop ends with `save(epoch=-1, current_iter=-1)`; it goes on in `range(epoch of the state, ...)`."""

    def saved_epoch(iteration):
        return torch.load(tmp_path / f"training_states/{iteration}.state", weights_only=True)["epoch"]

    model = build()
    step(model, batch, 1)
    model.save(epoch=-1, current_iter=-1)
    assert saved_epoch(1) == 0
    step(model, batch, 2)
    model.save(epoch=3, current_iter=2)
    state = torch.load(tmp_path / "training_states/2.state", weights_only=True)
    (tmp_path / "training_states/2.state").unlink()
    resumed = build()
    resumed.resume_training(state)
    for going_on in (model, resumed):
        step(going_on, batch, 4)
        going_on.save(epoch=-1, current_iter=-1)
        assert saved_epoch(4) == 3
        (tmp_path / "training_states/4.state").unlink()


def test_the_best_weights_by_a_metric_stay(build, batch, loader, tmp_path, monkeypatch, log):
    datasets = {"val": {"name": "Set"}, "val_2": {"name": "Other"}}
    model = build(logger={"keep_best": "psnr", "keep_checkpoints": 1}, datasets=datasets)
    sets = loader(1), loader(1, name="Other")
    values = iter([20.0, 40.0, 30.0, 10.0, 20.0, 50.0])
    monkeypatch.setattr("rgt_arch.models.validation.calculate_metric", lambda *_: next(values))
    for iteration in (1, 2, 3):
        step(model, batch, iteration)
        for data in sets:
            model.validation(data, iteration, None, False)
    best = torch.load(tmp_path / "models/net_g_best.pth", weights_only=True)
    assert best["rgt_info"]["iteration"] == 2
    assert [line for line in log if "net_g_best" in line][-1] == "Saved net_g_best.pth: psnr 30.0000 at iteration 2"


@pytest.fixture
def full(monkeypatch):
    """A disk that is full for files whose names hold a word of the list."""
    words: list[str] = []
    replace = os.replace

    def refuse(source, target):
        if any(word in str(target) for word in words):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    return words


@pytest.mark.parametrize("word", [".pth", ".state"])
def test_full_disk_keeps_the_last_checkpoint_and_the_next_save_tries_again(build, batch, tmp_path, full, log, word):
    model = build(logger={"keep_checkpoints": 1})
    for iteration in (1, 2, 3, 4, 5):
        full[:] = [word] if iteration in (2, 3) else []
        step(model, batch, iteration)
        assert model.save(0, iteration) is (iteration not in (2, 3))
        kept = iteration if iteration > 3 else 1
        assert files(tmp_path) == [f"{kept}.state", f"net_g_{kept}.pth"]
    said = [line for line in log if "is not saved" in line]
    assert [line.split(":")[0] for line in said] == ["iteration 2 is not saved", "iteration 3 is not saved"]
    assert "No space left on device; nothing was changed; the last checkpoint, 1, is kept; the next save" in said[0]
    assert said[1].endswith("tries again (2 of 3 failures that end the run)")


def test_third_failure_in_a_row_ends_the_run(build, batch, tmp_path, full):
    model = build()
    step(model, batch, 1)
    model.save(0, 1)
    full[:] = [".state"]
    assert not model.save(0, 2)
    assert not model.save(0, 3)
    with pytest.raises(
        UserError, match=r"4\.state: .*No space left.*3 saves in a row failed; the last checkpoint, 1, "
    ):
        model.save(0, 4)
    assert files(tmp_path) == ["1.state", "net_g_1.pth"]


def test_a_checkpoint_and_the_best_weights_of_an_iteration_are_one_failure(build):
    keeper = build().keeper
    for iteration in (10, 10, 20, 20):
        assert not keeper.attempt(fail, iteration)
    with pytest.raises(UserError, match="3 saves in a row failed"):
        keeper.attempt(fail, 30)


def fail() -> None:
    raise UserError("net.pth: cannot be written: No space left on device; nothing was changed")


def test_a_learning_rate_that_a_resumed_schedule_does_not_use_is_told(build, batch, tmp_path, log):
    model = build()
    step(model, batch, 1)
    model.save(0, 1)
    state = load_data_only(next(tmp_path.rglob("1.state")))
    for rate, told in ((model.opt["train"]["optim_g"]["lr"], False), (7e-3, True)):
        log.clear()
        build(train={"optim_g": {"type": "Adam", "lr": rate}}).resume_training(state)
        assert any("the 0.007 of the option file is not used" in line for line in log) == told
