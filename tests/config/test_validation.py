"""Every mistake in an option file is reported, all at once, with line, key and remedy, before anything is made."""

from __future__ import annotations

import importlib.util
import re
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from rgt_arch.archs.rgt_arch import recursion_depth, rgt_t
from rgt_arch.config import load_options
from rgt_arch.data.option_checks import validate_options
from rgt_arch.errors import UsageError

from .conftest import LAYOUTS, OptionFile


def test_all_mistakes_are_reported_at_once_each_on_a_line_of_its_own(train_file):
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


def test_nothing_is_made_on_disk_and_paths_are_relative_to_the_root(train_file, monkeypatch):
    monkeypatch.chdir(Path("/"))
    before = sorted(train_file.root.rglob("*"))
    train_file.validate()
    train_file.edit("\nscale: 2", "\nscale: two").errors()
    assert sorted(train_file.root.rglob("*")) == before


def test_key_that_the_model_would_ignore_names_the_model_that_reads_it(training):
    training.edit("model_type: RGTModel", "model_type: SRModel")
    training.edit("  warmup_iter: -1", "  warmup_iter: -1\n  amp: bf16\n  grad_clip: 1\n  accumulate: 2")
    training.edit("  val_freq: 5000", "  val_freq: 5000\n  tile: {size: 64}\n  self_ensemble: true\n  use_chop: true")
    training.edit("  use_tb_logger: true\n", "  use_tb_logger: true\n  keep_checkpoints: 3\n  keep_best: psnr\n")
    lines = training.errors()
    keys = ("train:amp", "train:grad_clip", "train:accumulate", "val:tile", "val:self_ensemble", "val:use_chop")
    assert not any("keep_checkpoints" in line for line in lines)  # every class has it
    for key in (*keys, "logger:keep_best"):
        line = next(line for line in lines if f" {key}: " in line)
        assert line.endswith("SRModel would ignore it; set model_type: RGTModel, which reads it, or remove it")


def test_optimiser_that_the_model_does_not_know_is_refused(training):
    training.edit("    type: Adam", "    type: AdamW").edit("model_type: RGTModel", "model_type: SRModel")
    assert "SRModel knows Adam only; set model_type: RGTModel" in training.error()


@pytest.mark.parametrize("name", ["0012", "1e3", "0x10", "1_000", "2024.10"])
def test_name_that_looks_like_a_number_stays_as_it_is_written(training, name):
    training.edit("name: train_RGT_T_x2", f"name: {name}").edit("    name: Set5\n", "    name: 1:30\n")
    assert training.validate()[0]["name"] == name
    opt, _ = training.validate("name=7")
    assert opt["name"] == "7"
    assert opt["datasets"]["val"]["name"] == "1:30"


@pytest.mark.parametrize("name", ["LBFGS", "SparseAdam", "Muon", "NoSuch"])
def test_optimiser_that_cannot_train_a_network_is_refused(training, name):
    """LBFGS calls the loss by itself, SparseAdam wants sparse gradients, Muon refuses biases and convolutions."""
    message = training.edit("    type: Adam", f"    type: {name}").edit("    betas: [0.9, 0.99]\n", "").error()
    assert f"train:optim_g:type = {name!r}: no optimiser of torch.optim that fits training" in message
    assert not re.search("(mean|valid:.*) (LBFGS|SparseAdam|Muon)", message)


def test_convolutions_count_when_an_optimiser_is_tried(training, monkeypatch):
    from rgt_arch.models.rgt_model import RGTModel

    seen = []
    monkeypatch.setattr(RGTModel, "get_optimizer", lambda self, name, params, **_: seen.extend(params))
    training.validate()
    assert {parameter.dim() for parameter in seen} == {1, 2, 4}


def test_numbers_and_booleans_written_as_text_are_converted(training):
    training.edit("    lr: 5e-4", "    lr: '5e-4'").edit("  total_iter: 100000", "  total_iter: !!float 1e5")
    training.edit("  save_img: false", "  save_img: 'False'").edit("  val_freq: 5000", "  val_freq: '5000'")
    training.edit("  embed_dim: 96", "  embed_dim: '96'").edit("name: train_RGT_T_x2", "name: 2024")
    opt, warnings = training.validate()
    assert warnings == []
    assert opt["train"]["optim_g"]["lr"] == 5e-4
    assert (opt["train"]["total_iter"], type(opt["train"]["total_iter"])) == (100000, int)
    assert opt["val"]["save_img"] is False
    assert (opt["val"]["val_freq"], opt["network_g"]["embed_dim"], opt["name"]) == (5000, 96, "2024")


def test_keys_that_basicsr_looks_up_unconditionally_are_filled_in(training, testing):
    opt, _ = training.edit("  use_tb_logger: true\n", "").validate("train:amp=false", "val:tile=false")
    assert opt["logger"]["use_tb_logger"] is True
    assert (opt["train"]["amp"], opt["val"]["tile"]) == (None, None)
    opt, _ = testing.edit("  suffix: ~  # ending of image names; ~ is the name of this run\n", "").validate()
    assert opt["val"]["suffix"] is None
    for val in (None, False):
        opt, _ = testing.validate(val=val, path=None)
        assert (opt["val"], opt["path"]) == ({"save_img": True, "suffix": None}, {})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_missing_gpus_fall_back_to_the_cpu_with_one_warning(training):
    training.edit("num_gpu: auto", "num_gpu: 4")
    training.edit("    prefetch_mode: ~", "    prefetch_mode: cuda\n    pin_memory: true")
    opt, (warning,) = training.validate()
    assert (opt["num_gpu"], opt["datasets"]["train"]["prefetch_mode"]) == (0, None)
    assert "num_gpu = 4: no CUDA GPU is here; runs on the CPU" in warning


def test_training_data_without_hr_images_is_refused(training):
    data = {"name": "x", "type": "SingleImageDataset", "dataroot_lq": "x", "io_backend": {"type": "disk"}}
    data.update(num_worker_per_gpu=0, batch_size_per_gpu=1)
    message = training.error(datasets={"train": data})
    assert "datasets:train:type = 'SingleImageDataset': has no HR images to learn from" in message


def test_recursion_warning_ends_where_it_ends(training):
    for patch in (48, 63, 64, 255, 256, 300):
        _, warnings = training.validate(f"datasets:train:gt_size={2 * patch}")
        differs = recursion_depth(patch, patch, True) != recursion_depth(512, 512, False)
        assert any("recursion depth" in warning for warning in warnings) is differs


@pytest.mark.parametrize("argument", ["recursion=2", "global_blocks=none"])
def test_recursion_warning_is_for_the_automatic_depth_alone(training, argument):
    assert training.validate("datasets:train:gt_size=96", f"network_g:{argument}")[1] == []


@pytest.mark.parametrize(
    ("gt_size", "arguments", "unused"),
    [
        (30, [], True),
        (32, [], None),
        (30, ["network_g:recursion=1"], None),
        (30, ["network_g:recursion=0"], True),
        (30, ["network_g:global_blocks=none"], None),
    ],
)
def test_weights_that_small_patches_leave_unused_are_announced(training, gt_size, arguments, unused):
    entries = [f"datasets:train:gt_size={gt_size}", *arguments]
    assert training.validate(*entries)[0].get("find_unused_parameters") is unused
    assert training.validate(*entries, "find_unused_parameters=false")[0]["find_unused_parameters"] is False


def test_periods_must_cover_the_run(training):
    block = "type: MultiStepLR\n    milestones: [50000, 80000, 90000, 95000]\n    gamma: 0.5"
    cosine = "type: CosineAnnealingRestartLR\n    periods: [40000, 50000]\n    restart_weights: [1]"
    weights, end = training.edit(block, cosine).errors()
    assert "restart_weights: has 1 entries, periods has 2" in weights
    assert "end at 90000, before total_iter 100000" in end


def test_test_run_without_weights_says_so(testing):
    assert "a network with random weights is tested" in testing.warning("path:pretrain_network_g=~")


def test_missing_weights_are_named_with_the_folder_looked_in(testing_file):
    testing_file.edit("pretrain_network_g: RGT_T_x2", "pretrain_network_g: models/net_g_latst.pth")
    with pytest.raises(UsageError, match=f"path:pretrain_network_g = .*: no such file under {testing_file.root}"):
        testing_file.validate()


@pytest.mark.parametrize("layout", ["params", "params_ema", None])
def test_weights_of_every_published_layout_are_accepted_for_rgt_model(testing_file, layout):
    """The model finds them in a plain state dict, and in a file with averaged weights only."""
    weights = rgt_t(2).state_dict()
    torch.save(weights if layout is None else {layout: weights}, testing_file.root / "mine.pth")
    for param_key in ("params", "~"):
        testing_file.validate("path:pretrain_network_g=mine.pth", f"path:param_key_g={param_key}")


def test_weights_of_the_package_are_checked_against_the_network(testing_file):
    testing_file.validate("path:pretrain_network_g=RGT_T_x2")
    message = testing_file.error("path:pretrain_network_g=RGT_T_x2", "network_g:embed_dim=180")
    assert "path:pretrain_network_g = 'RGT_T_x2': does not fit RGT" in message


def test_published_weights_go_by_their_names(testing_file, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("RGT_CACHE", str(cache))
    for name in ("RGT_x2", "rgt-s-x4"):
        opt, _ = testing_file.validate(f"path:pretrain_network_g={name}")
        assert opt["path"]["pretrain_network_g"] == name
    assert not cache.exists()  # nothing is downloaded before the run starts
    assert "path:pretrain_network_g = 'RGT_S_x2': has no link" in testing_file.error("path:pretrain_network_g=RGT_S_x2")
    cache.mkdir()
    (cache / "RGT_S_x2.pth").touch()
    testing_file.validate("path:pretrain_network_g=RGT_S_x2")


@pytest.mark.parametrize("state", ["auto_resume", "resume_state"])
def test_weights_to_start_from_may_be_gone_when_a_run_goes_on(train_file, state):
    root = train_file.root
    opt = load_options(train_file.edit("pretrain_network_g: ~", "pretrain_network_g: gone.pth").file)
    states = root / "experiments" / "train_RGT_T_x2" / "training_states"
    states.mkdir(parents=True)
    settings = {"file": train_file.file, "is_train": True, "root": root}
    settings["resume_root"] = root if state == "auto_resume" else None
    with pytest.raises(UsageError, match=r"path:pretrain_network_g = 'gone.pth': no such file"):
        validate_options(deepcopy(opt), **settings)
    (states / "40.state").touch()
    if state == "resume_state":
        opt["path"]["resume_state"] = str(states / "40.state")
    assert validate_options(opt, **settings) == []
    opt["path"]["ignore_resume_networks"] = ["network_g"]
    with pytest.raises(UsageError, match=r"pretrain_network_g = 'gone.pth': no such file"):
        validate_options(opt, **settings)


def test_metrics_without_hr_images_are_an_error_or_with_rgt_model_a_warning(tmp_path):
    single = OptionFile(tmp_path, Path(__file__).parents[2] / "options/test_single_x2.yml")
    metrics = {"psnr": {"type": "calculate_psnr", "crop_border": 2}, "niqe": {"type": "calculate_niqe"}}
    metrics["niqe"]["crop_border"] = 2
    val = {"save_img": True, "metrics": metrics}
    assert "val:metrics:psnr: needs HR images" in single.warning(val=deepcopy(val))
    assert "needs HR images, and datasets:test_1 (SingleImageDataset) has none" in single.error(
        "model_type=SRModel", val=val
    )


def test_hr_images_of_a_single_image_data_set_ask_for_the_plain_paired_one(tmp_path):
    single = OptionFile(tmp_path, Path(__file__).parents[2] / "options/test_single_x2.yml")
    single.edit("    io_backend:", "    dataroot_gt: datasets/single\n    io_backend:")
    assert "set type: PairedImageDataset, which reads it" in single.error()


def test_runs_without_the_data_they_are_about_are_refused(training, testing):
    val = load_options(training.file)["datasets"]["val"]
    assert "datasets:train: is missing; add the training data" in training.errors(datasets={"val": val})[0]
    assert "datasets: no data set to test on; add test_1" in testing.error(datasets={})


def test_validation_data_without_validation_is_a_warning(training):
    text = training.file.read_text()
    training.file.write_text(re.sub(r"\nval:\n(  .*\n)+", "\n", text))
    assert "val: is missing, so nothing is validated" in training.warning()


def test_loggers_that_are_not_installed_are_named(training, monkeypatch):
    find_spec, missing = importlib.util.find_spec, {"tensorboard", "wandb"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find_spec(name))
    assert "logger:use_tb_logger = True: tensorboard is not installed" in training.error()
    needs, install = training.errors("logger:use_tb_logger=false", "logger:wandb:project=mine")
    assert "logger:wandb:project = 'mine': needs use_tb_logger: true" in needs
    assert "pip install wandb" in install


def test_keys_of_foreign_classes_are_warnings(training, monkeypatch):
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
    training.edit("model_type: RGTModel", "model_type: ForeignModel").edit("  type: RGT\n", "  type: ForeignNet\n")
    training.edit("  warmup_iter: -1", "  warmup_iter: -1\n  own_key: 1\n  totaliter: 3")
    _, warnings = training.validate()
    assert any("train:own_key: unknown here; train (ForeignModel) may read it" in warning for warning in warnings)
    assert any("train:totaliter" in warning and "did you mean total_iter?" in warning for warning in warnings)
    assert any("network_g:embed_dim" in warning for warning in warnings)


def test_unknown_class_does_not_make_its_keys_unknown(training):
    """Only the class is reported, and values of wrong types."""
    training.edit("model_type: RGTModel", "model_type: RGTModl").edit(
        "  warmup_iter: -1", "  warmup_iter: -1\n  amp: 8"
    )
    training.edit(
        "    type: PairedImageDataset\n    dataroot_gt: datasets/DF2K", "    type: X\n    dataroot_gt: datasets/DF2K"
    )
    assert len(training.errors()) == 3


def test_basicsr_networks_are_strict_although_they_take_kwargs(tmp_path):
    swinir = OptionFile(tmp_path, LAYOUTS / "test_basicsr_swinir.yml").edit("  window_size: 8", "  windowsize: 8")
    assert "did you mean window_size?" in swinir.errors()[0]


def test_value_from_the_command_line_is_not_blamed_on_a_line_of_the_file(training):
    assert training.error("train:total_iter=0").startswith("train_RGT_T_x2.yml: train:total_iter = 0")
