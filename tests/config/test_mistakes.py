"""Each mistake in a training file is reported with its line, key, value and remedy."""

from __future__ import annotations

from typing import Any

from .conftest import GONE

MISTAKES: list[tuple[str, Any, str]] = [
    # unknown and misspelt keys
    ("train:totl_iter", 3, "unknown key of train (RGTModel); did you mean total_iter?"),
    ("manual_sed", 1, "unknown key of the top level (RGTModel); did you mean manual_seed?"),
    ("path:models", "here", "is set by BasicSR; remove it"),
    ("datasets:val:phase", "val", "is set by BasicSR; remove it"),
    # keys in another place than here
    ("save_img", False, "unknown key of the top level (RGTModel); move it to val:save_img"),
    ("suffix", None, "move it to val:suffix"),
    ("tile", {"tile_size": 64}, "move it to val:tile"),
    ("use_amp", True, "set train:amp (bf16 or fp16) instead"),
    ("total_iter", 5, "move it to train:total_iter"),
    ("crop_border", 4, "set crop_border of each metric in val:metrics"),
    ("datasets:train:gtsize", 64, "(PairedImageDataset); did you mean gt_size?"),
    ("logger:wandb:resumeid", None, "did you mean resume_id?"),
    ("dist_params:prt", 1, "did you mean port?"),
    ("network_g:embed_dims", 96, "(RGT); did you mean embed_dim?"),
    ("train:scheduler:gama", 0.5, "did you mean gamma?"),
    ("train:optim_g:weightdecay", 0, "(Adam); did you mean weight_decay?"),
    ("train:pixel_opt:reductoin", "sum", "(L1Loss); did you mean reduction?"),
    (
        "val:tile",
        {"size": 64, "overlp": 8},
        "tile:overlp: unknown key of val:tile (RGTModel); did you mean overlap?",
    ),
    # wrong types and values
    ("train:optim_g:lr", "fast", "expected a number such as 2e-4"),
    ("datasets:train:dataroot_gt", ["a", "b"], "expected one path, not a list; put all files or links"),
    ("train:total_iter", 0, "expected a value of 1 or more"),
    ("datasets:train:use_rot", [1], "expected true or false"),
    ("train:optim_g:betas", [0.9, "x"], "expected a list of numbers"),
    ("train:optim_g:betas", [0.9, 1.5], "train:optim_g: Adam refuses its arguments: Invalid beta"),
    ("train:scheduler:milestones", ["x"], "expected a list of whole numbers"),
    ("val:metrics:psnr:crop_border", "all", "expected a whole number"),
    ("train:nan_patience", 0, "expected a value of 1 or more"),
    # unknown classes
    ("model_type", "RGTModle", "no such model class; did you mean RGTModel?"),
    ("network_g:type", "RGTT", "no such network class; did you mean RGT?"),
    ("train:pixel_opt:type", "L1Los", "no such loss class; did you mean L1Loss?"),
    (
        "train:optim_g:type",
        "Adm",
        "no optimiser of torch.optim that fits training step by step, nor Muon (pip install 'rgt-arch[muon]'); "
        "did you mean Adam",
    ),
    ("train:optim_g:type", "LBFGS", "no optimiser of torch.optim"),  # it calls the loss itself
    ("train:optim_g:type", "SparseAdam", "no optimiser of torch.optim"),
    ("train:scheduler:type", "MultiStep", "no such scheduler; did you mean MultiStepLR?"),
    ("val:metrics:psnr:type", "calculate_psn", "no such metric class; did you mean calculate_psnr"),
    # missing keys
    ("name", GONE, "is missing; add name: my_run"),
    ("network_g:type", GONE, "is missing; add type: RGT"),
    ("train:pixel_opt:type", GONE, "is missing; add type: L1Loss"),
    ("train:optim_g:lr", GONE, "is missing; add lr: 2e-4"),
    ("train:total_iter", GONE, "is missing; add total_iter: 500000"),
    ("datasets:train:use_hflip", GONE, "is missing; add use_hflip: true"),
    ("val:metrics:psnr:crop_border", GONE, "is missing; add crop_border: 4"),
    ("train:pixel_opt", GONE, "train: no loss is given; add pixel_opt"),
    ("datasets:train", GONE, "is missing; add the training data, or use `basicsr test`"),
    # keys that contradict each other
    ("model_type", "SwinIRModel", "reads network_g:window_size, which RGT does not have; set model_type: RGTModel"),
    ("datasets:train:type", "RealESRGANDataset", "makes no LR images; set model_type: RealRGTModel"),
    ("network_g:upscale", 4, "is 4, but scale is 2; give both the same value"),
    ("network_g:num_heads", [6], "depth"),
    ("network_g:embed_dim", 100, "100"),
    ("network_g:split_size", [8, 12], "network_g: split_size [8, 12] must be"),
    ("datasets:train:gt_size", 127, "does not divide by scale 2; take 126"),
    ("datasets:train:type", "SingleImageDataset", "has no HR images to learn from"),
    ("datasets:test_1", {}, "a training run takes train, val, val_2, ...; rename it"),
    ("train:accumulate", 17, "is more than batch_size_per_gpu 16"),
    (
        "val:tile",
        {"size": 64, "overlap": 48},
        "tile:overlap = 48: is over half of size 64; take size 96 or more, or",
    ),
    ("val:tile", {"size": 4}, "val:tile:size = 4: expected a value of 16 or more"),
    ("logger:wandb:project", "mine", "pip install wandb"),
    ("logger:keep_best", "lpips", "is not a metric of val:metrics; val:metrics has psnr"),
    # names that would leave the folder of the run
    ("name", "runs/one", "is the name of a folder and a log file"),
    ("datasets:val:name", "../../Set5", "is the name of a folder of results"),
    ("datasets:val:name", "..", "is the name of a folder of results"),
    ("val:suffix", "../x", "ends the names of images"),
    ("val:suffix", "a\\b", "ends the names of images"),
]


def test_mistake_in_a_training_file_is_reported(training):
    for key, value, words in MISTAKES:
        lines = training.errors(changes={key: value})
        line = next((line for line in lines if words in line), "")
        assert line.startswith("train_RGT_T_x2.yml:"), (key, lines)
        assert line.partition(": ")[2].startswith(key.rpartition(":")[0]), line
        if isinstance(value, str) and "unknown" not in line:
            assert f"{key} = {value!r}: " in line


def test_misspelt_required_key_is_reported_once_with_its_line(training):
    for old, new, line in (
        ("    gt_size: 128", "    gtsize: 128", 24),
        ("  total_iter:", "  totl_iter:", 66),
        ("    lr: 5e-4", "    lrr: 5e-4", 70),
        ("\nscale: 2", "\nscal: 2", 10),
    ):
        message = training.edit(old, new).error()
        assert message.startswith(f"train_RGT_T_x2.yml:{line}: ")
        assert "did you mean" in message
        training.edit(new, old)


def test_unusual_but_valid_value_is_a_warning(training):
    for key, value, words in (
        ("train:total_iter", 60000, "scheduler:milestones = [50000, 80000, 90000, 95000]: [80000, 90000, 95000] come"),
        ("datasets:train:gt_size", 96, "LR patches of 48 train RG-SA at another recursion depth"),
        ("datasets:train:gt_size", 126, "64 to 255 are safe: gt_size 128 to 510"),
        ("name", "debug_run", "contains 'debug'"),
        ("val", GONE, "is missing, so nothing is validated"),
    ):
        assert words in training.warning(changes={key: value})


def test_valid_values_give_no_warning(training):
    for key, value in (
        ("datasets:val:name", "My Set-5_v1.0"),
        ("val:suffix", "a-1"),
        ("val:tile", {"size": 64}),
        ("val:tile", False),
        ("val:self_ensemble", True),
        ("train:amp", "bf16"),
        ("train:grad_clip", 1),
        ("train:accumulate", 2),
        ("train:optim_g:type", "AdamW"),
        ("logger:keep_checkpoints", 3),
        ("logger:keep_best", "psnr"),
        ("datasets:train:gt_size", 510),
    ):
        assert training.validate(changes={key: value})[1] == []
