"""RGTModel's validation: tiles, chops and self-ensemble, metrics, images without GT or colour, naming, stopping."""

from __future__ import annotations

from functools import partial
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch

from rgt_arch.errors import UsageError, UserError
from rgt_arch.inference.tiling import chop_forward, self_ensemble, tiled_forward
from rgt_arch.models import validation

from .conftest import RGT

PSNR = {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True}
SSIM = {"type": "calculate_ssim", "crop_border": 2, "test_y_channel": True}
NIQE = {"type": "calculate_niqe", "crop_border": 2}
TILED = partial(tiled_forward, scale=2, tile=16, overlap=6)
CHOPPED = partial(chop_forward, scale=2)


@pytest.fixture
def drawn(tmp_path):
    """drawn(): the images that the model saved, by relative path."""
    folder = tmp_path / "visualization"
    return lambda: {
        str(path.relative_to(folder)): cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in folder.rglob("*.*")
    }


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
def test_val_options_give_the_output_of_their_functions(build, val, expected):
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
def test_testing_restores_the_mode_and_training_continues(build, batch, training):
    model = build(RGT)
    model.net_g.train(training)
    model.feed_data(batch(1))
    model.test()
    assert all(module.training == training for module in model.net_g.modules())
    model.optimize_parameters(1)
    assert all(param.grad is not None for param in model.net_g.parameters())
    model.feed_data({"lq": batch(1)["lq"]})  # an image without GT must not keep the GT of an earlier one
    model.test()
    assert "gt" not in model.get_current_visuals()


def test_metrics_images_and_best_results_equal_those_of_srmodel(build, options, loader, tmp_path, drawn):
    from basicsr.models.sr_model import SRModel

    val = {"metrics": {"psnr": PSNR, "ssim": SSIM}, "save_img": True, "suffix": None}
    ours = build(is_train=False, val=val)
    ours.validation(loader(3), "tiny", None, True)
    images = drawn()
    torch.manual_seed(0)
    theirs = SRModel(options(is_train=False, val=val))
    theirs.validation(loader(3), "tiny", None, True)
    assert ours.metric_results == pytest.approx(theirs.metric_results, rel=1e-12)
    assert ours.best_metric_results == theirs.best_metric_results
    assert sorted(images) == [f"Set/img{number}_tiny.png" for number in range(3)]
    for name, image in drawn().items():
        assert np.array_equal(images[name], image)


@pytest.mark.parametrize(
    ("is_train", "val", "expected"),
    [
        (True, {}, "img0/img0_5.png"),
        (False, {}, "Set/img0_tiny.png"),
        (False, {"suffix": "x2"}, "Set/img0_x2.png"),
    ],
)
def test_images_are_named_as_in_basicsr(build, loader, drawn, is_train, val, expected):
    model = build(is_train=is_train, val={"metrics": None, **val})
    model.opt["val"].pop("save_img")
    model.validation(loader(1), 5, None, True)
    assert list(drawn()) == [expected]
    assert model.metric_results == {}
    assert not hasattr(model, "output")


def test_images_without_gt_skip_metrics_that_need_it_with_one_warning(build, loader, log, tmp_path):
    model = build(val={"metrics": {"psnr": PSNR, "niqe": {**NIQE, "better": "lower"}, "ssim": SSIM}})
    folder = tmp_path / "Set" / "lq"
    folder.mkdir(parents=True)
    for number in range(2):  # large enough for two blocks of NIQE
        pixels = np.random.default_rng(number).integers(0, 256, (108, 204, 3), np.uint8)
        cv2.imwrite(str(folder / f"img{number}.png"), pixels)
    single = loader(0, gt=False)
    for _ in range(2):
        model.validation(single, 5, None, False)
    assert set(model.metric_results) == {"niqe"}
    assert model.metric_results["niqe"] > 0
    assert model.best_metric_results["Set"]["niqe"]["iter"] == 5
    warnings = [line for line in log if "left out" in line]
    assert warnings == ["Set: psnr, ssim left out, because there are images without GT"]
    assert sum("# niqe" in line for line in log) == 2


def test_a_metric_that_fails_on_an_image_is_left_out_of_its_mean_with_one_line(build, loader, log, monkeypatch):
    values = {"psnr": [20.0, float("nan"), 30.0], "ssim": [0.5, 0.7, 0.9]}

    def calculate(pair, metric_opt):
        name = metric_opt["type"].removeprefix("calculate_")
        if name == "niqe":
            raise RuntimeError("too\nsmall")
        return values[name].pop(0)

    monkeypatch.setattr(validation, "calculate_metric", calculate)
    model = build(val={"metrics": {"psnr": PSNR, "niqe": NIQE, "ssim": SSIM}})
    assert model.validation(loader(3), 5, None, False)
    assert model.metric_results == pytest.approx({"psnr": 25.0, "ssim": 0.7})
    names = [f"img{number}" for number in range(3)]
    lines = [line for line in log if "leaves" in line]
    assert len(lines) == 2
    nan, failed = sorted(lines, reverse=True)
    assert any(nan == f"Set: psnr fails on {name} and its mean leaves them out (nan)" for name in names)
    assert failed.startswith("Set: niqe fails on ")
    assert all(name in failed for name in names)
    assert failed.endswith(" and its mean leaves them out (RuntimeError: too small)")


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("color", [None, "y"])
def test_grey_images_work_with_grey_and_colour_networks(build, loader, drawn, in_chans, color):
    network = {**RGT, "in_chans": in_chans}
    model = build(network, is_train=False, val={"metrics": {"psnr": PSNR, "ssim": SSIM}, "save_img": True})
    model.validation(loader(2, grey=True, **({"color": color} if color else {})), "tiny", None, True)
    assert np.isfinite(list(model.metric_results.values())).all()
    assert drawn()["Set/img1_tiny.png"].shape == ((22, 32) if in_chans == 1 else (22, 32, 3))


def test_mismatched_images_and_a_full_disk_end_in_one_line(build, loader, tmp_path, monkeypatch, drawn):
    with pytest.raises(UsageError, match=r"Set: img0: .*color: y"):
        build({**RGT, "in_chans": 1}, is_train=False).validation(loader(1), "tiny", None, False)
    model, data = build(is_train=False), loader(2)
    cv2.imwrite(str(tmp_path / "Set/gt/img1.png"), np.zeros((21, 32, 3), np.uint8))
    with pytest.raises(UsageError, match=r"Set: img1: the network gives 32×22 pixels, its GT has 32×21"):
        model.validation(data, "tiny", None, False)
    monkeypatch.setattr("rgt_arch.files.os.replace", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(UserError, match=r"img0_tiny\.png: cannot be written: No space left"):
        model.validation(loader(1, name="Other"), "tiny", None, True)
    assert drawn() == {}


def test_progress_is_a_bar_on_terminals_and_lines_elsewhere(loader, log, monkeypatch, capsys):
    monkeypatch.setattr(validation, "_SECONDS_BETWEEN_LINES", -1.0)
    data = loader(2)
    for terminal, lines in ((False, ["Set: 1 of 2 images", "Set: 2 of 2 images"]), (True, [])):
        log.clear()
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal, raising=False)
        assert len(list(validation._progress(data, "Set", True))) == 2
        assert log == lines
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "image/s" in shown


@pytest.mark.parametrize("after", [0, 1, 3])
def test_stopped_validation_leaves_no_results(build, loader, drawn, after):
    """`should_stop` is called before each image; results of a part of the data set are dropped."""
    board = Mock()
    model = build()
    asked = []
    ended = model.validation(loader(3), 7, board, True, should_stop=lambda: asked.append(1) or len(asked) > after)
    assert ended is (after == 3)
    assert len(drawn()) == after
    assert bool(model.metric_results) is ended
    assert hasattr(model, "best_metric_results") is ended
    written = [("metrics/Set/psnr", model.metric_results["psnr"], 7)] if ended else []
    assert [call.args for call in board.add_scalar.call_args_list] == written
