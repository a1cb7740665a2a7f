"""Which checkpoints are kept, saving on a full disk, and resumed training that equals uninterrupted training."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch
from basicsr.models.sr_model import SRModel

from rgt_arch.errors import UserError
from rgt_arch.torch_files import load_data_only
from rgt_arch.training.snapshots import Snapshot

from ..models.conftest import RGT

STATE = "training_states/1.state"


def step(model, batch, iteration):
    model.update_learning_rate(iteration)
    model.feed_data(batch(iteration % 3 + 1))
    model.optimize_parameters(iteration)
    return model.log_dict["l_pix"]


def save(manager, iteration, owes_validation=False):
    """Save; return whether the manager reports the iteration as saved."""
    manager.save(0, iteration, owes_validation=owes_validation)
    return manager.saved == iteration


def files(tmp_path):
    return sorted(path.name for path in tmp_path.glob("*s/*"))


def state(tmp_path, iteration):
    return load_data_only(tmp_path / f"training_states/{iteration}.state")


@pytest.mark.parametrize("ema", [0, 0.9])
@pytest.mark.parametrize("param_key", ["params", None, "params_ema"])
def test_resumed_training_equals_uninterrupted_training(begin, go_on, batch, loader, ema, param_key):
    """With drop path and a validation after the state is saved; each network loads its own weights."""
    network = {**RGT, "drop_path_rate": 0.5}
    options = {
        "train": {"ema_decay": ema, "optim_g": {"type": "AdamW" if ema else "Muon", "lr": 1e-2}},
        "path": {"param_key_g": param_key},
    }
    unbroken, manager = begin(network, **options)
    for iteration in range(1, 5):
        step(unbroken, batch, iteration)
    assert save(manager, 4, owes_validation=True)
    unbroken.validation(loader(2), 4, None, False)
    manager.save_validation(4)
    expected = [step(unbroken, batch, iteration) for iteration in range(5, 8)]

    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    resumed, _ = go_on(4, network, **options)
    assert resumed.best_metric_results == unbroken.best_metric_results != {}
    assert resumed.iteration == 4
    assert resumed.get_current_learning_rate() == [5e-3]
    assert [step(resumed, batch, iteration) for iteration in range(5, 8)] == expected
    for name in ("net_g", *(["net_g_ema"] if ema else [])):
        for mine, other in zip(getattr(resumed, name).parameters(), getattr(unbroken, name).parameters(), strict=True):
            assert torch.equal(mine, other)


@pytest.mark.parametrize(
    ("kind", "short", "longer"),
    [
        (
            "CosineAnnealingRestartLR",
            {"periods": [2], "restart_weights": [1]},
            {"periods": [2, 3], "restart_weights": [1, 0.5]},
        ),
        ("MultiStepLR", {"milestones": [1], "gamma": 0.5}, {"milestones": [1, 3], "gamma": 0.5}),
    ],
)
def test_run_that_is_made_longer_follows_the_new_schedule(begin, go_on, batch, kind, short, longer):
    """BasicSR restores the old periods and milestones too: it fails beyond them, or leaves out the new ones."""

    def rates(model, iterations):
        found = []
        for iteration in iterations:
            step(model, batch, iteration)
            found += model.get_current_learning_rate()
        return found

    train = {"optim_g": {"type": "Adam", "lr": 1e-2}}
    unbroken, _ = begin(train={**train, "scheduler": {"type": kind, **longer}})
    expected = rates(unbroken, range(1, 6))
    begun, manager = begin(train={**train, "scheduler": {"type": kind, **short}})
    assert rates(begun, (1, 2)) == expected[:2]
    assert save(manager, 2)
    resumed, _ = go_on(2, train={**train, "scheduler": {"type": kind, **longer}})
    assert rates(resumed, (3, 4, 5)) == expected[2:]


def test_patches_that_real_esrgan_models_keep_are_restored(begin, tmp_path):
    """Models of Real-ESRGAN draw batches from such a pool; a pool of other patches is filled again. 8-bit values are
    saved as such, others as they are: BasicSR's model sharpens its HR images before."""
    model, manager = begin()
    lr = (torch.rand(4, 3, 8, 8) * 255).round() / 255
    kept = {"queue_ptr": 2, "queue_lr": lr, "queue_gt": torch.rand(4, 3, 16, 16)}
    vars(model).update(kept, iteration=1)
    assert save(manager, 1)
    [saved] = state(tmp_path, 1)["pools"]
    assert [saved["queue_lr"].dtype, saved["queue_gt"].dtype] == [torch.uint8, torch.float32]
    for side, size in ((16, 4), (32, 4), (16, 8)):
        resumed, _ = begin()
        resumed.queue_size, resumed.opt["datasets"] = size, {"train": {"gt_size": side}}
        Snapshot.open(tmp_path / STATE, resumed.opt).restore(resumed, resumed.opt, 8, logging.getLogger("basicsr"))
        is_fit = (side, size) == (16, 4)
        assert [name for name in kept if hasattr(resumed, name)] == (list(kept) if is_fit else [])
        if is_fit:
            assert torch.equal(resumed.queue_lr, kept["queue_lr"])
            assert torch.equal(resumed.queue_gt, kept["queue_gt"])
            assert resumed.queue_ptr == 2


def test_state_of_basicsr_resumes(begin, go_on, batch, options):
    """The state of the official RGT code and BasicSR has no scaler, no best results and no digests."""
    from basicsr.models.sr_model import SRModel

    theirs = SRModel(options())
    for iteration in (1, 2):
        step(theirs, batch, iteration)
    theirs.save(0, 2)
    ours, _ = go_on(2)
    assert step(ours, batch, 3) == pytest.approx(step(theirs, batch, 3))
    assert ours.best_metric_results == {}


def test_state_of_another_optimiser_is_a_user_error(begin, go_on, batch, tmp_path):
    model, manager = begin(train={"optim_g": {"type": "SGD", "lr": 1e-3}})
    step(model, batch, 1)
    save(manager, 1)
    torch.save({**state(tmp_path, 1), "optimizers": []}, tmp_path / STATE)
    with pytest.raises(UserError, match=r"path\.resume_state: the state of iteration 1 does not fit train\.optim_g"):
        go_on(1)


def test_best_results_survive_new_metrics_in_the_options(begin, go_on, batch, loader, tmp_path):
    model, manager = begin()
    step(model, batch, 3)
    model.best_metric_results = {"Set": {"psnr": {"better": "higher", "val": np.float64(99.0), "iter": 3}}}
    save(manager, 3)
    psnr, ssim = ({"type": f"calculate_{name}", "crop_border": 2} for name in ("psnr", "ssim"))
    resumed, _ = go_on(3, val={"metrics": {"psnr": psnr, "ssim": ssim}})
    resumed.validation(loader(1), 4, None, False)
    best = resumed.best_metric_results["Set"]
    assert best["psnr"] == {"better": "higher", "val": 99.0, "iter": 3}
    assert best["ssim"]["iter"] == 4
    lower, _ = go_on(3, val={"metrics": {"psnr": {**psnr, "better": "lower"}}})  # the kept result means "higher"
    assert lower.best_metric_results["Set"]["psnr"]["iter"] == -1


def test_only_the_newest_checkpoints_are_kept(begin, batch, tmp_path, log):
    model, manager = begin(logger={"keep_checkpoints": 2})
    (tmp_path / "models/net_g_9.pth").write_text("of a longer run before")
    (tmp_path / "training_states/9.state").write_text("of a longer run before")
    (tmp_path / "models/net_g_1.pth").write_text("without a state, so not of our making")
    for iteration in (2, 3, 4):
        step(model, batch, iteration)
        assert save(manager, iteration)
    manager.save_latest(4)
    assert log[-1] == "Saved iteration 4 as net_g_latest.pth"
    assert load_data_only(tmp_path / "models/net_g_latest.pth")["rgt_info"] == {"iteration": 4}
    networks = ["net_g_1.pth", "net_g_3.pth", "net_g_4.pth", "net_g_9.pth", "net_g_latest.pth"]
    assert files(tmp_path) == ["3.state", "4.state", "9.state", *networks]


def test_network_of_basicsr_that_is_not_written_is_a_failed_save(begin, options, tmp_path, monkeypatch, log):
    """BasicSR only warns; an older file with that name must not count as the new one."""
    _, manager = begin()
    manager._model = SRModel(options())
    (tmp_path / "models/net_g_2.pth").write_text("of a run before")
    monkeypatch.setattr(SRModel, "save_network", lambda *_, **__: None)
    assert not save(manager, 2)
    assert "net_g_2.pth: was not written; the warnings above report why" in log[-1]
    assert not list((tmp_path / "training_states").iterdir())
    (tmp_path / "models/net_g_latest.pth").write_text("of a run before")
    with pytest.raises(UserError, match=r"net_g_latest\.pth: was not written"):
        manager.save_latest(2)


def test_a_frozen_network_needs_no_file(begin, batch, tmp_path):
    model, manager = begin(network_t={"type": "Teacher"})
    step(model, batch, 1)
    assert save(manager, 1)
    assert list(state(tmp_path, 1)["networks"]) == ["network_g"]


def test_a_validation_is_added_to_the_state_saved_before_it(begin, go_on, batch, loader, tmp_path):
    """Also by a run resumed from that state; the state keeps the epoch and generators of the save."""
    model, manager = begin()
    step(model, batch, 2)
    manager.save(3, 2, owes_validation=True)
    saved = state(tmp_path, 2)
    assert (saved["epoch"], saved["owes_validation"], saved["best_metric_results"]) == (3, True, {})
    resumed, resumed_manager = go_on(2)
    for going_on, its_manager in ((model, manager), (resumed, resumed_manager)):
        going_on.validation(loader(1), 2, None, False)
        torch.rand(5)
        its_manager.save_validation(2)
        after = state(tmp_path, 2)
        assert after["best_metric_results"] == going_on.best_metric_results != {}
        assert (after["epoch"], after["owes_validation"]) == (3, False)
        assert torch.equal(after["generators"][0]["torch"], saved["generators"][0]["torch"])
        torch.save(saved, tmp_path / "training_states/2.state")


def test_validation_of_an_unsaved_iteration_writes_no_state(begin, batch, tmp_path):
    model, manager = begin()
    step(model, batch, 1)
    save(manager, 1)
    step(model, batch, 2)
    manager.save_validation(2)
    assert files(tmp_path) == ["1.state", "net_g_1.pth"]


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_best_weights_by_a_metric_are_kept(begin, batch, loader, tmp_path, monkeypatch, log, better):
    """Only the first validation set counts."""
    val = {"metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 2, "better": better}}}
    datasets = {"val": {"name": "Set"}, "val_2": {"name": "Other"}}
    model, manager = begin(logger={"keep_best": "psnr", "keep_checkpoints": 1}, datasets=datasets, val=val)
    sets = loader(1), loader(1, name="Other")
    values = [20.0, 40.0, 30.0, 10.0, 20.0, 50.0] if better == "higher" else [3.0, 1.0, 2.0, 5.0, 4.0, 0.0]
    given, seen = iter(values), []
    monkeypatch.setattr("rgt_arch.models.validation.calculate_metric", lambda *_: next(given))
    for iteration in (1, 2, 3):
        step(model, batch, iteration)
        for data in sets:
            model.validation(data, iteration, None, False)
            seen.append(model.metric_results["psnr"])
        manager.save_validation(iteration)
    assert seen == values
    best = load_data_only(tmp_path / "models/net_g_best.pth")
    assert best["rgt_info"]["iteration"] == 2
    value = {"higher": 30.0, "lower": 2.0}[better]
    assert model.best_metric_results["Set"] == {"psnr": {"better": better, "val": value, "iter": 2}}
    said = f"Saved net_g_best.pth: psnr {value:.4f} at iteration 2"
    assert [line for line in log if "net_g_best" in line][-1] == said


def test_non_finite_weights_do_not_replace_finite_ones(begin, batch, tmp_path, log):
    model, manager = begin(logger={"keep_checkpoints": 1})
    step(model, batch, 1)
    assert save(manager, 1)
    with torch.no_grad():
        next(model.net_g.parameters()).fill_(float("inf"))
    assert not save(manager, 2)
    assert log[-1] == "iteration 2 is not saved: its weights are not finite"
    with pytest.raises(UserError, match="the weights are not finite"):
        manager.save_latest(2)
    assert files(tmp_path) == ["1.state", "net_g_1.pth"]


@pytest.mark.parametrize("word", [".pth", ".state"])
def test_full_disk_keeps_the_last_checkpoint_and_the_next_save_retries(begin, batch, tmp_path, full, log, word):
    model, manager = begin(logger={"keep_checkpoints": 1})
    for iteration in (1, 2, 3, 4, 5):
        full[:] = [word] if iteration in (2, 3) else []
        step(model, batch, iteration)
        assert save(manager, iteration) is (iteration not in (2, 3))
        kept = iteration if iteration > 3 else 1
        assert files(tmp_path) == [f"{kept}.state", f"net_g_{kept}.pth"]
    said = [line for line in log if "is not saved" in line]
    assert [line.split(":")[0] for line in said] == ["iteration 2 is not saved", "iteration 3 is not saved"]
    assert "No space left on device; nothing was changed; the last checkpoint, 1, is kept; the next save" in said[0]
    assert said[1].endswith("tries again (failures in a row: 2; 3 end the run)")


def test_failed_checkpoint_and_best_weights_of_an_iteration_count_once(begin, batch, full):
    model, manager = begin(logger={"keep_best": "psnr"}, datasets={"val": {"name": "Set"}})
    full[:] = [".pth", ".state"]
    for iteration in (10, 20):
        model.best_metric_results = {"Set": {"psnr": {"better": "higher", "val": 30.0 + iteration, "iter": iteration}}}
        assert not save(manager, iteration)
        manager.save_validation(iteration)
    with pytest.raises(UserError, match=r"3 saves in a row failed; no checkpoint is saved yet"):
        save(manager, 30)


def test_differences_between_state_and_options_are_reported(begin, go_on, batch, tmp_path, log):
    model, manager = begin()
    step(model, batch, 1)
    save(manager, 1)
    saved = state(tmp_path, 1)
    go_on(1)
    assert not [line for line in log if "not used" in line or "continues with" in line or "drop path" in line]
    go_on(1, train={"optim_g": {"type": "Adam", "lr": 7e-3}})
    torch.save({**saved, "samples_per_iter": 4, "generators": saved["generators"] * 2}, tmp_path / STATE)
    go_on(1)
    for words in (
        "the 0.007 of the option file is not used",
        "Saved with 4 images an iteration, continues with 8",
        "Saved by 2 processes: drop path and degradations draw other numbers from here on",
    ):
        assert len([line for line in log if words in line]) == 1
