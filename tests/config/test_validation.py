"""All mistakes in an option file are reported together, with line, key and remedy, before any file is created."""

from __future__ import annotations

import importlib.util
import re
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from rgt_arch.archs.rgt_arch import recursion_depth, rgt_t
from rgt_arch.config.checks.networks import check_files
from rgt_arch.config.loading import load_options
from rgt_arch.config.metrics import pyiqa_metrics
from rgt_arch.config.problems import Report
from rgt_arch.data.inspect.targets import validate_options
from rgt_arch.errors import UsageError

from .conftest import GONE, LAYOUTS, OPTIONS, OptionFile


def test_all_mistakes_are_reported_together_one_per_line(train_file):
    for old, new in (
        ("  total_iter:", "  totl_iter:"),
        ("    lr: 5e-4", "    lr: fast"),
        ("    type: L1Loss", "    type: L1Los"),
        ("  embed_dim: 96", "  embed_dims: 96"),
        ("dataroot_gt: datasets/DF2K/HR", "dataroot_gt: datasets/DF2K/HRR"),
        ("  upscale: 2", "  upscale: 3"),
        ("  print_freq: 100", "  print_freq: often"),
        ("pretrain_network_g: ~", "pretrain_network_g: gone.pth"),
    ):
        train_file.edit(old, new)
    lines = train_file.errors()
    keys = {
        "train:totl_iter", "train:optim_g:lr", "train:pixel_opt:type", "network_g:embed_dims",
        "datasets:train:dataroot_gt", "network_g:upscale", "logger:print_freq", "path:pretrain_network_g",
    }  # fmt: skip
    assert {re.split(r"[: ]{2,}| = ", line.partition(" ")[2])[0] for line in lines} == keys
    assert all(re.match(r"train_RGT_T_x2\.yml:\d+: ", line) for line in lines)
    with pytest.raises(UsageError, match=rf"^8 problems in {re.escape(str(train_file.file))}:\n"):
        train_file.validate()


def test_no_file_is_created_and_paths_are_relative_to_the_root(train_file, monkeypatch):
    monkeypatch.chdir(Path("/"))
    before = sorted(train_file.root.rglob("*"))
    train_file.validate()
    train_file.edit("\nscale: 2", "\nscale: two").errors()
    assert sorted(train_file.root.rglob("*")) == before


def test_error_for_an_ignored_key_names_the_model_that_reads_it(training):
    changes = {"train:amp": "bf16", "train:accumulate": 2, "val:tile": {"size": 64}, "logger:keep_best": "psnr"}
    lines = training.errors(changes={"model_type": "SRModel", "logger:keep_checkpoints": 3, **changes})
    assert not any("keep_checkpoints" in line for line in lines)  # every class has it
    for key in changes:
        line = next(line for line in lines if f" {key}: " in line)
        assert line.endswith("SRModel would ignore it; set model_type: RGTModel, which reads it, or remove it")


def test_optimiser_that_the_model_does_not_know_is_refused(training):
    message = training.error(changes={"train:optim_g:type": "AdamW", "model_type": "SRModel"})
    assert "SRModel knows Adam only; set model_type: RGTModel" in message


@pytest.mark.parametrize("name", ["0012", "1e3", "0x10", "1_000", "2024.10"])
def test_name_that_looks_like_a_number_is_kept_as_written(training, name):
    training.edit("name: train_RGT_T_x2", f"name: {name}").edit("    name: Set5\n", "    name: 1:30\n")
    assert training.validate()[0]["name"] == name
    opt, _ = training.validate("name=7")
    assert (opt["name"], opt["datasets"]["val"]["name"]) == ("7", "1:30")


def test_numbers_and_booleans_written_as_text_are_converted(training):
    texts = {"train:optim_g:lr": "5e-4", "val:save_img": "False", "val:val_freq": "5000", "network_g:embed_dim": "96"}
    opt, warnings = training.validate(changes={**texts, "train:total_iter": 1e5})
    assert warnings == []
    assert opt["train"]["optim_g"]["lr"] == 5e-4
    assert (opt["train"]["total_iter"], type(opt["train"]["total_iter"])) == (100000, int)
    assert opt["val"]["save_img"] is False
    assert (opt["val"]["val_freq"], opt["network_g"]["embed_dim"]) == (5000, 96)


def test_keys_that_basicsr_looks_up_unconditionally_are_filled_in(training, testing):
    opt, _ = training.validate("train:amp=false", "val:tile=false", changes={"logger:use_tb_logger": GONE})
    assert opt["logger"]["use_tb_logger"] is True
    assert (opt["train"]["amp"], opt["val"]["tile"]) == (None, None)
    assert testing.validate(changes={"val:suffix": GONE})[0]["val"]["suffix"] is None
    for val in (None, False):
        opt, _ = testing.validate(changes={"val": val, "path": None})
        assert (opt["val"], opt["path"]) == ({"save_img": True, "suffix": None}, {})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_missing_gpus_fall_back_to_the_cpu_with_one_warning(training):
    data = {"datasets:train:prefetch_mode": "cuda", "datasets:train:pin_memory": True}
    opt, (warning,) = training.validate(changes={"num_gpu": 4, **data})
    assert (opt["num_gpu"], opt["datasets"]["train"]["prefetch_mode"]) == (0, None)
    assert "num_gpu = 4: no CUDA GPU is usable, so the run uses the CPU" in warning


def test_recursion_warning_is_given_exactly_where_the_depth_differs(training):
    for patch in (48, 63, 64, 255, 256, 300):
        _, warnings = training.validate(f"datasets:train:gt_size={2 * patch}")
        differs = recursion_depth(patch, patch, True) != recursion_depth(512, 512, False)
        assert any("recursion depth" in warning for warning in warnings) is differs
    for argument in ("recursion=2", "global_blocks=none"):  # it is only for the automatic depth
        assert training.validate("datasets:train:gt_size=96", f"network_g:{argument}")[1] == []


def test_find_unused_parameters_is_set_where_small_patches_leave_weights_unused(training):
    for gt_size, arguments, unused in (
        (30, [], True),
        (32, [], None),
        (30, ["network_g:recursion=1"], None),
        (30, ["network_g:recursion=0"], True),
        (30, ["network_g:global_blocks=none"], None),
    ):
        entries = [f"datasets:train:gt_size={gt_size}", *arguments]
        assert training.validate(*entries)[0].get("find_unused_parameters") is unused
        assert training.validate(*entries, "find_unused_parameters=false")[0]["find_unused_parameters"] is False


def test_scheduler_periods_must_match_their_weights_and_cover_the_run(training):
    cosine = {"type": "CosineAnnealingRestartLR", "periods": [40000, 50000], "restart_weights": [1]}
    message = training.error(changes={"train:scheduler": cosine})
    assert "CosineAnnealingRestartLR refuses its arguments: periods and restart_weights should have the same" in message
    cosine["restart_weights"] = [1, 1]
    assert "end at 90000, before total_iter 100000" in training.error(changes={"train:scheduler": cosine})


def test_test_without_weights_is_a_warning_and_without_data_an_error(testing):
    assert "a network with random weights is tested" in testing.warning("path:pretrain_network_g=~")
    assert "datasets: no data set to test on; add test_1" in testing.error(changes={"datasets": {}})


def test_weights_are_found_in_every_published_layout_and_must_fit(testing_file):
    """RGTModel also reads a plain state dict, or a file with averaged weights only; other models need the key."""
    weights = rgt_t(2).state_dict()
    for layout in ("params", "params_ema", None):
        torch.save(weights if layout is None else {layout: weights}, testing_file.root / "mine.pth")
        for param_key in ("params", "~"):
            testing_file.validate("path:pretrain_network_g=mine.pth", f"path:param_key_g={param_key}")
    message = testing_file.errors("path:pretrain_network_g=mine.pth", changes={"model_type": "SRModel"})[-1]
    assert "path:param_key_g = 'params': is not in the file: " in message
    assert message.endswith("mine.pth holds a plain state dict (~); name one of them")
    testing_file.validate("path:pretrain_network_g=RGT_T_x2")
    message = testing_file.error("path:pretrain_network_g=models/net_g_latst.pth")
    assert f"'models/net_g_latst.pth': no such file under {testing_file.root}" in message
    torch.save({"params-ema": weights, "params": weights}, testing_file.root / "mine.pth")
    opt, _ = testing_file.validate("path:pretrain_network_g=mine.pth", "path:param_key_g=params-ema")
    assert opt["path"]["param_key_g"] == "params_ema"
    message = testing_file.error("path:pretrain_network_g=RGT_T_x2", "network_g:embed_dim=180")
    assert "path:pretrain_network_g = 'RGT_T_x2': does not fit RGT" in message


def test_published_weights_can_be_given_by_name(testing_file, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("RGT_CACHE", str(cache))
    for name in ("RGT_x2", "rgt-s-x4"):
        opt, _ = testing_file.validate(f"path:pretrain_network_g={name}")
        assert opt["path"]["pretrain_network_g"] == name
    assert not cache.exists()  # nothing is downloaded before the run starts
    monkeypatch.setattr("rgt_arch.weights.zoo.BUNDLED", cache)
    message = testing_file.error("path:pretrain_network_g=rgt-t-x4")
    assert "path:pretrain_network_g = 'rgt-t-x4': " in message
    assert "RGT_T_x4.safetensors, a part of the package, is missing; install rgt-arch again" in message


@pytest.mark.parametrize("state", ["auto_resume", "resume_state"])
def test_initial_weights_may_be_missing_when_a_run_resumes(train_file, state):
    root = train_file.root
    opt = load_options(train_file.edit("pretrain_network_g: ~", "pretrain_network_g: gone.pth").file)
    states = root / "experiments" / "train_RGT_T_x2" / "training_states"
    states.mkdir(parents=True)
    settings = {"file": train_file.file, "is_train": True, "root": root}
    settings["resume_root"] = root if state == "auto_resume" else None
    with pytest.raises(UsageError, match=rf"path:pretrain_network_g = 'gone.pth': no such file under {root}"):
        validate_options(deepcopy(opt), **settings)
    (states / "40.state").touch()
    if state == "resume_state":
        opt["path"]["resume_state"] = str(states / "40.state")
    assert validate_options(opt, **settings) == []
    opt["path"]["ignore_resume_networks"] = ["network_g"]
    with pytest.raises(UsageError, match=r"pretrain_network_g = 'gone.pth': no such file"):
        validate_options(opt, **settings)


def test_single_images_have_no_hr_images_for_metrics(tmp_path):
    single = OptionFile(tmp_path, OPTIONS / "test_single_x2.yml")
    psnr = {"val:metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 2}}}
    assert "val:metrics:psnr: needs HR images" in single.warning(changes=psnr)
    plain = {"val": {"save_img": True, **{"metrics": psnr["val:metrics"]}}, "model_type": "SRModel"}
    words = "needs HR images, and datasets:test_1 (SingleImageDataset) has none; remove the metric"
    assert words in single.error(changes=plain)
    message = single.error(changes={"datasets:test_1:dataroot_gt": "datasets/single"})
    assert "set type: PairedImageDataset, which reads it" in message


def test_loggers_that_are_not_installed_are_reported(training, monkeypatch):
    find_spec, missing = importlib.util.find_spec, {"tensorboard", "wandb"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find_spec(name))
    assert "logger:use_tb_logger = True: tensorboard is not installed" in training.error()
    message = training.error("logger:use_tb_logger=false", "logger:wandb:project=mine")
    assert "logger:wandb:project = 'mine': needs use_tb_logger: true" in message


def test_unknown_keys_of_foreign_classes_are_warnings(training, monkeypatch):
    from basicsr.models.sr_model import SRModel
    from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY

    class ForeignModel(SRModel):
        pass

    class ForeignNet(torch.nn.Module):
        def __init__(self, upscale: int = 2, **kwargs: object) -> None:
            super().__init__()

    for registry, made in ((MODEL_REGISTRY, ForeignModel), (ARCH_REGISTRY, ForeignNet)):
        made.__module__ = "somebody.else"
        monkeypatch.setitem(registry._obj_map, made.__name__, made)
    own = {"train:own_key": 1, "train:totaliter": 3}
    _, warnings = training.validate(changes={"model_type": "ForeignModel", "network_g:type": "ForeignNet", **own})
    assert any("train:own_key: unknown here; train (ForeignModel) may read it" in warning for warning in warnings)
    assert any("train:totaliter" in warning and "did you mean total_iter?" in warning for warning in warnings)
    assert any("network_g:embed_dim" in warning for warning in warnings)


def test_unknown_class_does_not_make_its_keys_unknown(training):
    """Only the class and values of wrong types are reported."""
    changes = {"model_type": "RGTModl", "train:amp": 8, "datasets:train:type": "X", "datasets:train:own_key": 1}
    assert len(training.errors(changes=changes)) == 3


def test_host_class_is_not_judged_by_the_one_of_basicsr_with_its_name(checker, monkeypatch):
    from basicsr.utils.registry import DATASET_REGISTRY

    made = type("RealESRGANDataset", (torch.utils.data.Dataset,), {"__module__": "hat.data.realesrgan_dataset"})
    file = checker(LAYOUTS / "train_realesrnet.yml")
    changes = {"datasets:train:betag_range": "own", "datasets:train:meta_info": 8}
    assert len(file.errors(changes=changes)) == 2
    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "RealESRGANDataset", made)
    assert [warning for warning in file.validate(changes=changes)[1] if "num_gpu" not in warning] == []


DEGRADATIONS = [
    ({"queue_size": 11}, "queue_size = 11: is smaller than the batch of 12; take 12 or more"),
    (
        {"queue_size": GONE, "datasets:train:batch_size_per_gpu": 181},
        "queue_size = 180: is smaller than the batch of 181",
    ),
    ({"gt_size": 250}, "gt_size = 250: does not divide by scale 4; take 248"),
    ({"gt_size": 404}, "gt_size = 404: is over 400, the side of RealESRGANDataset's images; take 400 or less"),
    ({"scale": 3, "gt_size": 255}, "scale = 3: does not divide 400, the side of RealESRGANDataset's images"),
    ({"gt_usm": GONE}, "gt_usm: is missing; add gt_usm: true"),
    ({"jpeg_range2": GONE}, "jpeg_range2: is missing; add jpeg_range2: [30, 95]"),
    ({"jpeg_range": [95, 30]}, "jpeg_range = [95, 30]: expected the smaller value first"),
    ({"resize_prob": [0, 0, 0]}, "resize_prob = [0, 0, 0]: never draws anything"),
    (
        {"datasets:train:kernel_prob2": [0.5, 0.5]},
        "kernel_prob2 = [0.5, 0.5]: has 2 numbers for the 6 names of kernel_l",
    ),
    ({"datasets:train:blur_sigma": [2, 2]}, "blur_sigma = [2, 2]: expected two different numbers"),
    (
        {"datasets:val": {"name": "v", "type": "RealESRGANDataset"}},
        "val:type = 'RealESRGANDataset': makes no LR images",
    ),
    ({"datasets:train:type": "RealESRGANPairedDataset"}, "type = 'RealESRGANPairedDataset': makes no blur kernels"),
    ({"high_order_degradation": False}, "type = 'RealESRGANDataset': makes no LR images"),
]
OURS = {"model_type": "RealRGTModel", "degradation": "real"}
PHOTO = {"model_type": "RealRGTModel", "degradation": "photo"}
DEGRADATIONS += [
    (
        {**OURS, "gt_size": GONE},
        "gt_size: is missing, and RealESRGANDataset's images have 400×400 pixels; add gt_size: 256",
    ),
    ({**OURS, "datasets:train:kernel_list": ["iso"], "datasets:train:kernel_prob": GONE}, "kernel_prob = [0.45, 0.25,"),
    ({**PHOTO, "jpeg_range": [30, 90]}, "jpeg_range = [30, 90]: is not read with degradation: photo; remove it, or"),
    ({**PHOTO, "gt_size": 250}, "gt_size = 250: does not divide by scale 4; take 248"),
    (
        {**OURS, "datasets:train:type": "PairedImageDataset"},
        "makes no blur kernels for RealRGTModel; take type: RealESRGANDataset, or degradation: photo",
    ),
    ({**OURS, "degradation": "phone"}, "degradation = 'phone': expected one of real, photo"),
    ({**PHOTO, "datasets:train:type": "PairedImageDataset", "datasets:train:gt_size": 64}, "gt_size = 256: is over 64"),
    ({**PHOTO, "network_g:num_in_ch": 1}, "network_g: takes 1 channels, and RealRGTModel degrades images in colour"),
    ({**PHOTO, "high_order_degradation": True}, "high_order_degradation: RealRGTModel would ignore it"),
    (
        {**OURS, "model_type": "RealRGTGANModel", "train:ldl_opt": {"type": "L1Loss"}},
        "train:ldl_opt: RealRGTGANModel has no such loss; remove it",
    ),
]


@pytest.mark.parametrize(("changes", "words"), DEGRADATIONS, ids=lambda value: value if isinstance(value, str) else "")
def test_contradictions_of_real_esrgan_models_are_found(tmp_path, changes, words):
    assert any(words in line for line in OptionFile(tmp_path, LAYOUTS / "train_realesrnet.yml").errors(changes=changes))


def test_degradations_are_not_needed_to_train_on_pairs(tmp_path):
    file = OptionFile(tmp_path, LAYOUTS / "train_realesrnet.yml")
    text = file.file.read_text()
    pairs = "type: RealESRGANPairedDataset\n    dataroot_lq: datasets/LR"
    file.file.write_text(text.replace("type: RealESRGANDataset", pairs).replace("jpeg_range", "high_order_degradation"))
    keys = [key for key in file.options() if key.startswith(("resize", "gaussian", "noise", "poisson", "gray", "gt_"))]
    kernels = [
        key for key in file.options()["datasets"]["train"] if key.endswith(("_range", "_range2", "prob", "prob2"))
    ]
    kernels += [f"{key}{order}" for key in ("kernel_list", "blur_sigma", "blur_kernel_size") for order in ("", "2")]
    gone = dict.fromkeys([*keys, *(f"datasets:train:{key}" for key in kernels), "high_order_degradation2"], GONE)
    file.validate(changes={**gone, "high_order_degradation": False})


def test_patches_must_fit_the_windows_and_the_discriminator_of_basicsr(tmp_path):
    swinir = OptionFile(tmp_path, LAYOUTS / "train_basicsr_swinir.yml")
    size = swinir.options()["datasets"]["train"]["gt_size"]
    scale = swinir.options()["scale"]
    message = swinir.error(f"datasets:train:gt_size={size + 2 * scale}")
    assert f"do not divide by SwinIR's window_size 8; take {size}" in message
    assert "is missing, and SwinIRModel reads it; add window_size: 7" in "".join(
        swinir.errors(changes={"network_g:window_size": GONE})
    )
    gan = {
        "model_type": "ESRGANModel",
        "network_d": {"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 8},
        "train:optim_d": {"type": "Adam", "lr": 1e-4},
        "train:gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
    }
    training = OptionFile(tmp_path)
    assert training.validate(changes={**gan, "datasets:train:gt_size": 128})[1] == []
    assert "network_d:input_size: is 128, but HR patches are 256" in training.error(
        changes={**gan, "datasets:train:gt_size": 256}
    )
    assert (
        "network_d:num_in_ch: is 1, but images of network_g have 3 (network_g:in_chans); give both"
        in training.error(changes={**gan, "datasets:train:gt_size": 128, "network_d:num_in_ch": 1})
    )


def test_two_data_sets_of_results_need_two_names(training):
    other = {**training.options()["datasets"]["val"]}
    message = training.error(changes={"datasets:val_2": other})
    assert "datasets:val_2:name = 'Set5': is the name of datasets:val too" in message
    training.validate(changes={"datasets:val_2": {**other, "name": "train"}})


def test_network_that_cannot_be_built_on_the_meta_device_is_not_refused(training):
    """BasicSR's ECBSR calls torch.FloatTensor on a meta tensor, a TypeError."""
    ecbsr = {"num_in_ch": 1, "num_out_ch": 1, "num_block": 4, "num_channel": 16, "with_idt": False}
    network = {"type": "ECBSR", **ecbsr, "act_type": "prelu", "scale": 2}
    changes = {"model_type": "SRModel", "network_g": network}
    assert training.validate(changes=changes)[1] == []
    assert "network_g: " in training.error(changes={**changes, "network_g": {**network, "num_channel": "many"}})


def test_top_level_keys_of_early_test_files_are_moved(testing):
    """As in BasicSR's options/test/RCAN/test_RCAN.yml."""
    early = {"save_img": False, "suffix": "rcan", "crop_border": 4}
    opt, warnings = testing.validate(changes={**early, "val": GONE})
    assert opt["val"] == {"save_img": False, "suffix": "rcan"}
    for warning, words in zip(warnings, ("read as val:save_img", "read as val:suffix", "is not read"), strict=True):
        assert words in warning
    assert testing.validate(changes={"save_img": True, "val": {"save_img": False}})[0]["val"]["save_img"] is False
    assert not {*early} & {*testing.validate(changes=dict.fromkeys(early))[0]}


def test_missing_vgg_weights_are_reported_with_name_and_place(training, monkeypatch, tmp_path):
    from torchvision.models import VGG16_Weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(type(VGG16_Weights.IMAGENET1K_V1), "url", "file:///nowhere/vgg16-397923af.pth")
    changes = {"train:perceptual_opt": {"type": "PerceptualLoss", "layer_weights": {"conv1_2": 1}, "vgg_type": "vgg16"}}

    def errors() -> list[str]:
        report = Report("x.yml", None)
        check_files(training.options(changes=changes), report, tmp_path)
        return report.errors

    (line,) = errors()
    assert line.startswith("x.yml: train:perceptual_opt: needs vgg16-397923af.pth, and file:///nowhere/vgg16-")
    assert line.endswith(f"put the file into {tmp_path}/torch/hub/checkpoints")
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    (tmp_path / "torch/hub/checkpoints/vgg16-397923af.pth").touch()
    assert errors() == []
    (tmp_path / "experiments/pretrained_models").mkdir(parents=True)
    (tmp_path / "experiments/pretrained_models/vgg19-dcbb9e9d.pth").touch()
    changes["train:perceptual_opt"]["layer_weights"] = {"conv1_9": 1}
    assert "layer_weights: vgg16 has no layer conv1_9; did you mean conv1_" in errors()[0]
    assert "BasicSR would load experiments/pretrained_models/vgg19-dcbb9e9d.pth for vgg16" in errors()[1]


def test_folder_of_a_run_is_not_one_with_other_files(train_file):
    """BasicSR renames the folder of an earlier run."""
    change = f"path:experiments_root={train_file.root}/run"
    train_file.validate(change)
    (train_file.root / "run/training_states").mkdir(parents=True)
    (train_file.root / "run/models").mkdir()
    train_file.validate(change)
    (train_file.root / "code/models").mkdir(parents=True)
    for other in ("datasets", "code", "."):
        message = train_file.error(f"path:experiments_root={train_file.root}/{other}")
        assert "holds other files than a run's; name a folder of its own" in message


def test_unknown_argument_of_a_basicsr_network_is_an_error_although_it_takes_kwargs(tmp_path):
    swinir = OptionFile(tmp_path, LAYOUTS / "test_basicsr_swinir.yml").edit("  window_size: 8", "  windowsize: 8")
    assert "did you mean window_size?" in swinir.errors()[0]


def test_error_for_a_value_from_the_command_line_has_no_line_number(training):
    assert training.error("train:total_iter=0").startswith("train_RGT_T_x2.yml: train:total_iter = 0")


def test_metrics_of_pyiqa_are_checked_and_lower_values_are_best_where_pyiqa_says_so(testing_file):
    pytest.importorskip("pyiqa", reason="needs pyiqa: pip install 'rgt-arch[metrics]'", exc_type=ImportError)

    def with_metrics(**metrics):
        return {"val:metrics": {name: {"type": "pyiqa", **section} for name, section in metrics.items()}}

    named = {name: {"metric": name} for name in ("lpips", "gmsd", "musiq")}
    opt, _ = testing_file.validate(changes=with_metrics(**named, own={"metric": "vif", "better": "lower"}))
    better = {name: section["better"] for name, section in opt["val"]["metrics"].items()}
    assert better == {"lpips": "lower", "gmsd": "lower", "musiq": "higher", "own": "lower"}
    for section, message in (
        ({"metric": "lpis"}, "val:metrics:m:metric = 'lpis': pyiqa has no such metric of single images; did you mean"),
        ({"metric": "fid"}, "val:metrics:m:metric = 'fid': pyiqa has no such metric of single images"),
        ({}, "val:metrics:m:metric: is missing; add metric: lpips"),
        ({"metric": "vif", "net": "vgg"}, "val:metrics:m:net: unknown key of val:metrics:m (pyiqa)"),
    ):
        assert message in testing_file.error(changes=with_metrics(m=section))


def test_missing_pyiqa_is_reported_with_the_command_that_installs_it(testing_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    monkeypatch.setitem(sys.modules, "pyiqa.default_model_configs", None)
    pyiqa_metrics.cache_clear()
    message = testing_file.error(changes={"val:metrics": {"m": {"type": "pyiqa", "metric": "lpips"}}})
    assert "val:metrics:m:type = 'pyiqa': pyiqa is not installed (" in message
    assert message.endswith("pip install 'rgt-arch[metrics]'")
