"""Option files: each data set is judged by the files that BasicSR's own class would read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rgt_arch.data.lmdb import create_lmdb

from ..image_files import save
from .conftest import noise

OPTIONS = Path(__file__).parents[3] / "options"


@pytest.fixture
def folder(data, monkeypatch):
    """The folders of the shipped ×2 option file, filled, with the option file beside them."""
    monkeypatch.chdir(data)
    for name in ("DF2K", "benchmark/Set5"):
        shutil.copytree("HR", f"datasets/{name}/HR")
        shutil.copytree("LR", f"datasets/{name}/LR_bicubic/X2")
    for seed in range(6):  # other images than in training
        save(data / f"datasets/benchmark/Set5/HR/{seed}.png", noise(seed + 100))
    text = (OPTIONS / "train_RGT_x2.yml").read_text()
    Path("train.yml").write_text(text.replace("gt_size: 128", "gt_size: 16").replace("use_tb_logger: true", ""))
    return data


def edit(old, new):
    text = Path("train.yml").read_text()
    assert old in text
    Path("train.yml").write_text(text.replace(old, new, 1))


def test_a_sound_file_is_found_sound(folder, run):
    code, text = run("train.yml")
    assert "BasicSR can train on it: it sees 6 pairs" in text
    assert "BasicSR can validate or test on it: it sees 6 pairs" in text
    assert code == 0


def test_images_smaller_than_the_patch_are_all_listed(folder, run):
    edit("gt_size: 16", "gt_size: 32")
    code, text = run("train.yml")
    assert code == 1
    assert "6 pairs smaller than gt_size 32, at which training stops" in text
    assert "BasicSR cannot train on it as it is" in text
    assert "BasicSR can validate or test on it" in text


def test_what_stops_basicsr_is_named_once_and_all_lone_images_are_listed(folder, run):
    Path("datasets/DF2K/LR_bicubic/X2/3x2.png").unlink()
    code, text = run("train.yml")
    assert code == 1
    assert "at which `basicsr train` stops" in text
    assert "holds 5 images for 6 HR images in" in text
    assert "3.png has no LR image 3x2.png" in text
    assert "BasicSR cannot train on it as it is" in text
    assert "1 HR image without LR image\n    3.png" in text


def test_a_wrong_template_is_told_with_the_right_one(folder, run):
    edit("filename_tmpl: '{}x2'", "filename_tmpl: '{}x4'")
    code, text = run("train.yml")
    assert code == 1
    assert "set filename_tmpl: '{}x2'" in text


def test_training_needs_exact_sizes_and_validation_does_not(folder, run):
    for name in ("DF2K", "benchmark/Set5"):
        save(folder / f"datasets/{name}/HR/3.png", noise(40 + len(name), 25, 32))
    text = run("train.yml")[1]
    assert "1 pair whose HR image is up to 1 pixels larger" in text
    assert "1 HR image larger than 2 × LR by a rest that validation cuts off" in text
    assert "BasicSR cannot train on it as it is" in text
    assert "BasicSR can validate or test on it" in text


def test_damaged_images_and_missing_folders_stop_no_other_data_set(folder, run):
    shutil.rmtree("datasets/DF2K/HR")
    whole = Path("datasets/benchmark/Set5/HR/2.png").read_bytes()
    Path("datasets/benchmark/Set5/HR/2.png").write_bytes(whole[:-200])
    code, text = run("train.yml")
    assert code == 1
    assert "datasets:train:dataroot_gt = 'datasets/DF2K/HR': no such folder" in text
    assert "1 file cannot be read as images\n    2.png: is truncated" in text
    assert "BasicSR cannot validate or test on it as it is" in text


def test_lmdbs_of_an_option_file_are_checked(folder, run):
    for name, ending in (("HR", ""), ("LR", "x2")):
        files = sorted(Path(name).iterdir())
        create_lmdb(files, Path(f"datasets/{name}.lmdb"), keys=[file.stem.removesuffix(ending) for file in files])
    edit("datasets/DF2K/HR", "datasets/HR.lmdb")
    edit("datasets/DF2K/LR_bicubic/X2", "datasets/LR.lmdb")
    edit("type: disk", "type: lmdb")
    code, text = run("train.yml")
    assert "BasicSR can train on it: it sees 6 pairs" in text
    assert code == 0
    meta = Path("datasets/LR.lmdb/meta_info.txt")
    meta.write_text(meta.read_text().replace("0.png", "other.png"))
    code, text = run("train.yml")
    assert code == 1
    assert "1 HR image without LR image\n    0" in text
    assert "datasets:train:dataroot_lq = 'datasets/LR.lmdb': no key 'other'" in text
    assert "BasicSR cannot train on it as it is" in text


def test_a_meta_info_file_decides_what_is_read(folder, run):
    Path("list.txt").write_text("1.png (24,32,3)\n4.png (24,32,3)\n")
    edit("io_backend:", "meta_info_file: list.txt\n    io_backend:")
    Path("datasets/DF2K/HR/5.png").write_bytes(b"not listed, not read")
    text = run("train.yml")[1]
    assert "BasicSR can train on it: it sees 2 pairs" in text


def test_single_images_and_missing_weights(folder, run):
    text = (OPTIONS / "test_single_x2.yml").read_text()
    Path("test.yml").write_text(text.replace("datasets/single", "LR"))
    code, output = run("test.yml")
    assert code == 0
    assert "BasicSR can validate or test on it: it sees 6 images" in output
    assert "note: 1 file other than data that `basicsr test` misses" in output


def test_validation_images_that_were_trained_on_are_pointed_out(folder, run):
    shutil.copy("HR/5.png", "datasets/benchmark/Set5/HR/5.png")
    code, text = run("train.yml")
    assert code == 0
    assert "note: 1 HR image that the training data has too\n    5.png = 5.png" in text


def test_another_type_of_data_set_has_its_files_checked(folder, run):
    edit("type: PairedImageDataset", "type: RealESRGANDataset")
    Path("datasets/DF2K/HR/5.png").write_bytes(b"junk")
    code, text = run("train.yml")
    assert code == 1
    assert "a type that pairs and crops in its own way: only its files were checked" in text
    assert "5.png: is not an image" in text


def test_option_files_that_name_no_data_or_cannot_be_read_are_one_line(folder, run):
    Path("none.yml").write_text("name: x\n")
    Path("code.yml").write_text("datasets: !!python/object/apply:os.system [touch ran]\n")
    for name, message in (("none.yml", "no data set in it"), ("code.yml", "is refused")):
        code, text = run(name)
        assert code == 2
        assert message in text
        assert text.count("\n") == 1
    assert not Path("ran").exists()
    assert "leave out --lr" in run("train.yml", "--scale", "2")[1]
