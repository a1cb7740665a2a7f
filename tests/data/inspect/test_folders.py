"""Folders: every damaged file and every misfit is named, and what is well is left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.data.paired_image_dataset import PairedImageDataset
from PIL import Image

from ..image_files import save
from .conftest import noise

DATA = os.environ.get("RGT_DATA")


def test_sound_pairs_are_counted_and_named_fit_for_training_as_basicsr_finds(data, run):
    code, text = run(data / "HR", "--lr", data / "LR", "--bicubic")
    assert code == 0
    assert "6 HR images" in text
    assert "6 pairs, scale 2, filename_tmpl: '{}x2'" in text
    assert "6 of 6 LR images bit-equal to MATLAB's bicubic of HR" in text
    assert "=> BasicSR can train on them" in text
    options = {"dataroot_gt": str(data / "HR"), "dataroot_lq": str(data / "LR"), "filename_tmpl": "{}x2"}
    options |= {"io_backend": {"type": "disk"}, "phase": "train", "scale": 2, "gt_size": 16}
    dataset = PairedImageDataset(options | {"use_hflip": False, "use_rot": False})
    assert len([dataset[index] for index in range(6)]) == 6


def test_the_script_has_the_same_flags_and_works(data):
    script = Path(__file__).parents[3] / "realesrgan_style_scripts" / "check_dataset.py"
    command = [sys.executable, script, data / "HR", "--lr", data / "LR", "--scale", "2", "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "6 pairs, scale 2" in done.stdout


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_unusable_file_is_named_and_stops_none_of_the_others(data, run, jobs):
    folder = data / "HR"
    good = (folder / "0.png").read_bytes()
    jpeg = cv2.imencode(".jpg", noise(9))[1].tobytes()
    contents = {"empty.png": b"", "text.png": b"no image", "cut.png": good[: len(good) // 2], "cut.jpg": jpeg[:-300]}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "fifo.png")
    (folder / "dangling.png").symlink_to("nowhere")
    (folder / "folder.png").mkdir()
    code, text = run(folder, "--jobs", jobs)
    assert code == 1
    assert "6 images" in text
    assert "PROBLEM: 6 files cannot be read as images" in text
    for name in (*contents, "fifo.png", "dangling.png"):
        assert f"    {name}: " in text
    assert "empty.png: is empty (0 bytes)" in text
    assert "1 kind of problem" in text


def test_equal_pixels_are_found_whatever_their_encoding(data, run):
    image = cv2.imread(str(data / "HR" / "3.png"))
    cv2.imwrite(str(data / "HR" / "other.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    save(data / "HR" / "sub" / "again.bmp", image)
    save(data / "HR" / "flipped.png", image[:, ::-1])
    save(data / "HR" / "reshaped.png", image.reshape(32, 24, 3))
    code, text = run(data / "HR")
    assert code == 1
    assert "PROBLEM: 1 group of images with the same pixels\n    3.png = other.png = sub/again.bmp\n" in text


def test_modes_are_counted_and_training_is_told_what_it_will_not_see(tmp_path, run):
    folder = tmp_path / "in"
    save(folder / "grey.png", noise(0, channels=1))
    save(folder / "alpha.png", noise(0, channels=4))
    save(folder / "deep.png", noise(1).astype(np.uint16) * 257)
    Image.fromarray(noise(2)).quantize(16).save(folder / "palette.png")
    Image.fromarray(noise(3, channels=4), mode="CMYK").save(folder / "cmyk.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(noise(4)).save(folder / "turned.jpg", exif=turned)
    code, text = run(folder)
    assert code == 0
    assert "6 images (4 .png, 2 .jpg)" in text
    assert "5 colour, 1 grey" in text
    assert "smallest 24×32, largest 32×24" in text  # the turned one
    for line in (
        "1 image with alpha, which training does not see\n    alpha.png",
        "1 image of 16 bits, cut to 8 in training\n    deep.png",
        "1 image with a palette, read as colours\n    palette.png",
        "1 image in CMYK, read as RGB without a colour profile\n    cmyk.jpg",
        "1 image turned as their EXIF data says; other programs may see them unturned\n    turned.jpg",
    ):
        assert f"note: {line}\n" in text


def test_files_without_partner_and_with_another_ending_are_listed(data, run):
    (data / "HR" / "0.png").unlink()
    (data / "LR" / "1x2.png").unlink()
    save(data / "LR" / "2x2.bmp", cv2.imread(str(data / "LR" / "2x2.png")))
    (data / "LR" / "2x2.png").unlink()
    code, text = run(data / "HR", "--lr", data / "LR")
    assert code == 1
    assert "PROBLEM: 1 HR image without LR image\n    1.png" in text
    assert "PROBLEM: 1 LR image without HR image\n    0x2.png" in text
    assert "PROBLEM: 1 pair with different endings, which BasicSR needs to be the same\n    2.png with 2x2.bmp" in text
    assert "3 pairs, scale 2" in text
    assert "cannot use them as they are" in text


def test_sizes_that_do_not_fit_are_told_apart_from_a_rest(data, run):
    save(data / "HR" / "1.png", noise(1, 25, 32))
    code, text = run(data / "HR", "--lr", data / "LR")
    assert code == 1
    assert "1 pair whose HR image is up to 1 pixels larger than 2 × LR" in text
    assert "1.png is 32×25 and its LR image 16×12" in text
    assert "BasicSR can validate and test on them, but not train" in text
    save(data / "HR" / "1.png", noise(1, 26, 32))
    code, text = run(data / "HR", "--lr", data / "LR")
    assert "1 pair whose HR image is not 2 × the LR image\n    1.png is 32×26 and its LR image 16×12" in text
    assert "BasicSR cannot use them" in text
    code, text = run(data / "HR", "--lr", data / "LR", "--scale", 4)
    assert "6 pairs whose HR image is not 4 × the LR image" in text


def test_grey_and_colour_in_one_pair_is_a_problem_and_grey_stored_as_colour_is_not(data, run):
    hr, lr = noise(1, channels=1), noise(1, 12, 16, channels=1)
    save(data / "HR" / "1.png", hr)
    save(data / "LR" / "1x2.png", cv2.cvtColor(lr, cv2.COLOR_GRAY2BGR))
    assert run(data / "HR", "--lr", data / "LR")[0] == 0
    save(data / "LR" / "1x2.png", noise(1, 12, 16))
    code, text = run(data / "HR", "--lr", data / "LR")
    assert code == 1
    assert "1 pair with and without colours\n    1.png is grey, 1x2.png has colours" in text


def test_lr_images_unlike_the_bicubic_are_information(data, run):
    lr = cv2.imread(str(data / "LR" / "4x2.png"))
    lr[0, 0, 0] ^= 1
    save(data / "LR" / "4x2.png", lr)
    code, text = run(data / "HR", "--lr", data / "LR", "--bicubic")
    assert code == 0
    assert "5 of 6 LR images bit-equal" in text
    assert "note: 1 LR image unlike the bicubic\n    4x2.png" in text


def test_lr_images_of_equal_hr_images_are_no_news_and_others_are(data, run):
    shutil.copy(data / "HR" / "0.png", data / "HR" / "1.png")
    shutil.copy(data / "LR" / "0x2.png", data / "LR" / "1x2.png")
    shutil.copy(data / "LR" / "2x2.png", data / "LR" / "3x2.png")
    text = run(data / "HR", "--lr", data / "LR")[1]
    assert "1 group of HR images with the same pixels\n    0.png = 1.png" in text
    assert "1 group of LR images with the same pixels\n    2x2.png = 3x2.png" in text


def test_sub_folders_and_names_that_basicsr_cuts_are_pointed_out(data, run):
    for seed, name in enumerate(("sub/6", "na me", "twice"), 50):
        save(data / "HR" / f"{name}.png", noise(seed))
    save(data / "HR" / "twice.bmp", noise(77))
    (data / "HR" / "x.lmdb").mkdir()
    (data / "HR" / "x.lmdb" / "data.mdb").write_bytes(b"not looked at")
    code, text = run(data / "HR")
    assert code == 0
    assert "1 of 10 files are in sub-folders, which BasicSR does not look into" in text
    assert "1 name with a space" in text
    assert "1 name used with more than one ending" in text


def test_names_that_are_no_text_are_escaped_on_one_line(data, run):
    Path(os.fsdecode(os.fsencode(data / "HR") + b"/bad\xff\nname.png")).write_bytes(b"no image")
    text = run(data / "HR")[1]
    assert "    bad\\udcff\\nname.png: is not an image" in text


def test_long_lists_are_cut_unless_all_is_asked_for(data, run):
    for index in range(25):
        (data / "HR" / f"bad{index:02}.png").touch()
    assert "bad19.png" in run(data / "HR")[1]
    text = run(data / "HR")[1]
    assert "bad20.png" not in text
    assert "and 5 more (--all lists them)" in text
    assert "bad24.png" in run(data / "HR", "--all")[1]


def test_nothing_is_changed(data, run):
    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in data.rglob("*")}

    before = state()
    run(data / "HR", "--lr", data / "LR", "--bicubic")
    assert state() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no such file or folder"),
        (["empty"], "there are no images in it"),
        (["HR/0.png"], "cannot be checked"),
        (["HR", "--scale", "2"], "need --lr"),
        (["HR", "--lr", "LR", "--scale", "0"], "--scale is 0"),
        (["HR", "--lr", "nothing"], "no such folder"),
        (["HR", "--lr", "HR"], "is given as HR and as LR"),
        (["HR", "--root", "HR"], "--root goes with a meta-info text only"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_exit_code_2(data, run, monkeypatch, arguments, message):
    monkeypatch.chdir(data)
    Path("empty").mkdir()
    code, text = run(*arguments)
    assert code == 2
    assert message in text
    assert text.count("\n") == 1


@pytest.mark.skipif(DATA is None, reason="RGT_DATA does not name the folder of benchmark images")
def test_set5_is_found_sound(run):
    folder = Path(str(DATA), "benchmark", "Set5")
    code, text = run(folder / "HR", "--lr", folder / "LR_bicubic" / "X4", "--bicubic")
    assert code == 0
    assert "5 pairs, scale 4, filename_tmpl: '{}x4'" in text
    assert "5 of 5 LR images bit-equal" in text
