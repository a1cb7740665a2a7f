"""BasicSR's models and those for real pictures under `basicsr train`: they train on CPUs, save, resume bit for bit,
leave out steps with NaN."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from basicsr.utils.registry import METRIC_REGISTRY

from rgt_arch.config.tables import DEGRADATION, REAL_ONLY
from rgt_arch.training import loop

from .comparisons import assert_same_content, logged

SWINIR = {"type": "SwinIR", "upscale": 2, "in_chans": 3, "img_size": 16, "window_size": 8, "img_range": 1.0}
SWINIR |= {"depths": [2], "embed_dim": 12, "num_heads": [2], "mlp_ratio": 1, "upsampler": "pixelshuffledirect"}
RRDB = {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_block": 1, "num_grow_ch": 2, "scale": 2}
GAN = {"type": "GANLoss", "gan_type": "vanilla", "real_label_val": 1.0, "fake_label_val": 0.0, "loss_weight": 0.1}
UNET = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4}
ADVERSARIAL = {"gan_opt": GAN, "net_d_iters": 1, "net_d_init_iters": 0, "optim_d": {"type": "Adam", "lr": 1e-3}}
# A pool that is full before the run is resumed. RealESRGANDataset reads the folder without a list of names.
REAL = {**{name: DEGRADATION[name].default for name in REAL_ONLY}, "gt_size": 32, "queue_size": 2}
USM = ("l1_gt_usm", "percep_gt_usm", "gan_gt_usm")
HR_ONLY = {"type": "RealESRGANDataset", "dataroot_gt": "train/hr", "batch_size_per_gpu": 1}

MODELS = {
    "SRModel": {},  # with RGT, whose drop path draws random numbers in every step
    "SwinIRModel": {"network_g": SWINIR},
    "SRGANModel": {"network_g": RRDB, "network_d": UNET},
    "ESRGANModel": {"network_d": UNET},
    "RealESRNetModel": {**REAL, "gt_usm": False},
    "RealESRGANModel": {**REAL, "network_d": UNET, **dict.fromkeys(USM, True)},
    "RealRGTModel": {"degradation": "real", "gt_size": 32, "queue_size": 2},
    "RealRGTModel photo": {"degradation": "photo", "queue_size": 4},
    "RealRGTGANModel photo": {"degradation": "photo", "queue_size": 4, "network_d": UNET},
}


def choose(run, model):
    run.options.update(model_type=model.split()[0], **MODELS.get(model, {}))
    run.options["path"]["param_key_g"] = "params_ema"  # a resumed network has its own weights, not the averaged ones
    if "RealRGT" not in model:
        del run.options["train"]["grad_clip"]
    if "Real" in model and "photo" not in model:
        data = run.options["datasets"]["train"]
        for name in ("dataroot_lq", "gt_size"):
            del data[name]
        data.update(HR_ONLY)
    if "network_d" in run.options:
        run.options["train"].update(ADVERSARIAL)


@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_run_ends_as_an_uninterrupted_one_bit_for_bit(run, basicsr_command, model):
    choose(run, model)
    labels = ["g", "d"] if "network_d" in run.options else ["g"]
    last = ["--force_yml", "train:total_iter=6"]
    printed = basicsr_command(*last)
    assert f"[{model.split()[0]}] is created" in printed
    run.run_folder.rename(run.root / "unbroken")
    basicsr_command("--force_yml", "train:total_iter=3")
    printed = basicsr_command("--auto_resume", *last)
    assert "Resuming training from epoch: 0, iter: 3" in printed
    networks = [f"models/net_{label}_{iteration}.pth" for label in labels for iteration in (3, 6, "latest")]
    for name in (*networks, "training_states/3.state", "training_states/6.state"):
        assert_same_content(run.run_folder / name, run.root / "unbroken" / name)
    assert logged(run.run_folder, 6) == logged(run.root / "unbroken", 6)
    [pool] = torch.load(run.run_folder / "training_states/3.state", weights_only=True)["pools"]
    assert ("queue_ptr" in pool) is ("Real" in model)
    assert all(queue.dtype == torch.uint8 and queue.any() for name, queue in pool.items() if name != "queue_ptr")
    assert (run.run_folder / "metrics.csv").read_text() == (run.root / "unbroken/metrics.csv").read_text()


@pytest.mark.parametrize("model", ["SRModel", "RGTModel", "SRGANModel", "RealRGTGANModel photo"])
@pytest.mark.parametrize("bad", [{2}, {2, 3}])
def test_steps_that_are_not_finite_are_left_out_and_end_a_run_that_goes_on_with_them(
    run, basicsr_command, monkeypatch, model, bad
):
    choose(run, model)
    run.options["train"].update(total_iter=4, nan_patience=2)
    states, build = [], loop.build_model

    def build_model(opt):
        built = build(opt)
        step = built.optimize_parameters

        def optimize_parameters(iteration):
            if iteration in bad:
                built.lq[0, 0, 0, 0] = float("nan")
            networks = [getattr(built, name) for name in ("net_g", "net_d") if hasattr(built, name)]
            tensors = [*(tensor for net in networks for tensor in net.parameters())]
            before = copy.deepcopy(tensors), copy.deepcopy([each.state_dict()["state"] for each in built.optimizers])
            step(iteration)
            after = tensors, [each.state_dict()["state"] for each in built.optimizers]
            states.append(all(map(torch.equal, before[0], after[0])) and str(before[1]) == str(after[1]))

        built.optimize_parameters = optimize_parameters
        return built

    monkeypatch.setattr(loop, "build_model", build_model)
    printed = basicsr_command(code=len(bad) - 1)
    [warning] = re.findall(r"WARNING: (iteration .*)", printed)
    # the pool of the last one gives other images than the batch
    images = "" if "Real" in model else r" on train/[lh]r/img\d\.png, train/[lh]r/img\d\.png"
    assert re.fullmatch(
        rf"iteration 2: the loss l_\w+ is nan{images}; the step is left out \(1 in a row; at 2 the run ends\)", warning
    )
    if len(bad) == 1:
        assert states == [False, True, False, False]
    else:
        assert states == [False, True, *([] if "RGT" in model else [True])]  # RGTModel's step itself ends the run
        [line] = [line for line in printed.splitlines() if "error:" in line]
        assert re.search(
            rf"iteration 3: the loss l_\w+ is nan{images}; bad steps in a row: 2 \(train\.nan_patience\)", line
        )


def test_run_that_fails_before_its_first_step_leaves_no_folder(run, basicsr_command):
    """BasicSR's StyleGAN2Model reads keys that no check knows."""
    del run.options["train"]["grad_clip"]
    run.options.update(model_type="StyleGAN2Model")
    before = sorted(run.root.rglob("*"))
    assert "StyleGAN2" in basicsr_command(code=1)
    new = {path.name for path in run.root.rglob("*") if path not in before}
    assert not run.run_folder.exists(), new
    assert not (run.root / "tb_logger").exists(), new


def test_log_file_holds_the_lines_from_before_the_folder_was_made(run, basicsr_command):
    printed = basicsr_command("--force_yml", "train:total_iter=1")
    [log] = run.run_folder.glob("*.log")
    text = log.read_text()
    assert text.index("Version Information") < text.index("is created.") < text.index("Start training from epoch: 0")
    assert text.count("is created.") == printed.count("is created.")


@pytest.mark.parametrize("model", ["SRModel", "RGTModel"])
@pytest.mark.parametrize("is_always", [False, True])
def test_failing_metric_ends_no_training_that_has_begun(run, basicsr_command, monkeypatch, model, is_always):
    """Before the first step it ends the run of a model that cannot go on without it."""
    del run.options["train"]["grad_clip"]
    run.options.update(model_type=model)
    calls = []

    def psnr(img, img2, crop_border):
        calls.append(img.shape)
        if is_always or len(calls) > 1:
            raise ValueError("an image that is too small")
        return 1.0

    monkeypatch.setitem(METRIC_REGISTRY._obj_map, "calculate_psnr", psnr)
    run.options["val"]["metrics"] = {"psnr": {"type": "calculate_psnr", "crop_border": 2}}
    ends = is_always and model == "SRModel"
    printed = basicsr_command("--force_yml", "train:total_iter=1", code=int(ends))
    if ends:
        [line] = [line for line in printed.splitlines() if "error:" in line]
        assert re.search(r"data set held_out, .*png, calculate_psnr: ValueError: an image that is too small .*;", line)
        assert line.endswith("; remove the metric or the image")
        assert not run.run_folder.exists()
    else:
        assert re.search(r"WARNING: .*held_out.*psnr.*an image that is too small", printed)
        assert (run.run_folder / "models/net_g_1.pth").exists()
