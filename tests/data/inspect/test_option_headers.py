"""Data that BasicSR would trip over in the middle of a run is named before it starts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rgt_arch.data.images import header_size
from rgt_arch.data.lmdb import create_lmdb

from ...config.conftest import LAYOUTS, OPTIONS, Checker, write_image

GT = "datasets/DF2K/HR"
LQ = "datasets/DF2K/LR_bicubic/X2"


@pytest.fixture
def train_file(tmp_path):
    return Checker(tmp_path)


@pytest.fixture
def single_file(tmp_path):
    return Checker(tmp_path, OPTIONS / "test_single_x2.yml")


def test_missing_and_empty_folders_are_named(train_file):
    (train_file.root / GT).rename(train_file.root / "elsewhere")
    for file in (train_file.root / LQ).iterdir():
        file.unlink()
    train_file.edit("dataroot_gt: datasets/benchmark/Set5/HR", "dataroot_gt: datasets/benchmark/Set5/HR/baby.png")
    gt, val = train_file.errors()
    assert f"datasets:train:dataroot_gt = '{GT}': no such folder under" in gt
    assert "datasets:val:dataroot_gt" in val
    assert "is a file, not a folder" in val
    (train_file.root / "elsewhere").rename(train_file.root / GT)
    assert (
        "datasets:train:dataroot_lq = 'datasets/DF2K/LR_bicubic/X2': the folder holds no images"
        in train_file.errors()[0]
    )


def test_file_that_is_no_image_is_named(train_file):
    (train_file.root / GT / "Thumbs.db").touch()
    (train_file.root / GT / ".hidden").touch()  # BasicSR's scandir leaves it out
    assert "holds Thumbs.db, which BasicSR would read as an image; move it away" in train_file.error()


def test_count_mismatch_names_the_odd_one(train_file):
    write_image(train_file.root / GT / "0009.png", 128, 128)
    message = train_file.error()
    assert "datasets:train:dataroot_lq" in message
    assert "holds 2 images for 3 HR images" in message
    assert "0009.png has no LR image 0009x2.png" in message
    write_image(train_file.root / LQ / "0009x2.png", 64, 64)
    write_image(train_file.root / LQ / "extrax2.png", 64, 64)
    assert "extrax2.png has no HR image" in train_file.error()


def test_wrong_template_is_reported_with_the_right_one(train_file):
    train_file.edit(
        "    filename_tmpl: '{}x2'\n    io_backend:\n      type: disk\n    gt_size",
        "    io_backend:\n      type: disk\n    gt_size",
    )
    message = train_file.error()
    assert "datasets:train:filename_tmpl" in message
    assert "set filename_tmpl: '{}x2'" in message


def test_one_misnamed_lr_file_of_many_is_to_be_renamed(train_file):
    for index in range(2, 9):
        write_image(train_file.root / GT / f"000{index}.png", 128, 128)
        write_image(train_file.root / LQ / f"{'9x' * (index == 8)}000{index}{'x2' * (index < 8)}.png", 64, 64)
    message = train_file.error()
    assert "0008.png has no LR image 0008x2.png" in message
    assert "rename 9x0008.png" in message
    assert "set filename_tmpl" not in message
    (train_file.root / LQ / "9x0008.png").rename(train_file.root / LQ / "0008x2.PNG")
    message = train_file.error()
    assert "endings must be the same" in message
    assert "set filename_tmpl" not in message


@pytest.mark.parametrize("template", ["x2", "{}{}", "{name}x2", "{"])
def test_template_without_one_place_for_the_name_is_refused(train_file, template):
    text = train_file.file.read_text().replace("'{}x2'", f"'{template}'", 1)
    train_file.file.write_text(text)
    message = train_file.error()
    assert "datasets:train:filename_tmpl" in message
    assert "'{}x4'" in message


def test_other_ending_of_lr_files_is_named(train_file):
    for file in list((train_file.root / LQ).iterdir()):
        Image.open(file).save(file.with_suffix(".jpg"))
        file.unlink()
    assert "endings must be the same" in train_file.error()


def test_hr_that_is_not_scale_times_lr_is_named_with_the_scale_it_has(train_file):
    for name in ("0001", "baby"):
        write_image(train_file.root / GT / f"{name}.png", 256, 260)
    message = train_file.error()
    assert "datasets:train:dataroot_lq: 2 of 2 looked at: 0001.png is 260×256 and its LR image 64×64" in message
    assert "set scale: 4" in message


def test_training_images_must_be_exact_and_validation_images_may_have_a_rest(train_file):
    write_image(train_file.root / "datasets/benchmark/Set5/HR/baby.png", 25, 24)
    assert train_file.validate()[1] == []
    write_image(train_file.root / GT / "0001.png", 129, 128)
    assert "cut HR images to multiples of 2" in train_file.error()
    write_image(train_file.root / GT / "0001.png", 128, 128)
    write_image(train_file.root / "datasets/benchmark/Set5/HR/baby.png", 26, 24)
    assert "datasets:val:dataroot_lq" in train_file.error()
    write_image(train_file.root / "datasets/benchmark/Set5/HR/baby.png", 23, 24)
    assert "datasets:val:dataroot_lq" in train_file.error()


def test_images_smaller_than_the_patch_are_named(train_file):
    write_image(train_file.root / GT / "baby.png", 100, 128)
    write_image(train_file.root / LQ / "babyx2.png", 50, 64)
    message = train_file.error()
    assert (
        "datasets:train:gt_size: 1 of 2 looked at: babyx2.png is 64×50, smaller than the LR patch of 64×64" in message
    )
    assert "gt_size 100 or less" in message


def test_file_that_is_broken_is_named(train_file):
    (train_file.root / GT / "baby.png").write_bytes(b"not a picture")
    assert "datasets:train:dataroot_gt: 1 of 2 looked at: " in train_file.error()
    assert "HR/baby.png cannot be read as an image; replace or remove it" in train_file.error()


def test_at_most_64_headers_are_read_and_spread_over_the_folder(train_file, monkeypatch):
    for index in range(100):
        for folder, name in ((GT, f"{index:04}.png"), (LQ, f"{index:04}x2.png")):
            target = train_file.root / folder / name
            if not target.exists():
                os.link(train_file.root / folder / name.replace(f"{index:04}", "baby"), target)
    opened = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda file, **options: opened.append(Path(file)) or original(file, **options))
    train_file.edit("  val:\n    name: Set5", "  val:\n    name: Set5\n    color: y")
    train_file.validate()
    headers = [file for file in opened if "DF2K" in str(file)]
    assert len(headers) == 64
    names = sorted(file.name for file in headers if file.parent.name == "HR")
    assert names[0] == "0000.png"
    assert names[-1] == "baby.png"
    assert any("0050.png" <= name <= "0053.png" for name in names)


def test_size_is_that_of_the_decoded_image(tmp_path):
    import cv2

    picture = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    picture.save(tmp_path / "side.jpg", exif=exif)
    picture.save(tmp_path / "plain.png")
    picture.convert("L").save(tmp_path / "grey.bmp")
    cv2.imwrite(str(tmp_path / "of_opencv.hdr"), np.zeros((20, 30, 3), np.float32))
    for file in sorted(tmp_path.iterdir()):
        assert header_size(file) == cv2.imread(str(file)).shape[:2]
    assert header_size(tmp_path / "side.jpg") == (30, 20)


def test_meta_info_lines_are_checked(tmp_path):
    file = Checker(tmp_path, LAYOUTS / "train_basicsr_swinir.yml")
    meta = tmp_path / "basicsr/data/meta_info/meta_info_DIV2K800sub_GT.txt"
    assert file.validate()[1] == []
    meta.write_text("0001.png (192,192,3)\n0007.png (192,192,3)\n")
    assert "datasets:train:meta_info_file: line 2 stands for" in file.error()
    meta.write_text("0001.png (192,192,3)\n\nbaby.png (192,192,3)\n")
    assert "line 2 is empty" in file.error()
    meta.write_text("")
    assert "is empty; write one image name a line" in file.error()
    meta.unlink()
    assert "meta_info_file" in file.error()
    assert "no such file under" in file.error()


def test_meta_info_of_pairs_is_checked(tmp_path):
    text = (OPTIONS / "train_RGT_T_x2.yml").read_text()
    source = tmp_path / "source" / "train_pairs.yml"
    source.parent.mkdir()
    source.write_text(
        text.replace("type: PairedImageDataset", "type: RealESRGANPairedDataset", 1).replace(
            "    gt_size: 128", "    meta_info: pairs.txt\n    gt_size: 128"
        )
    )
    file = Checker(tmp_path, source)
    (tmp_path / "pairs.txt").write_text("0001.png, 0001x2.png\nbaby.png, babyx2.png\n")
    assert file.validate()[1] == []
    (tmp_path / "pairs.txt").write_text("0001.png, 0001x2.png\nbaby.png\n")
    assert "line 2 is not 'HR name, LR name'" in file.error()


def test_lmdb_and_backend_must_agree(train_file, tmp_path):
    train_file.edit("    io_backend:\n      type: disk\n    gt_size", "    io_backend:\n      type: lmdb\n    gt_size")
    assert all("does not end with .lmdb" in line for line in train_file.errors())
    lmdb_file = Checker(tmp_path, OPTIONS / "train_RGT_S_x2_lmdb.yml")
    lmdb_file.edit("      type: lmdb", "      type: disk")
    assert all("set io_backend: {type: lmdb}" in line for line in lmdb_file.errors())


def test_lmdb_pairs_need_the_same_keys_and_fitting_sizes(tmp_path):
    file = Checker(tmp_path, OPTIONS / "train_RGT_S_x2_lmdb.yml")
    lq = tmp_path / "datasets/DF2K_sub/LR_bicubic/X2.lmdb"
    assert file.validate()[1] == []

    def replace(names: tuple[str, ...], side: int) -> None:
        lq.rename(tmp_path / f"old_{len(list(tmp_path.iterdir()))}")
        create_lmdb([write_image(tmp_path / f"new{side}/{name}.png", side, side) for name in names], lq, progress=False)

    replace(("0001", "other"), 64)
    assert "2 keys are in one LMDB only, such as 'baby' (in dataroot_gt)" in file.error()
    replace(("0001", "baby"), 60)
    lines = file.errors()
    assert any("is 128×128 and its LR image 60×60" in line for line in lines)
    assert any("smaller than the LR patch of 64×64" in line for line in lines)
    (lq / "meta_info.txt").unlink()
    assert "holds no meta_info.txt" in file.error()


def test_lmdb_keys_that_clash_at_the_first_dot_are_named(tmp_path):
    file = Checker(tmp_path, OPTIONS / "train_RGT_S_x2_lmdb.yml")
    meta = tmp_path / "datasets/DF2K_sub/HR.lmdb/meta_info.txt"
    meta.write_text("a.1.png (128,128,3) 1\na.2.png (128,128,3) 1\n")
    assert "the key 'a' is used twice" in file.error()
    meta.write_text("")
    assert "its meta_info.txt is empty" in file.error()


def test_scale_is_needed_for_pairs(train_file):
    text = train_file.file.read_text().replace("\nscale: 2\n", "\n")
    train_file.file.write_text(text)
    assert any(": scale: is missing, and datasets:train needs it" in line for line in train_file.errors())


def test_folder_of_single_images_is_checked(single_file):
    folder = single_file.root / "datasets/single"
    for file in folder.iterdir():
        file.unlink()
    assert "the folder holds no images" in single_file.error()
    write_image(folder / "a.png", 8, 8)
    assert single_file.validate()[1] == []
    single_file.edit("    io_backend:", "    meta_info_file: ~\n    io_backend:")
    assert "meta_info_file" in single_file.error()


def test_real_esrgan_data_needs_its_meta_info(tmp_path):
    file = Checker(tmp_path, LAYOUTS / "train_realesrnet.yml")
    file.edit("    meta_info: datasets/DF2K/meta_info/meta_info_DF2K.txt\n", "")
    assert "datasets:train:meta_info: is missing" in file.error()
    file.edit("    final_sinc_prob: 0.8\n", "")
    assert any("datasets:train:final_sinc_prob: is missing" in line for line in file.errors())


def test_real_photographs_in_the_official_layout_validate(tmp_path):
    data = os.environ.get("RGT_DATA")
    if not data:
        pytest.skip("RGT_DATA is not set")
    source = tmp_path / "source" / "test_sets.yml"
    source.parent.mkdir()
    text = (OPTIONS / "test_RGT_T_x2.yml").read_text()
    head, tail = text[: text.index("  test_3:")], text[text.index("# network") :]
    source.write_text((head + tail).replace("datasets/benchmark", f"{data}/benchmark"))
    file = Checker.__new__(Checker)
    file.root, file.is_train, file.file = tmp_path, False, source
    file.edit("pretrain_network_g: RGT_T_x2", "pretrain_network_g: ~")
    warnings = file.validate()[1]
    assert len(warnings) == 1
    assert "random weights" in warnings[0]
