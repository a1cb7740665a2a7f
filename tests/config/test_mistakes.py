"""One mistake at a time in a training file: each is named with its line, key, value and remedy."""

from __future__ import annotations

import pytest

from rgt_arch.cli import basicsr_command
from rgt_arch.errors import UserError

TRAIN_EDITS = [
    # unknown and misspelt keys
    ("  total_iter:", "  totl_iter:", [":66: train:totl_iter: ", "did you mean total_iter?"]),
    ("manual_seed: 10", "manual_sed: 10", [":12: manual_sed", "the top level", "did you mean manual_seed?"]),
    ("  resume_state: ~", "  resume_states: ~", ["path:resume_states", "did you mean resume_state?"]),
    ("  resume_state: ~", "  models: here", ["path:models", "set by BasicSR itself; remove it"]),
    ("    gt_size: 128", "    gtsize: 128", ["datasets:train:gtsize", "PairedImageDataset", "did you mean gt_size?"]),
    ("  print_freq: 100", "  printfreq: 100", ["logger:printfreq", "did you mean print_freq?"]),
    ("    resume_id: ~", "    resumeid: ~", ["logger:wandb:resumeid", "did you mean resume_id?"]),
    ("  port: 29500", "  prt: 29500", ["dist_params:prt", "did you mean port?"]),
    ("  embed_dim: 96", "  embed_dims: 96", ["network_g:embed_dims", "(RGT)", "did you mean embed_dim?"]),
    ("    gamma: 0.5", "    gama: 0.5", ["train:scheduler:gama", "did you mean gamma?"]),
    (
        "    weight_decay: 0",
        "    weightdecay: 0",
        ["train:optim_g:weightdecay", "(Adam)", "did you mean weight_decay?"],
    ),
    (
        "    reduction: mean",
        "    reductoin: mean",
        ["train:pixel_opt:reductoin", "(L1Loss)", "did you mean reduction?"],
    ),
    (
        "  val_freq: 5000",
        "  val_freq: 5000\n  tile: {size: 64, overlp: 8}",
        ["val:tile:overlp", "did you mean overlap?"],
    ),
    # wrong types and values
    ("    lr: 5e-4", "    lr: fast", ["train:optim_g:lr = 'fast'", "a number such as 2e-4"]),
    ("  total_iter: 100000", "  total_iter: 0", ["train:total_iter = 0", "1 or more"]),
    ("    use_rot: true", "    use_rot: [1]", ["datasets:train:use_rot", "true or false"]),
    ("    betas: [0.9, 0.99]", "    betas: [0.9, x]", ["train:optim_g:betas", "list of numbers"]),
    ("    betas: [0.9, 0.99]", "    betas: [0.9, 1.5]", ["train:optim_g", "Adam refuses its arguments", "1.5"]),
    (
        "    crop_border: 2\n      test_y_channel: true\n    ssim",
        "    crop_border: all\n    ssim",
        ["crop_border = 'all'"],
    ),
    # unknown classes
    ("model_type: RGTModel", "model_type: RGTModle", [":9: model_type = 'RGTModle'", "did you mean RGTModel?"]),
    ("  type: RGT\n", "  type: RGTT\n", ["network_g:type = 'RGTT'", "did you mean RGT?"]),
    ("    type: L1Loss", "    type: L1Los", ["train:pixel_opt:type = 'L1Los'", "did you mean L1Loss?"]),
    ("    type: Adam", "    type: Adm", ["train:optim_g:type = 'Adm'", "did you mean Adam"]),
    (
        "    type: MultiStepLR",
        "    type: MultiStep",
        ["train:scheduler:type = 'MultiStep'", "did you mean MultiStepLR?"],
    ),
    (
        "      type: calculate_psnr",
        "      type: calculate_psn",
        ["val:metrics:psnr:type", "did you mean calculate_psnr"],
    ),
    ("  type: RGT\n", "", ["network_g:type", "is missing; name a class"]),
    ("    type: L1Loss\n", "", ["train:pixel_opt:type", "is missing; name a class"]),
    ("    type: Adam\n", "", ["train:optim_g:type", "add 'type: Adam'"]),
    ("    type: MultiStepLR\n", "", ["train:scheduler:type", "add 'type: MultiStepLR'"]),
    # missing keys
    ("  total_iter: 100000\n", "", ["train:total_iter", "is missing; add total_iter: 500000"]),
    ("    lr: 5e-4\n", "", ["train:optim_g:lr", "is missing"]),
    ("  val_freq: 5000\n", "", ["val:val_freq", "is missing; add val_freq: 5000"]),
    ("name: train_RGT_T_x2\n", "", [": name: is missing"]),
    ("    use_hflip: true\n", "", ["datasets:train:use_hflip", "is missing; add use_hflip: true"]),
    (
        "      crop_border: 2\n      test_y_channel: true\n    ssim",
        "      test_y_channel: true\n    ssim",
        ["val:metrics:psnr:crop_border", "is missing"],
    ),
    # keys that do not fit each other
    ("  upscale: 2", "  upscale: 4", ["network_g:upscale: is 4, but scale is 2"]),
    ("    gt_size: 128", "    gt_size: 127", ["datasets:train:gt_size = 127", "does not divide by scale 2; take 126"]),
    ("  num_heads: [6, 6]", "  num_heads: [6]", ["network_g: ", "depth", "num_heads"]),
    ("  embed_dim: 96", "  embed_dim: 100", ["network_g: ", "100"]),
    ("  warmup_iter: -1", "  warmup_iter: -1\n  accumulate: 17", ["train:accumulate = 17", "batch_size_per_gpu 16"]),
    ("    prefetch_mode: ~", "    prefetch_mode: cuda", ["prefetch_mode = 'cuda'", "pin_memory: true"]),
    (
        "  val_freq: 5000",
        "  val_freq: 5000\n  tile: {size: 64, overlap: 48}",
        ["val:tile:overlap = 48", "half of size 64"],
    ),
    ("  val_freq: 5000", "  val_freq: 5000\n  tile: {size: 4}", ["val:tile:size = 4", "16 or more"]),
    ("  val_freq: 5000", "  val_freq: 5000\n  use_chop: true\n  tile: {size: 64}", ["val:use_chop", "remove one"]),
    ("    project: ~", "    project: mine", ["logger:wandb:project = 'mine'", "pip install wandb"]),
    ("name: train_RGT_T_x2", "name: runs/one", [":8: name = 'runs/one'", "name of a folder"]),
    ("    name: Set5", "    name: ../../Set5", ["datasets:val:name = '../../Set5'", "name of a folder"]),
    ("    name: Set5", "    name: ..", ["datasets:val:name = '..'", "name of a folder"]),
    ("  val_freq: 5000", "  val_freq: 5000\n  suffix: ../x", ["val:suffix = '../x'", "names of images"]),
    ("  val_freq: 5000", "  val_freq: 5000\n  suffix: 'a\\b'", ["val:suffix = ", "names of images"]),
    ("  val:\n    name", "  test_1:\n    name", ["datasets:test_1", "rename it"]),
    ("  warmup_iter: -1", "  warmup_iter: -1\n  nan_patience: 0", ["train:nan_patience = 0: expected a value of 1"]),
    (
        "  use_tb_logger: true",
        "  use_tb_logger: true\n  keep_checkpoints: 0",
        ["logger:keep_checkpoints = 0: expected a value of 1"],
    ),
    (
        "  use_tb_logger: true",
        "  use_tb_logger: true\n  keep_best: lpips",
        ["logger:keep_best = 'lpips': names no metric of val:metrics; val:metrics has psnr"],
    ),
    (
        "  pixel_opt:\n    type: L1Loss\n    loss_weight: 1.0\n    reduction: mean\n",
        "",
        ["train: no loss is given; add pixel_opt"],
    ),
    (
        "  num_worker_per_gpu: 4",
        "  num_worker_per_gpu: 0\n    persistent_workers: true",
        ["datasets:train:persistent_workers", "needs num_worker_per_gpu"],
    ),
    (
        "  val:\n    name: Set5",
        "  val:\n    persistent_workers: true\n    name: Set5",
        ["datasets:val:persistent_workers", "remove it"],
    ),
    ("  split_size: [8, 16]", "  split_size: [8, 12]", ["network_g: split_size [8, 12] must be"]),
]


@pytest.mark.parametrize(
    ("old", "new", "parts"), TRAIN_EDITS, ids=[edit[1].strip() or edit[0].strip() for edit in TRAIN_EDITS]
)
def test_mistake_in_a_training_file_is_named(training, old, new, parts):
    message = training.edit(old, new).errors()[0]
    assert message.startswith("train_RGT_T_x2.yml:")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    gt_size: 128", "    gtsize: 128"),
        ("  total_iter:", "  totl_iter:"),
        ("    lr: 5e-4", "    lrr: 5e-4"),
        ("\nscale: 2", "\nscal: 2"),
    ],
)
def test_misspelt_required_key_is_reported_once(training, old, new):
    assert "did you mean" in training.edit(old, new).error()


WARNINGS = [
    ("  total_iter: 100000", "  total_iter: 60000", "train:scheduler:milestones"),
    (
        "[50000, 80000, 90000, 95000]",
        "[80000, 50000, 90000, 95000]",
        "milestones = [80000, 50000, 90000, 95000]: are not",
    ),
    ("    gt_size: 128", "    gt_size: 96", "LR patches of 48 train RG-SA at another recursion depth"),
    ("    gt_size: 128", "    gt_size: 126", "64 to 255 are safe: gt_size 128 to 510"),
    ("name: train_RGT_T_x2", "name: debug_run", "contains 'debug'"),
    ("  warmup_iter: -1", "  warmup_iter: -1\n  accumulate: 3", "does not divide batch_size_per_gpu 16"),
    ("    use_rot: true", "    use_rot: true\n    use_shuffle: false", "BasicSR always shuffles"),
]


@pytest.mark.parametrize(("old", "new", "part"), WARNINGS)
def test_what_is_odd_but_runs_is_a_warning(training, old, new, part):
    assert part in training.edit(old, new).warning()


FINE = [
    ("    name: Set5", "    name: My Set-5_v1.0"),
    ("  val_freq: 5000", "  val_freq: 5000\n  suffix: a-1"),
    ("  val_freq: 5000", "  val_freq: 5000\n  tile: {size: 64}\n  self_ensemble: true"),
    ("  val_freq: 5000", "  val_freq: 5000\n  tile: false"),
    ("  warmup_iter: -1", "  warmup_iter: -1\n  amp: bf16\n  grad_clip: 1\n  accumulate: 2\n  nan_patience: 5"),
    ("    type: Adam", "    type: AdamW"),
    ("  use_tb_logger: true\n", "  use_tb_logger: true\n  keep_checkpoints: 3\n  keep_best: psnr\n"),
    ("    gt_size: 128", "    gt_size: 510"),
]


@pytest.mark.parametrize(("old", "new"), FINE)
def test_what_fits_is_taken_without_a_word(training, old, new):
    assert training.edit(old, new).validate()[1] == []


def test_size_that_an_overlap_asks_for_is_one_that_is_taken(training):
    training.edit("  val_freq: 5000", "  val_freq: 5000\n  tile: {size: 8, overlap: 9}")
    assert "val:tile:overlap = 9: is over half of size 8; take size 18 or more" in training.errors()[1]
    training.edit("{size: 8, overlap: 9}", "{size: 64, overlap: 48}")
    assert "take size 96 or more, or overlap 8" in training.error()


def test_error_comes_after_everything_else_that_waits_to_be_said(monkeypatch, capsys):
    def fail(_flags, _root, notices, _stop):
        notices.append("said before there was a log")
        raise UserError("stopped")

    monkeypatch.setattr("rgt_arch.training.loop.train", fail)
    assert basicsr_command.main(["train", "-opt", "any.yml"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "basicsr train: warning: said before there was a log",
        "basicsr train: error: stopped",
    ]
