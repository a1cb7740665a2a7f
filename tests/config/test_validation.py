"""Every mistake in an option file is reported, all at once, with line, key and remedy, before anything is made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from rgt_arch.config import apply_overrides, load_options
from rgt_arch.data.option_checks import validate_options
from rgt_arch.errors import UsageError


def test_all_mistakes_are_reported_at_once_each_on_a_line_of_its_own(train_file):
    for old, new in (
        ("  total_iter:", "  totl_iter:"),
        ("    lr: 5e-4", "    lr: fast"),
        ("    type: L1Loss", "    type: L1Los"),
        ("  embed_dim: 96", "  embed_dims: 96"),
        ("dataroot_gt: datasets/DF2K/HR", "dataroot_gt: datasets/DF2K/HRR"),
        ("  upscale: 2", "  upscale: 3"),
        ("  print_freq: 100", "  print_freq: often"),
    ):
        train_file.edit(old, new)
    lines = train_file.errors()
    keys = {
        "train:totl_iter", "train:optim_g:lr", "train:pixel_opt:type", "network_g:embed_dims",
        "datasets:train:dataroot_gt", "network_g:upscale", "logger:print_freq",
    }  # fmt: skip
    assert {re.split(r"[: ]{2,}| = ", line.partition(" ")[2])[0] for line in lines} == keys
    assert all(re.match(r"train_RGT_T_x2\.yml:\d+: ", line) for line in lines)


def test_heading_counts_the_mistakes(train_file):
    train_file.edit("    lr: 5e-4", "    lr: fast").edit("\nscale: 2", "\nscale: two")
    with pytest.raises(UsageError, match=rf"^2 problems in {re.escape(str(train_file.file))}:\n"):
        train_file.validate()


def test_nothing_is_made_on_disk(train_file, testing_file, monkeypatch):
    monkeypatch.chdir(train_file.root)
    before = sorted(train_file.root.rglob("*"))
    train_file.validate()
    testing_file.validate()
    train_file.edit("\nscale: 2", "\nscale: two").errors()
    assert sorted(train_file.root.rglob("*")) == before


def test_key_that_the_model_would_ignore_names_the_model_that_reads_it(train_file):
    train_file.edit("model_type: RGTModel", "model_type: SRModel")
    train_file.edit("  warmup_iter: -1", "  warmup_iter: -1\n  amp: bf16\n  grad_clip: 1\n  accumulate: 2")
    train_file.edit("  val_freq: 5000", "  val_freq: 5000\n  tile: {size: 64}\n  self_ensemble: true\n  use_chop: true")
    lines = train_file.errors()
    for key in ("train:amp", "train:grad_clip", "train:accumulate", "val:tile", "val:self_ensemble", "val:use_chop"):
        line = next(line for line in lines if f" {key}: " in line)
        assert line.endswith("SRModel would ignore it; set model_type: RGTModel, which reads it, or remove it")


def test_keys_of_rgt_model_are_accepted_by_it(train_file):
    train_file.edit("  warmup_iter: -1", "  warmup_iter: -1\n  amp: bf16\n  grad_clip: 1\n  accumulate: 2")
    train_file.edit("  val_freq: 5000", "  val_freq: 5000\n  tile: {size: 64}\n  self_ensemble: true")
    assert train_file.validate()[1] == []


def test_optimiser_that_the_model_does_not_know_is_refused(train_file):
    train_file.edit("    type: Adam", "    type: AdamW")
    assert train_file.validate()[1] == []
    train_file.edit("model_type: RGTModel", "model_type: SRModel")
    assert "SRModel knows Adam only; set model_type: RGTModel" in train_file.error()


@pytest.mark.parametrize("name", ["0012", "1e3", "0x10", "1_000", "2024.10"])
def test_name_that_looks_like_a_number_stays_as_it_is_written(train_file, name):
    train_file.edit("name: train_RGT_T_x2", f"name: {name}")
    assert train_file.validate()[0]["name"] == name
    train_file.edit("    name: Set5\n", "    name: 1:30\n")
    opt = load_options(train_file.file)
    apply_overrides(opt, ["name=7"])
    validate_options(opt, file=train_file.file, is_train=True, root=train_file.root)
    assert opt["name"] == "7"
    assert opt["datasets"]["val"]["name"] == "1:30"


@pytest.mark.parametrize("name", ["LBFGS", "SparseAdam", "Muon", "NoSuch"])
def test_optimiser_that_cannot_train_a_network_is_refused(train_file, name):
    """LBFGS calls the loss by itself, SparseAdam wants sparse gradients, Muon refuses biases and convolutions."""
    train_file.edit("    type: Adam", f"    type: {name}").edit("    betas: [0.9, 0.99]\n", "")
    message = train_file.error()
    assert f"train:optim_g:type = {name!r}: no optimiser of torch.optim that fits training" in message
    assert not re.search("(mean|valid:.*) (LBFGS|SparseAdam|Muon)", message)


def test_convolutions_count_when_an_optimiser_is_tried(train_file, monkeypatch):
    seen = []
    from rgt_arch.models.rgt_model import RGTModel

    build = RGTModel.get_optimizer
    monkeypatch.setattr(
        RGTModel, "get_optimizer", lambda self, name, params, **k: (seen.extend(params), build(self, name, params, **k))
    )
    train_file.validate()
    assert {parameter.dim() for parameter in seen} == {1, 2, 4}


def test_numbers_and_booleans_written_as_text_are_converted(train_file):
    train_file.edit("    lr: 5e-4", "    lr: '5e-4'").edit("  total_iter: 100000", "  total_iter: !!float 1e5")
    train_file.edit("  save_img: false", "  save_img: 'False'").edit("  val_freq: 5000", "  val_freq: '5000'")
    train_file.edit("  embed_dim: 96", "  embed_dim: '96'").edit("name: train_RGT_T_x2", "name: 2024")
    opt, warnings = train_file.validate()
    assert warnings == []
    assert opt["train"]["optim_g"]["lr"] == 5e-4
    assert opt["train"]["total_iter"] == 100000
    assert type(opt["train"]["total_iter"]) is int
    assert opt["val"]["save_img"] is False
    assert opt["val"]["val_freq"] == 5000
    assert opt["network_g"]["embed_dim"] == 96
    assert opt["name"] == "2024"


def test_what_basicsr_looks_up_without_asking_is_filled_in(train_file, testing_file):
    opt, _ = (
        train_file.edit("  use_tb_logger: true\n", "")
        .edit("  save_checkpoint_freq", "  # \n  save_checkpoint_freq")
        .validate()
    )
    assert opt["logger"]["use_tb_logger"] is True
    opt, _ = testing_file.edit("  suffix: ~  # ending of image names; ~ is the name of this run\n", "").validate()
    assert opt["val"]["suffix"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpus_that_are_not_there_fall_back_to_the_cpu_with_one_warning(train_file):
    train_file.edit("num_gpu: auto", "num_gpu: 4")
    train_file.edit("    prefetch_mode: ~", "    prefetch_mode: cuda\n    pin_memory: true")
    opt, warnings = train_file.validate()
    assert opt["num_gpu"] == 0
    assert opt["datasets"]["train"]["prefetch_mode"] is None
    assert len(warnings) == 1
    assert "num_gpu = 4: no CUDA GPU is here; runs on the CPU" in warnings[0]


def test_training_data_without_hr_images_is_refused(train_file):
    text = train_file.file.read_text()
    block = text[text.index("    dataroot_gt") : text.index("    num_worker_per_gpu")]
    single = "    dataroot_lq: datasets/DF2K/HR\n    io_backend:\n      type: disk\n"
    train_file.file.write_text(text.replace(block, single).replace("PairedImageDataset", "SingleImageDataset", 1))
    assert "datasets:train:type = 'SingleImageDataset': has no HR images to learn from" in train_file.error()


def test_missing_loss_is_named(train_file):
    text = train_file.file.read_text()
    train_file.file.write_text(
        text.replace("  pixel_opt:\n    type: L1Loss\n    loss_weight: 1.0\n    reduction: mean\n", "")
    )
    assert "train: no loss is given; add pixel_opt" in train_file.error()


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("  total_iter: 100000", "  total_iter: 60000", "train:scheduler:milestones"),
        ("    gt_size: 128", "    gt_size: 96", "LR patches of 48 train RG-SA at another recursion depth"),
        ("name: train_RGT_T_x2", "name: debug_run", "contains 'debug'"),
        ("  warmup_iter: -1", "  warmup_iter: -1\n  accumulate: 3", "does not divide batch_size_per_gpu 16"),
        ("    use_rot: true", "    use_rot: true\n    use_shuffle: false", "BasicSR always shuffles"),
    ],
)
def test_what_is_odd_but_runs_is_a_warning(train_file, old, new, part):
    _, warnings = train_file.edit(old, new).validate()
    assert len(warnings) == 1
    assert part in warnings[0]


def test_recursion_warning_names_the_safe_range_and_ends_where_it_ends(train_file, checker):
    from rgt_arch.archs.rgt_arch import recursion_depth

    _, warnings = train_file.edit("    gt_size: 128", "    gt_size: 126").validate()
    assert "64 to 255 are safe: gt_size 128 to 510" in warnings[0]
    for patch in (48, 63, 64, 255, 256, 300):
        opt = load_options(train_file.file)
        opt["datasets"]["train"]["gt_size"] = 2 * patch
        opt["datasets"]["train"].pop("dataroot_lq")
        try:
            warnings = validate_options(opt, file=train_file.file, is_train=True, root=train_file.root)
        except UsageError:
            continue
        differs = recursion_depth(patch, patch, True) != recursion_depth(512, 512, False)
        assert any("recursion depth" in warning for warning in warnings) is differs


@pytest.mark.parametrize("argument", ["recursion: 2", "global_blocks: none"])
def test_recursion_warning_is_for_the_automatic_depth_alone(train_file, argument):
    train_file.edit("    gt_size: 128", "    gt_size: 96").edit("  embed_dim: 96", f"  embed_dim: 96\n  {argument}")
    assert train_file.validate()[1] == []


@pytest.mark.parametrize(
    ("gt_size", "arguments", "unused"),
    [
        (30, {}, True),
        (32, {}, None),
        (30, {"recursion": 1}, None),
        (30, {"recursion": 0}, True),
        (30, {"global_blocks": "none"}, None),
    ],
)
def test_weights_that_small_patches_leave_unused_are_announced(train_file, gt_size, arguments, unused):
    opt = load_options(train_file.file)
    opt["datasets"]["train"]["gt_size"] = gt_size
    opt["network_g"].update(arguments)
    validate_options(opt, file=train_file.file, is_train=True, root=train_file.root)
    assert opt.get("find_unused_parameters") is unused
    opt["find_unused_parameters"] = False
    validate_options(opt, file=train_file.file, is_train=True, root=train_file.root)
    assert opt["find_unused_parameters"] is False


def test_periods_must_cover_the_run(train_file):
    text = train_file.file.read_text()
    block = "type: MultiStepLR\n    milestones: [50000, 80000, 90000, 95000]\n    gamma: 0.5"
    cosine = "type: CosineAnnealingRestartLR\n    periods: [40000, 50000]\n    restart_weights: [1]"
    train_file.file.write_text(text.replace(block, cosine))
    lines = train_file.errors()
    assert any("restart_weights" in line and "has 1 entries, periods has 2" in line for line in lines)
    assert any("end at 90000, before total_iter 100000" in line for line in lines)


def test_test_run_without_val_or_weights_runs_and_says_so(testing_file):
    text = testing_file.file.read_text()
    testing_file.file.write_text(
        text[: text.index("# images and metrics")].replace("pretrain_network_g: RGT_T_x2", "pretrain_network_g: ~")
    )
    for val in ("", "val: ~\n"):
        testing_file.file.write_text(testing_file.file.read_text() + val)
        opt, (warning,) = testing_file.validate()
        assert opt["val"] == {"save_img": True, "suffix": None}
        assert "a network with random weights is tested" in warning


def test_missing_weights_are_named_with_the_folder_looked_in(testing_file):
    testing_file.edit("pretrain_network_g: RGT_T_x2", "pretrain_network_g: models/net_g_latst.pth")
    with pytest.raises(UsageError) as caught:
        testing_file.validate()
    assert f"no such file under {testing_file.root}" in str(caught.value)
    assert "path:pretrain_network_g" in str(caught.value)


@pytest.mark.parametrize("name", ["RGT_x2", "rgt-s-x4"])
def test_weights_that_can_be_downloaded_go_by_their_names(testing_file, name, tmp_path, monkeypatch):
    monkeypatch.setenv("RGT_CACHE", str(tmp_path / "cache"))
    testing_file.edit("pretrain_network_g: RGT_T_x2", f"pretrain_network_g: {name}")
    assert testing_file.validate()[0]["path"]["pretrain_network_g"] == name
    assert not (tmp_path / "cache").exists()  # nothing is downloaded before the run starts


def test_weights_without_a_link_are_asked_for_before_the_run_starts(testing_file, tmp_path, monkeypatch):
    monkeypatch.setenv("RGT_CACHE", str(tmp_path / "cache"))
    testing_file.edit("pretrain_network_g: RGT_T_x2", "pretrain_network_g: RGT_S_x2")
    with pytest.raises(UsageError) as caught:
        testing_file.validate()
    assert "path:pretrain_network_g = 'RGT_S_x2': has no link" in str(caught.value)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/RGT_S_x2.pth").touch()
    testing_file.validate()


def test_metrics_without_hr_images_are_an_error_or_with_rgt_model_a_warning(single_file):
    metric = "val:\n  metrics:\n    psnr: {type: calculate_psnr, crop_border: 2}\n    niqe: {type: calculate_niqe, "
    metric += "crop_border: 2}"
    single_file.edit("val:\n", f"{metric}\n")
    _, warnings = single_file.validate()
    assert len(warnings) == 1
    assert "val:metrics:psnr: needs HR images" in warnings[0]
    single_file.edit("  tile:\n    size: 256\n    overlap: 32\n", "").edit(
        "model_type: RGTModel", "model_type: SRModel"
    )
    assert "needs HR images, and datasets:test_1 (SingleImageDataset) has none" in single_file.error()


def test_runs_without_the_data_they_are_about_are_refused(train_file, testing_file):
    for file, name, part in (
        (train_file, "train", "datasets:train: is missing; add the training data"),
        (testing_file, "test", "datasets: no data set to test on; add test_1"),
    ):
        opt = load_options(file.file)
        opt["datasets"] = {key: value for key, value in opt["datasets"].items() if not key.startswith(name)}
        with pytest.raises(UsageError, match=part):
            validate_options(opt, file=file.file, is_train=name == "train", root=file.root)


def test_validation_data_that_nothing_asks_for_is_a_warning(train_file):
    opt = load_options(train_file.file)
    opt.pop("val")
    (warning,) = validate_options(opt, file=train_file.file, is_train=True, root=train_file.root)
    assert "val: is missing, so nothing is validated" in warning


def test_milestones_out_of_order_are_a_warning(train_file):
    train_file.edit("[50000, 80000, 90000, 95000]", "[80000, 50000, 90000, 95000]")
    (warning,) = train_file.validate()[1]
    assert "train:scheduler:milestones" in warning
    assert "are not in rising order" in warning


def test_loggers_that_are_not_installed_are_named(train_file, monkeypatch):
    import importlib.util

    find_spec = importlib.util.find_spec
    missing = {"tensorboard", "wandb"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find_spec(name))
    assert "logger:use_tb_logger = True: tensorboard is not installed" in train_file.error()
    train_file.edit("  use_tb_logger: true", "  use_tb_logger: false").edit("    project: ~", "    project: mine")
    needs, install = train_file.errors()
    assert "logger:wandb:project = 'mine': needs use_tb_logger: true" in needs
    assert "pip install wandb" in install


def test_persistent_workers_where_there_are_none(train_file):
    train_file.edit("    num_worker_per_gpu: 4", "    num_worker_per_gpu: 0\n    persistent_workers: true")
    train_file.edit("  val:\n    name: Set5", "  val:\n    persistent_workers: true\n    name: Set5")
    lines = train_file.errors()
    assert "datasets:val:persistent_workers" in lines[0]
    assert "datasets:train:persistent_workers" in lines[1]


def test_keys_of_foreign_classes_are_warnings(train_file):
    from basicsr.models.sr_model import SRModel
    from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY

    class ForeignModel(SRModel):
        pass

    class ForeignNet(torch.nn.Module):
        def __init__(self, upscale: int = 2, **kwargs: object) -> None:
            super().__init__()

    for registry, name, made in (
        (MODEL_REGISTRY, "ForeignModel", ForeignModel),
        (ARCH_REGISTRY, "ForeignNet", ForeignNet),
    ):
        made.__module__ = "somebody.else"
        registry._obj_map[name] = made
    try:
        train_file.edit("model_type: RGTModel", "model_type: ForeignModel").edit(
            "  type: RGT\n", "  type: ForeignNet\n"
        )
        train_file.edit("  warmup_iter: -1", "  warmup_iter: -1\n  own_key: 1\n  totaliter: 3")
        _, warnings = train_file.validate()
    finally:
        MODEL_REGISTRY._obj_map.pop("ForeignModel")
        ARCH_REGISTRY._obj_map.pop("ForeignNet")
    assert any("train:own_key: unknown here; train (ForeignModel) may read it" in warning for warning in warnings)
    assert any("train:totaliter" in warning and "did you mean total_iter?" in warning for warning in warnings)
    assert any("network_g:embed_dim" in warning for warning in warnings)


def test_basicsr_networks_are_strict_although_they_take_kwargs(tmp_path):
    from .conftest import LAYOUTS, Checker

    swinir = Checker(tmp_path, LAYOUTS / "test_basicsr_swinir.yml").edit("  window_size: 8", "  windowsize: 8")
    assert "did you mean window_size?" in swinir.errors()[0]


def test_value_from_the_command_line_is_not_blamed_on_a_line_of_the_file(train_file):
    opt = load_options(train_file.file)
    apply_overrides(opt, ["train:total_iter=0"])
    with pytest.raises(UsageError) as caught:
        validate_options(opt, file=train_file.file, is_train=True, root=train_file.root)
    assert f"{train_file.file}: train:total_iter = 0" in str(caught.value)


def test_reference_lists_every_key_of_the_shipped_files(train_file, testing_file):
    from rgt_arch.config import describe_options

    text = describe_options()
    for file in (train_file.file, testing_file.file):
        opt = load_options(file)
        sections = [
            opt,
            opt["path"],
            opt["val"],
            opt.get("train", {}),
            opt.get("logger", {}),
            *opt["datasets"].values(),
        ]
        for key in {key for section in sections for key in section}:
            assert f"| `{key}` |" in text, key


def test_relative_paths_are_relative_to_the_root(train_file, monkeypatch):
    monkeypatch.chdir(Path("/"))
    train_file.validate()


@pytest.mark.parametrize("state", ["auto_resume", "resume_state"])
def test_weights_to_start_from_may_be_gone_when_a_run_goes_on(train_file, state):
    train_file.edit("pretrain_network_g: ~", "pretrain_network_g: gone.pth")
    assert "path:pretrain_network_g = 'gone.pth': no such file" in train_file.error()
    states = train_file.root / "experiments" / "train_RGT_T_x2" / "training_states"
    states.mkdir(parents=True)
    resume_root = train_file.root if state == "auto_resume" else None
    opt = load_options(train_file.file)
    with pytest.raises(UsageError, match="no such file"):
        validate_options(opt, file=train_file.file, is_train=True, root=train_file.root, resume_root=resume_root)
    (states / "40.state").touch()
    if state == "resume_state":
        opt["path"]["resume_state"] = str(states / "40.state")
    assert validate_options(
        opt, file=train_file.file, is_train=True, root=train_file.root, resume_root=resume_root
    ) == []  # fmt: skip
    opt["path"]["ignore_resume_networks"] = ["network_g"]
    with pytest.raises(UsageError, match=r"pretrain_network_g = 'gone.pth': no such file"):
        validate_options(opt, file=train_file.file, is_train=True, root=train_file.root, resume_root=resume_root)


def test_windows_that_do_not_go_into_each_other_are_a_problem_like_any_other(train_file):
    train_file.edit("  split_size: [8, 16]", "  split_size: [8, 12]").edit("  print_freq: 100", "  print_freq: often")
    network, logger = train_file.errors()
    if "network_g" not in network:
        network, logger = logger, network
    assert "network_g: split_size [8, 12] must be" in network
    assert "logger:print_freq" in logger


def test_what_a_run_keeps_and_endures_is_checked(train_file):
    train_file.edit("  use_tb_logger: true\n", "  use_tb_logger: true\n  keep_checkpoints: 3\n  keep_best: psnr\n")
    train_file.edit("  total_iter: 100000\n", "  total_iter: 100000\n  nan_patience: 5\n")
    opt, warnings = train_file.validate()
    assert warnings == []
    assert (opt["logger"]["keep_checkpoints"], opt["train"]["nan_patience"]) == (3, 5)
    train_file.edit("keep_checkpoints: 3", "keep_checkpoints: 0").edit("nan_patience: 5", "nan_patience: 0")
    train_file.edit("keep_best: psnr", "keep_best: lpips")
    told = train_file.errors()
    assert len(told) == 3
    for key in ("logger:keep_checkpoints = 0: expected a value of 1", "train:nan_patience = 0: expected a value of 1"):
        assert any(key in line for line in told), told
    assert any("logger:keep_best = 'lpips': names no metric of val:metrics; val:metrics has psnr" in x for x in told)


def test_keys_of_the_logger_that_only_rgt_model_reads_are_told_to_others(train_file):
    train_file.edit("  use_tb_logger: true\n", "  use_tb_logger: true\n  keep_checkpoints: 3\n")
    train_file.edit("model_type: RGTModel", "model_type: SRModel")
    assert any("keep_checkpoints" in line and "RGTModel" in line for line in train_file.errors())
