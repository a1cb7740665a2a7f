"""RGTModel's validation: tiles, chops and self-ensemble, metrics, images without GT or colour, naming, stopping."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch

from rgt_arch.errors import UsageError, UserError
from rgt_arch.inference.ensemble import self_ensemble
from rgt_arch.inference.tiling import chop_forward, tiled_forward

from .conftest import RGT

PSNR = {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True}
SSIM = {"type": "calculate_ssim", "crop_border": 2, "test_y_channel": True}
NIQE = {"type": "calculate_niqe", "crop_border": 2}
TILED = partial(tiled_forward, scale=2, tile=16, overlap=6)
CHOPPED = partial(chop_forward, scale=2)


@pytest.mark.parametrize(
    ("val", "expected"),
    [
        ({}, lambda net, x: net(x)),
        ({"tile": {"size": 16, "overlap": 6}}, TILED),
        ({"use_chop": True}, CHOPPED),
        ({"use_chop": False, "self_ensemble": True}, self_ensemble),
        (
            {"tile": {"size": 16, "overlap": 6}, "self_ensemble": True},
            lambda net, x: self_ensemble(partial(TILED, net), x),
        ),
    ],
    ids=["whole", "tile", "chop", "ensemble", "ensemble of tiles"],
)
def test_val_options_equal_the_functions(build, val, expected):
    model = build(is_train=False, val=val)
    lq = torch.rand(1, 3, 203 if "use_chop" in val else 21, 30)
    model.feed_data({"lq": lq})
    model.test()
    with torch.no_grad():
        wanted = expected(model.net_g.eval(), lq)
        assert torch.equal(model.output, wanted)
        if val and "self_ensemble" not in val and lq.shape[-2] * 2 > 60:
            assert not torch.equal(model.output, model.net_g(lq))
    assert not model.output.requires_grad


@pytest.mark.parametrize("training", [True, False])
def test_testing_leaves_the_mode_as_it_was_and_training_goes_on(build, batch, training):
    model = build(RGT)
    model.net_g.train(training)
    model.feed_data(batch(1))
    model.test()
    assert model.net_g.training == training
    assert all(module.training == training for module in model.net_g.modules())
    model.optimize_parameters(1)
    assert all(param.grad is not None for param in model.net_g.parameters())


def test_metrics_images_and_best_results_equal_those_of_srmodel(build, options, loader, tmp_path):
    from basicsr.models.sr_model import SRModel

    val = {"metrics": {"psnr": PSNR, "ssim": SSIM}, "save_img": True, "suffix": None}
    ours = build(is_train=False, val=val)
    ours.validation(loader(3), "tiny", None, True)
    theirs_opt = options(is_train=False, val=val, path={"visualization": str(tmp_path / "theirs")})
    torch.manual_seed(0)
    theirs = SRModel(theirs_opt)
    theirs.validation(loader(3), "tiny", None, True)
    assert ours.metric_results == pytest.approx(theirs.metric_results, rel=1e-12)
    assert ours.best_metric_results == theirs.best_metric_results
    files = sorted(path.relative_to(tmp_path / "theirs") for path in (tmp_path / "theirs").rglob("*.*"))
    assert [str(path) for path in files] == [f"Set/img{number}_tiny.png" for number in range(3)]
    assert (
        sorted(path.relative_to(tmp_path / "visualization") for path in (tmp_path / "visualization").rglob("*.*"))
        == files
    )
    for path in files:
        assert np.array_equal(
            cv2.imread(str(tmp_path / "visualization" / path)), cv2.imread(str(tmp_path / "theirs" / path))
        )


@pytest.mark.parametrize(
    ("is_train", "val", "expected"),
    [
        (True, {}, "img0/img0_5.png"),
        (False, {}, "Set/img0_tiny.png"),
        (False, {"suffix": "x2"}, "Set/img0_x2.png"),
    ],
)
def test_images_are_named_as_basicsr_names_them(build, loader, tmp_path, is_train, val, expected):
    model = build(is_train=is_train, val={"metrics": None, **val})
    model.opt["val"].pop("save_img")
    model.validation(loader(1), 5, None, True)
    assert [str(p.relative_to(tmp_path / "visualization")) for p in (tmp_path / "visualization").rglob("*.*")] == [
        expected
    ]


def test_images_without_gt_skip_metrics_that_need_it_with_one_warning(build, loader, log, tmp_path):
    model = build(val={"metrics": {"psnr": PSNR, "niqe": {**NIQE, "better": "lower"}, "ssim": SSIM}})
    folder = tmp_path / "Set" / "lq"
    folder.mkdir(parents=True)
    for number in range(2):  # large enough for two blocks of NIQE
        cv2.imwrite(
            str(folder / f"img{number}.png"), np.random.default_rng(number).integers(0, 256, (108, 204, 3), np.uint8)
        )
    single = loader(0, gt=False)
    model.validation(single, 5, None, False)
    model.validation(single, 5, None, False)
    assert set(model.metric_results) == {"niqe"}
    assert model.metric_results["niqe"] > 0
    assert model.best_metric_results["Set"]["niqe"]["iter"] == 5
    warnings = [line for line in log if "left out" in line]
    assert warnings == ["Set: psnr, ssim left out, because there are images without GT"]
    assert sum("# niqe" in line for line in log) == 2


def test_gt_of_an_earlier_image_is_not_used_for_one_without(build, batch):
    model = build()
    model.feed_data(batch(1))
    model.feed_data({"lq": batch(1)["lq"]})
    model.test()
    assert "gt" not in model.get_current_visuals()


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("color", [None, "y"])
def test_grey_images_for_grey_and_colour_networks(build, loader, tmp_path, in_chans, color):
    network = {**RGT, "in_chans": in_chans}
    model = build(network, is_train=False, val={"metrics": {"psnr": PSNR, "ssim": SSIM}, "save_img": True})
    model.validation(loader(2, grey=True, **({"color": color} if color else {})), "tiny", None, True)
    assert np.isfinite(list(model.metric_results.values())).all()
    saved = cv2.imread(str(tmp_path / "visualization/Set/img1_tiny.png"), cv2.IMREAD_UNCHANGED)
    assert saved.shape == ((22, 32) if in_chans == 1 else (22, 32, 3))


def test_colour_images_for_a_grey_network_say_what_to_set(build, loader):
    model = build({**RGT, "in_chans": 1}, is_train=False)
    with pytest.raises(UsageError, match="color: y"):
        model.validation(loader(1), "tiny", None, False)


def test_wrong_gt_size_names_the_image(build, loader, tmp_path):
    model = build(is_train=False)
    data = loader(2)
    cv2.imwrite(str(tmp_path / "Set/gt/img1.png"), np.zeros((21, 32, 3), np.uint8))
    with pytest.raises(UsageError, match=r"Set: img1: the network gives 32×22 pixels, its GT has 32×21"):
        model.validation(data, "tiny", None, False)


def test_values_go_to_tensorboard_under_the_iteration(build, loader):
    board = Mock()
    model = build()
    model.validation(loader(2), 7, board, False)
    assert [call.args for call in board.add_scalar.call_args_list] == [
        ("metrics/Set/psnr", model.metric_results["psnr"], 7)
    ]


@pytest.mark.parametrize("val", [None, {}, {"metrics": None}])
def test_validation_without_metrics(build, loader, val):
    model = build(is_train=False)
    model.opt["val"] = val
    model.validation(loader(2), "tiny", None, False)
    assert model.metric_results == {}
    assert not hasattr(model, "output")


def test_unwritable_image_is_a_user_error_and_leaves_nothing(build, loader, tmp_path, monkeypatch):
    model = build(is_train=False)

    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rgt_arch.files.os.replace", full_disk)
    with pytest.raises(UserError, match=r"img0_tiny\.png: cannot be written: No space left"):
        model.validation(loader(1), "tiny", None, True)
    assert not list(Path(tmp_path / "visualization").rglob("*.png"))


def test_progress_is_a_bar_on_terminals_and_lines_elsewhere(loader, log, monkeypatch, capsys):
    from rgt_arch.models import validation

    monkeypatch.setattr(validation, "_SECONDS_BETWEEN_LINES", -1.0)
    data = loader(2)
    log.clear()
    assert len(list(validation._progress(data, "Set", True))) == 2
    assert log == ["Set: 1 of 2 images", "Set: 2 of 2 images"]
    log.clear()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    log.clear()
    assert len(list(validation._progress(data, "Set", True))) == 2
    assert log == []
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "image/s" in shown


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_validation_that_is_asked_to_stop_leaves_no_results(build, loader, tmp_path, after):
    """Asked before each image; what was measured by then is not taken for the data set's."""
    board = Mock()
    model = build()
    asked = []
    ended = model.validation(loader(3), 7, board, True, should_stop=lambda: asked.append(1) or len(asked) > after)
    assert ended is (after == 3)
    assert len(list((tmp_path / "visualization").rglob("*.png"))) == after
    assert board.add_scalar.called is ended
    assert bool(model.metric_results) is ended
    assert hasattr(model, "best_metric_results") is ended


def test_the_best_result_stays_that_of_its_iteration(build, loader, monkeypatch):
    model = build()
    values = iter([20.0, 30.0, 25.0])
    monkeypatch.setattr("rgt_arch.models.validation.calculate_metric", lambda *_: next(values))
    for iteration in (1, 2, 3):
        assert model.validation(loader(1), iteration, None, False)
        assert model.metric_results["psnr"] == {1: 20.0, 2: 30.0, 3: 25.0}[iteration]
    assert model.best_metric_results == {"Set": {"psnr": {"better": "higher", "val": 30.0, "iter": 2}}}
