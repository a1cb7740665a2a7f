"""Folders and lists: every damaged file and wrong pair is reported, and no file is changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.data.paired_image_dataset import PairedImageDataset

from ..image_files import save
from .conftest import noise

DATA = os.environ.get("RGT_DATA")
LIST = "".join(f"{index}.png (24,32,3)\n" for index in range(6))
PAIRS = [f"HR/{index}.png, LR/{index}x2.png" for index in range(6)]


@pytest.mark.parametrize(
    "arguments", [["HR", "--lr", "LR"], ["meta_info_HR.txt", "--lr", "LR"], ["pairs.txt"]], ids=lambda names: names[0]
)
def test_valid_pairs_pass_are_not_changed_and_load_in_basicsr(data, run, arguments):
    Path("meta_info_HR.txt").write_text(LIST)
    Path("pairs.txt").write_text("\n".join(PAIRS))
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in data.rglob("*")}
    code, text = run(*arguments, "--bicubic")
    assert code == 0
    assert "6 HR images" in text
    assert "6 pairs, scale 2" in text
    assert ("filename_tmpl: '{}x2'" in text) == (arguments != ["pairs.txt"])
    assert "6 of 6 LR images bit-equal to MATLAB's bicubic of HR" in text
    assert "=> BasicSR can train on them" in text
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in data.rglob("*")} == before
    options = {"dataroot_gt": "HR", "dataroot_lq": "LR", "filename_tmpl": "{}x2", "io_backend": {"type": "disk"}}
    options |= {"phase": "train", "scale": 2, "gt_size": 16, "use_hflip": False, "use_rot": False}
    options |= {"meta_info_file": "meta_info_HR.txt"} if len(arguments) > 1 and ".txt" in arguments[0] else {}
    dataset = PairedImageDataset(options)
    assert len([dataset[index] for index in range(6)]) == 6


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_unusable_file_is_reported_and_the_others_are_still_checked(data, run, jobs):
    folder = data / "HR"
    good = (folder / "0.png").read_bytes()
    jpeg = cv2.imencode(".jpg", noise(9))[1].tobytes()
    contents = {"empty.png": b"", "text.png": b"no image", "cut.png": good[: len(good) // 2], "cut.jpg": jpeg[:-300]}
    contents["bad\udcff\nname.png"] = b"no image"
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "fifo.png")
    (folder / "dangling.png").symlink_to("nowhere")
    (folder / "folder.png").mkdir()
    code, text = run(folder, "--jobs", jobs)
    assert code == 1
    assert "6 images" in text
    assert "PROBLEM: 7 files cannot be read as images" in text
    for name in ("text", "cut", "fifo", "dangling", "bad\\udcff\\nname"):
        assert f"    {name}.png: " in text
    assert "cut.jpg: " in text
    assert "empty.png: is empty (0 bytes)" in text
    assert "1 kind of problem" in text


def test_equal_pixels_are_found_in_any_encoding(data, run):
    image = cv2.imread("HR/3.png")
    cv2.imwrite("HR/other.png", image, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    save(data / "HR" / "sub" / "again.bmp", image)
    save(data / "HR" / "flipped.png", image[:, ::-1])
    save(data / "HR" / "reshaped.png", image.reshape(32, 24, 3))
    code, text = run("HR")
    assert code == 1
    assert "PROBLEM: 1 group of images with the same pixels\n    3.png = other.png = sub/again.bmp\n" in text
    assert "1 of 10 files are in sub-folders, which BasicSR does not look into: make an LMDB" in text


def test_files_not_named_like_images_stop_basicsr_only_in_a_folder_that_it_reads(data, run):
    Path("HR/notes.txt").touch()
    code, text = run("HR")
    assert code == 0
    assert "note: 1 file not named like images, which BasicSR would read as images and `rgt prepare` passes" in text
    Path("HR/sub").mkdir()
    Path("HR/notes.txt").rename("HR/sub/notes.txt")
    assert "not named like" not in run("HR")[1]
    Path("LR/notes.txt").touch()
    code, text = run("HR", "--lr", "LR")
    assert code == 1
    assert "PROBLEM: 1 file not named like images" in text
    assert text.count("notes.txt") == 1
    assert "BasicSR cannot use them as they are" in text


def test_modes_sizes_and_endings_are_counted(tmp_path, run):
    save(tmp_path / "grey.png", noise(0, channels=1))
    save(tmp_path / "large.jpg", noise(0, height=40))
    save(tmp_path / "deep.png", noise(1).astype(np.uint16) * 257)
    code, text = run(tmp_path)
    assert code == 0
    assert "3 images (2 .png, 1 .jpg)" in text
    assert "smallest 32×24, largest 32×40 (width×height), shortest side 24" in text
    assert "2 colour, 1 grey" in text
    assert "note: 1 image of 16 bits, cut to 8 in training\n    deep.png\n" in text


def test_files_without_partner_and_with_another_ending_are_listed(data, run):
    Path("HR/0.png").unlink()
    Path("LR/1x2.png").unlink()
    save(data / "LR" / "2x2.bmp", cv2.imread("LR/2x2.png"))
    Path("LR/2x2.png").unlink()
    code, text = run("HR", "--lr", "LR")
    assert code == 1
    assert "PROBLEM: 1 HR image without LR image\n    1.png" in text
    assert "PROBLEM: 1 LR image without HR image\n    0x2.png" in text
    assert "PROBLEM: 1 pair with different endings, which BasicSR needs to be the same\n    2.png with 2x2.bmp" in text
    assert "3 pairs, scale 2" in text
    assert "cannot use them as they are" in text


def test_wrong_size_is_distinguished_from_a_few_extra_pixels(data, run):
    save(data / "HR" / "1.png", noise(1, 25, 32))
    code, text = run("HR", "--lr", "LR")
    assert code == 1
    assert "1 pair: HR is up to 1 pixels larger than 2 × LR, which training refuses" in text
    assert "1.png is 32×25 and its LR image 16×12" in text
    assert "BasicSR can validate and test on them, but not train" in text
    save(data / "HR" / "1.png", noise(1, 26, 32))
    text = run("HR", "--lr", "LR")[1]
    assert "1 pair: HR is not 2 × LR; make the LR images anew\n    1.png is 32×26 and its LR image 16×12" in text
    assert "BasicSR cannot use them" in text
    assert "6 pairs: HR is not 4 × LR; set scale: 2" in run("HR", "--lr", "LR", "--scale", 4)[1]


def test_lr_images_unlike_the_bicubic_are_only_a_note(data, run):
    lr = cv2.imread("LR/4x2.png")
    lr[0, 0, 0] ^= 1
    save(data / "LR" / "4x2.png", lr)
    code, text = run("HR", "--lr", "LR", "--bicubic")
    assert code == 0
    assert "5 of 6 LR images bit-equal" in text
    assert "note: 1 LR image unlike the bicubic\n    4x2.png" in text


def test_equal_lr_images_are_reported_only_if_their_hr_images_differ(data, run):
    shutil.copy("HR/0.png", "HR/1.png")
    shutil.copy("LR/0x2.png", "LR/1x2.png")
    shutil.copy("LR/2x2.png", "LR/3x2.png")
    text = run("HR", "--lr", "LR")[1]
    assert "1 group of HR images with the same pixels\n    0.png = 1.png" in text
    assert "1 group of LR images with the same pixels, of different HR images\n    2x2.png = 3x2.png" in text


def picture(seed: int, size: int = 96) -> np.ndarray:
    return cv2.resize(noise(seed, 6, 6), (size, size), interpolation=cv2.INTER_CUBIC)


def degraded(image: np.ndarray, seed: int) -> np.ndarray:
    """Half the size, with blur, noise and JPEG artefacts."""
    small = cv2.resize(cv2.GaussianBlur(image, (0, 0), 3), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    small = small + np.random.default_rng(seed).normal(0, 30, small.shape)
    return cv2.imdecode(cv2.imencode(".jpg", small.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 25])[1], 1)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_lr_images_of_other_pictures_are_found_and_degradations_are_not_faults(tmp_path, run, kind):
    gt, lq = tmp_path / "HR", tmp_path / "LR"
    flat = np.full((96, 96, 3), 90, np.uint8)  # noise decides the correlation of flat images
    images = [*(picture(seed) for seed in range(6)), flat, flat + 1]
    for index, image in enumerate(images):
        save(gt / f"{index}.png", image.astype(kind) * (257 if kind == np.uint16 else 1))
        save(lq / f"{index}.png", degraded(image, index))
    code, text = run(gt, "--lr", lq)
    assert (code, "PROBLEM" in text) == (0, False)
    save(lq / "1.png", degraded(images[4], 1))
    save(lq / "2.png", degraded(picture(9), 2))
    save(lq / "3.png", degraded(images[3][::-1, ::-1], 3))
    code, text = run(gt, "--lr", lq)
    assert code == 1
    assert (
        "PROBLEM: 3 LR images of another picture than their HR images\n    1.png looks like HR 4.png, not like 1.p"
        in text
    )
    for index in (2, 3):
        assert f"{index}.png does not look like HR {index}.png" in text


def test_long_lists_are_cut_without_the_flag_all(data, run):
    for index in range(25):
        (data / "HR" / f"bad{index:02}.png").touch()
    text = run("HR")[1]
    assert "bad19.png" in text
    assert "bad20.png" not in text
    assert "and 5 more (--all lists them)" in text
    assert "bad24.png" in run("HR", "--all")[1]


def test_lines_of_a_list_are_compared_with_the_files(data, run):
    Path("list.txt").write_text(LIST.replace("0.png (24,32", "0.png (32,24").replace("3.png", "gone.png"))
    Path("HR/4.png").write_bytes(b"")
    code, text = run("list.txt")
    assert code == 1
    assert "list.txt: 6 images, files in HR" in text
    assert "1 listed size that the image does not have (height, width)\n    0.png: listed (32,24), is (24,32)" in text
    assert "2 files cannot be read as images\n    gone.png: no such file; correct the name\n    4.png: is empty" in text


def test_folders_of_a_list_can_be_given(data, run):
    Path("lists").mkdir()
    Path("lists/pairs.txt").write_text("0.png, 0x2.png\n")
    code, text = run("lists/pairs.txt")
    assert code == 2
    assert "0.png is neither beside it nor in a folder beside it; give --root FOLDER" in text
    code, text = run("lists/pairs.txt", "--root", "HR")
    assert code == 2
    assert "give --lr FOLDER" in text
    assert run("lists/pairs.txt", "--root", "HR", "--lr", "LR")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no such file or folder"),
        (["empty"], "there are no images in it"),
        (["HR/0.png"], "cannot be checked"),
        (["HR", "--scale", "2"], "need --lr"),
        (["HR", "--lr", "LR", "--scale", "0"], "--scale is 0"),
        (["HR", "--lr", "nothing"], "no such folder"),
        (["HR", "--root", "HR"], "--root goes with a meta-info text only"),
        (["binary.txt"], "is not text in UTF-8"),
        (["gap.txt"], "line 2 is empty, which BasicSR takes for an image"),
        (["three.txt"], "line 1 is not 'HR name, LR name'"),
        (["train.yml", "--scale", "2"], "leave out --lr"),
        (["train.yml"], "no data set in it"),
        (["code.yml"], "is refused"),
    ],
)
def test_invalid_input_is_a_one_line_error_with_exit_code_2(data, run, arguments, message):
    Path("empty").mkdir()
    Path("binary.txt").write_bytes(b"\xff\xfe\x00")
    Path("gap.txt").write_text("0.png\n\n1.png")
    Path("three.txt").write_text("HR/0.png, LR/0x2.png, HR/1.png\n")
    Path("train.yml").write_text("name: x\n")
    Path("code.yml").write_text("datasets: !!python/object/apply:os.system [touch ran]\n")
    code, text = run(*arguments)
    assert code == 2
    assert message in text
    assert text.count("\n") == 1
    assert not Path("ran").exists()


@pytest.mark.skipif(DATA is None, reason="RGT_DATA does not name the folder of benchmark images")
def test_set5_passes(run):
    folder = Path(str(DATA), "benchmark", "Set5")
    code, text = run(folder / "HR", "--lr", folder / "LR_bicubic" / "X4", "--bicubic")
    assert code == 0
    assert "5 pairs, scale 4, filename_tmpl: '{}x4'" in text
    assert "5 of 5 LR images bit-equal" in text
