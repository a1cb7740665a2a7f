"""Option files: the quick and the full check look at the files that BasicSR's own data set class would read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.data.lmdb import create_lmdb_of_folder

from ..image_files import save
from .conftest import noise


def use_lmdbs(option_file):
    for name, ending in (("HR", ""), ("LR", "x2")):
        create_lmdb_of_folder(Path(name), ending=ending)
    option_file.train.update(dataroot_gt="HR.lmdb", dataroot_lq="LR.lmdb", io_backend={"type": "lmdb"})


def one_small_pair(option_file):
    option_file.train["gt_size"] = 16
    for name, image in zip(("HR/7.png", "LR/7x2.png"), hr_lr_pair(noise(9, 14, 14), 2), strict=True):
        save(Path(name), image)


def use_list(option_file, *lines, key="meta_info_file", kind="PairedImageDataset"):
    Path("list.txt").write_text("\n".join(lines))
    option_file.train.update({key: "list.txt", "type": kind})


def use_pair_list(option_file, *lines):
    use_list(option_file, *lines, key="meta_info", kind="RealESRGANPairedDataset")


def as_jpeg(_):
    for file in sorted(Path("LR").iterdir()):
        file.rename(file.with_suffix(".jpg"))


def no_folders(_):
    shutil.rmtree("HR")
    shutil.rmtree("LR")
    Path("LR").mkdir()


def clashing_keys(option_file):
    use_lmdbs(option_file)
    Path("HR.lmdb/meta_info.txt").write_text("a.1.png (24,32,3) 1\na.2.png (24,32,3) 1\n")


def small_in_lmdb(option_file):
    use_lmdbs(option_file)
    option_file.train["gt_size"] = 32


def test_missing_folder_of_one_of_several_sets_to_validate_may_be_removed(option_file):
    shutil.rmtree("val/HR")
    shutil.rmtree("HR")
    gt, val = option_file.errors()
    assert gt.endswith("; correct the path")
    assert val.endswith("; correct the path, or remove datasets:val")


def assert_reported(option_file, run, messages):
    """The check before a run has these messages, and the full check refuses the data."""
    errors = "\n".join(option_file.errors())
    for message in messages:
        assert message in errors, errors
    code, text = run(option_file.write())
    assert code == 1
    assert "BasicSR cannot train on it as it is" in text


# Faults that tests/end_to_end/bad_input.py does not cover.
@pytest.mark.parametrize(
    ("spoil", "messages"),
    [
        (one_small_pair, ["1 of 7 looked at: 7x2.png is 7×7: smaller than the LR patch of 8×8; remove it"]),
        (no_folders, ["dataroot_gt = 'HR': no such folder under", "dataroot_lq = 'LR': there are no images in it"]),
        (
            lambda file: file.train.pop("filename_tmpl"),
            ["filename_tmpl: the LR", "0.png has no LR image 0.png; 0x2.png has no HR", "set filename_tmpl: '{}x2'"],
        ),
        (
            lambda _: Path("LR/5x2.png").rename("LR/9x5.png"),
            ["5.png has no LR image 5x2.png; 9x5.png has no HR image; rename, add or remove images"],
        ),
        *(
            (
                lambda file, template=template: file.train.update(filename_tmpl=template),
                [f"filename_tmpl = {template!r}: is not a template; it needs one {{}}"],
            )
            for template in ("x2", "{}{}", "{name}x2", "{")
        ),
        (as_jpeg, ["the endings must be the same: save the LR images in the format of the HR images"]),
        (
            lambda _: [save(Path(f"HR/{name}.png"), noise(7, 48, 64)) for name in (0, 1)],
            ["dataroot_lq: 2 of 6 looked at: 0.png is 64×48 and its LR image 16×12: HR is not 2 × LR; set scale: 4"],
        ),
        (
            lambda _: save(Path("HR/3.png"), noise(8, 25, 32)),
            ["dataroot_lq: 1 of 6 looked at: 3.png is 32×25", "`rgt prepare lr --hr-out` writes cropped HR images"],
        ),
        (lambda file: file.options.pop("scale"), ["scale: is missing, and datasets:train needs it"]),
        (lambda file: use_list(file, "1.png", "7.png"), ["meta_info_file: line 2 names ", "HR/7.png"]),
        (
            lambda file: use_pair_list(file, "0.png, 0x2.png", "1.png"),
            ["meta_info = 'list.txt': line 2 is not 'HR name, LR name'"],
        ),
        (clashing_keys, ["dataroot_gt = 'HR.lmdb': the key 'a' is used twice"]),
        (small_in_lmdb, ["gt_size: 6 of 6 looked at: 0 is 16×12: smaller than the LR patch of 16×16; take gt_size 24"]),
    ],
)
def test_faults_in_data_are_reported_before_a_run_and_by_the_full_check(option_file, run, spoil, messages):
    spoil(option_file)
    assert_reported(option_file, run, messages)


def pairs_of_a_list(option_file):
    use_list(option_file, "1.png (24,32,3)", "4.png (24,32,3)")
    Path("HR/5.png").write_bytes(b"not listed, not read")


@pytest.mark.parametrize(("height", "is_refused"), [(25, False), (26, True), (23, True)])
def test_validation_allows_fewer_extra_hr_pixels_than_the_scale_only(option_file, run, height, is_refused):
    save(Path("val/HR/3.png"), np.resize(cv2.imread("val/HR/3.png"), (height, 32, 3)))
    assert ["datasets:val:dataroot_lq" in line for line in option_file.errors()] == [True] * is_refused
    assert run(option_file.write())[0] == is_refused


@pytest.mark.parametrize(
    ("change", "sees"),
    [
        (lambda file: None, "6 pairs"),
        (use_lmdbs, "6 pairs"),
        (pairs_of_a_list, "2 pairs"),
        (lambda file: use_pair_list(file, "0.png, 0x2.png", "3.png, 3x2.png", "5.png, 5x2.png"), "3 pairs"),
    ],
)
def test_valid_data_of_every_kind_pass_both_checks(option_file, run, change, sees):
    change(option_file)
    assert option_file.errors() == []
    code, text = run(option_file.write())
    assert f"BasicSR can train on it: it sees {sees}" in text
    assert "BasicSR can validate or test on it: it sees 6 pairs" in text
    assert code == 0


def use_photographs(option_file):
    """Train on HR alone, in a folder with a sub-folder and another file."""
    Path("photos/of cats").mkdir(parents=True)
    for file in Path("HR").iterdir():
        file.rename(Path("photos", "of cats" if file.stem == "5" else "", file.name))
    save(Path("photos/uneven.png"), noise(9, 25, 33))
    Path("photos/notes.txt").write_text("mine")
    for key in ("dataroot_lq", "filename_tmpl"):
        del option_file.train[key]
    option_file.train.update(type="BicubicDataset", dataroot_gt="photos")


@pytest.mark.parametrize("in_lmdb", [False, True])
def test_hr_images_alone_pass_both_checks_with_their_own_type(option_file, run, in_lmdb):
    use_photographs(option_file)
    if in_lmdb:
        create_lmdb_of_folder(Path("photos"))
        option_file.train.update(dataroot_gt="photos.lmdb", io_backend={"type": "lmdb"})
    assert option_file.errors() == []
    code, text = run(option_file.write())
    assert "BasicSR can train on it: it sees 7 images" in text
    assert code == 0


@pytest.mark.parametrize(
    ("spoil", "messages"),
    [
        (lambda file: file.options.pop("scale"), ["scale: is missing, and datasets:train needs it"]),
        (
            lambda file: file.train.update(gt_size=32),
            ["gt_size: 7 of 7 looked at: 0.png is 32×24: smaller than the patch of 32×32; take gt_size 24 or less"],
        ),
        (lambda _: shutil.rmtree("photos"), ["dataroot_gt = 'photos': no such folder"]),
        (lambda file: file.train.update(dataroot_gt="list"), ["dataroot_gt = 'list': there are no images in it"]),
        (lambda _: Path("photos/3.png").write_bytes(b""), ["photos/3.png cannot be read as an image"]),
        (
            lambda file: file.train.update(dataroot_lq="LR"),
            ["dataroot_lq: BicubicDataset would ignore it; set type: PairedImageDataset, which reads it, or remove it"],
        ),
        (
            lambda file: use_list(file, "0.png", "of cats/7.png", kind="BicubicDataset"),
            ["meta_info_file: line 2 names", "photos/of, which does not exist; correct it"],  # cut at the space
        ),
    ],
)
def test_faults_of_hr_images_alone_are_reported_before_a_run_and_by_the_full_check(option_file, run, spoil, messages):
    use_photographs(option_file)
    Path("list").mkdir()
    spoil(option_file)
    assert_reported(option_file, run, messages)


def test_full_check_lists_all_damage_and_validation_images_in_the_training_data(option_file, run):
    shutil.rmtree("HR")
    Path("val/HR/2.png").write_bytes(Path("val/HR/2.png").read_bytes()[:-200])
    Path("LR/3x2.png").write_bytes(b"")
    text = run(option_file.write())[1]
    assert "datasets:train:dataroot_gt = 'HR': no such folder" in text
    assert "datasets:train LR: LR\n  5 images" in text
    assert "1 file cannot be read as images\n    3x2.png: is empty" in text
    assert "1 file cannot be read as images\n    2.png: is truncated" in text
    assert "BasicSR cannot validate or test on it as it is" in text
    shutil.copytree("val/HR", "HR")
    assert "note: 5 HR images that the training data has too\n    0.png = 0.png" in run("train.yml")[1]


@pytest.mark.parametrize(
    ("model", "channels", "color", "message"),
    [
        (
            "RGTModel",
            1,
            None,
            "val:color: 0.png is in colour, and network_g takes 1 channel; set in_chans: 3, or color: y",
        ),
        ("RGTModel", 1, "y", ""),
        ("RGTModel", 3, "y", ""),
        ("SRModel", 1, None, "0.png is read in colour, and network_g takes 1 channel; set in_chans: 3, or color: y"),
        (
            "SRModel",
            3,
            "y",
            "0.png is grey (color: y), and network_g takes 3 channels; set in_chans: 1, or remove color",
        ),
        ("SRModel", 1, "y", ""),
        ("SRModel", 4, None, "0.png is read in colour, and network_g takes 4 channels; set in_chans: 3"),
    ],
)
def test_images_must_have_the_channels_of_the_network(option_file, run, model, channels, color, message):
    """RGTModel converts grey images for both kinds of network: the training images are grey."""
    for file in [*Path("HR").iterdir(), *Path("LR").iterdir()]:
        cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
    option_file.options["model_type"] = model
    option_file.options["network_g"]["in_chans"] = channels
    for data in (option_file.train, option_file.val):
        data["color"] = color
    errors = option_file.errors()
    assert len(errors) == (0 if not message else 1 if model == "RGTModel" else 2)
    assert message in "".join(errors)
    text = run(option_file.write())[1]
    assert ("BasicSR cannot validate or test on it as it is" in text) == bool(message)


def test_single_images_pass_with_a_note_on_missing_weights(data, run):
    test = {"name": "s", "type": "SingleImageDataset", "dataroot_lq": "LR", "io_backend": {"type": "disk"}}
    options = {"name": "test", "model_type": "RGTModel", "scale": 2, "num_gpu": 0, "datasets": {"test_1": test}}
    options |= {"network_g": {"type": "RGT", "upscale": 2}, "path": {"pretrain_network_g": "gone.pth"}}
    Path("test.yml").write_text(yaml.safe_dump(options))
    code, text = run("test.yml")
    assert code == 0
    assert "BasicSR can validate or test on it: it sees 6 images" in text
    assert "note: 1 file beside the data that `basicsr test` needs and that cannot be used" in text


def test_at_most_64_headers_are_read_spread_over_the_folder(option_file, monkeypatch):
    for index in range(6, 100):
        os.link("HR/5.png", f"HR/{index:02}.png")
        os.link("LR/5x2.png", f"LR/{index:02}x2.png")
    opened = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda file, **options: opened.append(Path(file)) or original(file, **options))
    assert option_file.errors() == []
    names = sorted(file.name for file in opened if file.parent.name == "HR" and file.parent.parent.name != "val")
    assert len(names) == 32
    assert names[0] == "0.png"
    assert names[-1] == "99.png"
    assert any("50.png" <= name <= "53.png" for name in names)


@pytest.mark.parametrize("in_lmdb", [False, True])
@pytest.mark.parametrize(("shifted", "is_reported"), [(2, False), (4, True), (6, True)])
def test_lr_images_of_other_hr_images_are_reported_before_a_run_if_most_are(option_file, in_lmdb, shifted, is_reported):
    """Single pairs may look wrong; `rgt prepare check` lists them."""
    images = [Path(f"LR/{index}x2.png").read_bytes() for index in range(6)]
    for index in range(shifted):
        Path(f"LR/{index}x2.png").write_bytes(images[(index + 1) % shifted])
    if in_lmdb:
        use_lmdbs(option_file)
    reported = [line for line in option_file.warnings() if "datasets:train:dataroot_lq" in line]
    assert len(reported) == is_reported
    name, partner, other = ("0", "0", "1") if in_lmdb else ("0.png", "0x2.png", "1.png")
    text = (
        f"{shifted} of 6 looked at: {partner} looks like HR {other}, not like {name}; `rgt prepare check` compares all"
    )
    assert all(text in line for line in reported)
