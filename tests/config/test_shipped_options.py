"""The files in options/ are valid, consistent and hold the paper's settings; files of other projects are valid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import rgt_arch
from rgt_arch.config.loading import load_options

SHIPPED = sorted((Path(__file__).parents[2] / "options").glob("*.yml"))
LAYOUTS = sorted((Path(__file__).parent / "layouts").glob("*.yml"))
GPU_WARNING = "no CUDA GPU is usable"


def network(opt: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in opt["network_g"].items() if key not in ("type", "upscale")}


def by_name(pattern: str) -> dict[str, dict[str, Any]]:
    return {file.stem: load_options(file) for file in SHIPPED if re.fullmatch(pattern, file.stem)}


def test_every_network_and_scale_has_its_files():
    names = {file.stem for file in SHIPPED}
    for scale in (2, 3, 4):
        assert {f"test_single_x{scale}", f"test_RGT_T_x{scale}", f"train_RGT_T_x{scale}_photos"} <= names
        for size in ("RGT", "RGT_S"):
            assert {f"train_{size}_x{scale}", f"train_{size}_x{scale}_lmdb", f"test_{size}_x{scale}"} <= names
    assert {"train_RGT_T_x2", "train_RGT_T_x4", "finetune_RGT_x4"} <= names
    assert {f"train_RealRGT{which}_x{scale}" for which in ("", "GAN", "_T") for scale in (2, 4)} <= names
    assert {"train_RealRGT_S_x4", "train_RealRGTGAN_S_x4", "train_RealRGTGAN_T_x4"} <= names


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_file_validates_without_a_warning(file, checker):
    opt, warnings = checker(file).validate()
    assert warnings == []
    assert opt["name"] == file.stem
    assert "debug" not in opt["name"]
    kind = re.match(r"train_(Real\w+?)_", file.stem)
    assert opt["model_type"] == f"{kind[1] if kind else 'RGT'}Model"
    assert opt["num_gpu"] == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    assert opt["scale"] == opt["network_g"]["upscale"] == int(file.stem.split("_x")[1][0])


@pytest.mark.parametrize("file", LAYOUTS, ids=lambda file: file.stem)
def test_file_of_another_project_validates(file, checker):
    opt, warnings = checker(file).validate()
    if not torch.cuda.is_available() and load_options(file)["num_gpu"] == 1:
        assert opt["num_gpu"] == 0
        assert sum(GPU_WARNING in warning for warning in warnings) == 1
    others = [warning for warning in warnings if GPU_WARNING not in warning]
    if "2020" in file.stem:
        assert len(others) == 3
        assert opt["datasets"]["train"]["use_hflip"] is True
        assert "use_flip" not in opt["datasets"]["train"]
        assert list(opt["path"]) == ["pretrain_network_g", "strict_load_g", "resume_state"]
    else:
        assert others == []
    if file.stem == "train_official_rgt":
        assert opt["train"]["optim_g"]["lr"] == 2e-4
        assert opt["val"]["val_freq"] == 5000


@pytest.mark.parametrize("preset", ["rgt", "rgt_s", "rgt_t"])
def test_files_hold_the_networks_of_the_presets(preset):
    size = preset.upper()
    real = size.replace("RGT", "RealRGT(GAN)?", 1)
    files = by_name(rf"(train|test|finetune)_({size}|{real})_x\d(_lmdb)?")
    files |= by_name(r"test_single_x\d") if size == "RGT_S" else {}
    networks = [{**network(opt), "use_chk": False} for opt in files.values()]
    for name, values in zip(files, networks, strict=True):
        if name.startswith("train_RealRGT_T"):  # as in the trainings of the bundled weights
            assert values["drop_path_rate"] == 0
            values["drop_path_rate"] = 0.1
    assert all(other == networks[0] for other in networks), size
    assert networks[0]["drop_path_rate"] == 0.1
    with torch.device("meta"):
        built, wanted = rgt_arch.RGT(upscale=4, **networks[0]), getattr(rgt_arch, preset)(upscale=4)
    shapes = [{key: value.shape for key, value in net.named_parameters()} for net in (built, wanted)]
    assert shapes[0] == shapes[1]
    assert built.img_range == wanted.img_range
    assert built.split_size == wanted.split_size


def test_training_files_hold_the_schedule_of_the_paper():
    for name, opt in by_name(r"train_RGT(_S)?_x\d(_lmdb)?").items():
        scale, train, data = opt["scale"], opt["train"], opt["datasets"]["train"]
        assert train["optim_g"] == {"type": "Adam", "lr": 2e-4, "weight_decay": 0, "betas": [0.9, 0.99]}, name
        milestones = [250000, 400000, 450000, 475000]
        assert train["scheduler"] == {"type": "MultiStepLR", "milestones": milestones, "gamma": 0.5}, name
        assert train["total_iter"] == 500000
        assert train["warmup_iter"] == -1
        assert train["pixel_opt"] == {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}
        assert "ema_decay" not in train
        assert data["batch_size_per_gpu"] == 8
        assert data["gt_size"] == 64 * scale
        assert data["use_hflip"]
        assert data["use_rot"]
        assert opt["path"]["strict_load_g"] is (scale == 2)
        assert (opt["path"]["pretrain_network_g"] is None) is (scale == 2)
        assert scale == 2 or opt["path"]["pretrain_network_g"].endswith("_x2")


def test_metrics_are_those_of_the_paper():
    for file in SHIPPED:
        opt = load_options(file)
        for metric in (opt["val"].get("metrics") or {}).values():
            assert metric["crop_border"] == opt["scale"]
            assert metric["test_y_channel"] is True


def test_data_folders_follow_the_official_layout():
    for file in SHIPPED:
        opt = load_options(file)
        scale = opt["scale"]
        for data in opt["datasets"].values():
            if "benchmark" in data.get("dataroot_gt", ""):
                assert data["dataroot_gt"] == f"datasets/benchmark/{data['name']}/HR"
                made = opt.get("degradation", "bicubic")
                assert data["dataroot_lq"] == f"datasets/benchmark/{data['name']}/LR_{made}/X{scale}"
                suffix = f"_LRBI_x{scale}" if data["name"] == "Manga109" else f"x{scale}"
                assert data["filename_tmpl"] == "{}" + suffix
            folder = data.get("dataroot_lq", data.get("dataroot_gt"))
            assert (data["io_backend"]["type"] == "lmdb") is folder.endswith(".lmdb")


@pytest.mark.parametrize("size", ["RGT", "RGT_S"])
def test_lmdb_files_differ_from_image_files_only_in_the_data(size):
    for scale in (2, 3, 4):
        plain = load_options(SHIPPED[0].parent / f"train_{size}_x{scale}.yml")
        lmdb = load_options(SHIPPED[0].parent / f"train_{size}_x{scale}_lmdb.yml")
        for opt in (plain, lmdb):
            opt.pop("name")
            for key in ("dataroot_gt", "dataroot_lq", "filename_tmpl", "io_backend", "dataset_enlarge_ratio"):
                opt["datasets"]["train"].pop(key, None)
        assert plain == lmdb


def test_files_of_one_network_differ_only_in_values_that_depend_on_the_scale():
    def neutral(value: Any, scale: int, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: neutral(item, scale, name) for name, item in value.items()}
        if key in ("crop_border", "gt_size"):
            return value / scale
        return re.sub(rf"(?i)x{scale}\b", "xN", value) if isinstance(value, str) else value

    sizes = ["train_RGT", "train_RGT_S", "train_RGT_T", "test_RGT", "test_RGT_S", "test_RGT_T", "test_single"]
    for size in (*sizes, "train_RealRGT", "train_RealRGTGAN", "train_RealRGT_T"):
        files = by_name(rf"{size}_x\d")
        for opt in files.values() if size == "train_RealRGT_T" else ():  # as long as for the bundled weights
            assert sum(opt["train"]["scheduler"].pop("periods")) == opt["train"].pop("total_iter")
            del opt["train"]["scheduler"]["restart_weights"]
        scales = [neutral(opt, opt["scale"]) for opt in files.values()]
        for key in ("datasets", "train", "val", "logger", "dist_params"):
            first = scales[0].get(key)
            assert all(other.get(key) == first for other in scales), (size, key)
