"""Meta-info files and pair lists, read back as BasicSR and Real-ESRGAN read them."""

from __future__ import annotations

import os

import numpy as np
import pytest
from basicsr.data.data_util import paired_paths_from_meta_info_file
from basicsr.data.realesrgan_paired_dataset import RealESRGANPairedDataset

from .image_files import prepare, save


def write(path, height=8, width=6, channels=3):
    save(path, np.full((height, width, channels), 90, np.uint8))


def meta(*arguments):
    return prepare("meta", *arguments, "--jobs", 1)


def test_basicsr_reads_the_lists(tmp_path):
    for stem in ("0001_s001", "sub/img.v1"):
        write(tmp_path / "HR" / f"{stem}.png")
    write(tmp_path / "HR" / "grey.png", channels=1)
    assert meta(tmp_path / "HR", "-o", tmp_path / "meta" / "info.txt") == 0
    text = (tmp_path / "meta" / "info.txt").read_text()
    assert text == "0001_s001.png (8,6,3)\ngrey.png (8,6,1)\nsub/img.v1.png (8,6,3)\n"
    pairs = paired_paths_from_meta_info_file(
        [str(tmp_path / "LR"), str(tmp_path / "HR")], ["lq", "gt"], str(tmp_path / "meta" / "info.txt"), "{}x2"
    )
    assert all(os.path.isfile(pair["gt_path"]) for pair in pairs)
    assert meta(tmp_path / "HR", "-o", tmp_path / "names.txt", "--names-only") == 0
    assert (tmp_path / "names.txt").read_text() == "HR/0001_s001.png\nHR/grey.png\nHR/sub/img.v1.png\n"


def test_real_esrgan_reads_the_pair_lists(tmp_path):
    for stem, ending in (("a", "x2.png"), ("with space", "x2.jpg"), ("sub/b.c", "x2.png"), ("dx2", "x2.png")):
        write(tmp_path / "DF2K" / "HR" / f"{stem}.png", 8, 8)
        write(tmp_path / "DF2K" / "LR" / f"{stem}{ending}", 4, 4)
    assert meta(tmp_path / "DF2K/HR", "--lr", tmp_path / "DF2K/LR", "-o", tmp_path / "pairs.txt") == 0
    lines = (tmp_path / "pairs.txt").read_text().splitlines()
    assert lines == [
        "HR/a.png, LR/ax2.png",
        "HR/dx2.png, LR/dx2x2.png",
        "HR/sub/b.c.png, LR/sub/b.cx2.png",
        "HR/with space.png, LR/with spacex2.jpg",
    ]
    root = str(tmp_path / "DF2K")
    dataset = RealESRGANPairedDataset(
        {
            **dict.fromkeys(("dataroot_gt", "dataroot_lq"), root),
            **{"meta_info": str(tmp_path / "pairs.txt"), "io_backend": {"type": "disk"}, "phase": "val", "scale": 2},
        }
    )
    assert [tuple(item["lq"].shape) for item in dataset] == [(3, 4, 4)] * 4


def test_other_roots_can_be_given_but_must_contain_the_images(tmp_path, capsys):
    write(tmp_path / "data/HR/a.png")
    write(tmp_path / "data/LR/a.png")
    arguments = (tmp_path / "data/HR", "--lr", tmp_path / "data/LR", "-o", tmp_path / "pairs.txt")
    assert meta(*arguments, "--root", tmp_path, "--lr-root", tmp_path / "data/LR") == 0
    assert (tmp_path / "pairs.txt").read_text() == "data/HR/a.png, a.png\n"
    assert meta(*arguments, "--root", tmp_path / "data/LR") == 2
    assert "HR/a.png: lies outside of the root" in capsys.readouterr().err


def test_damaged_and_unpaired_images_and_cut_names_are_skipped_with_one_line_each(tmp_path, capsys):
    for name in ("HR/pair.png", "LR/pair.png", "HR/alone.png", "LR/stray.png", "HR/two.png", "LR/two.jpg"):
        write(tmp_path / name)
    for name in ("LR/two.bmp", "HR/a, b.png", "LR/a, b.png", "HR/bad.png"):
        write(tmp_path / name)
    (tmp_path / "LR/bad.png").write_bytes((tmp_path / "HR/bad.png").read_bytes()[:-20])
    assert meta(tmp_path / "HR", "--lr", tmp_path / "LR", "-o", tmp_path / "pairs.txt") == 1
    out, err = capsys.readouterr()
    assert "1 made, 0 already there, 7 failed" in out
    for line in (
        "alone.png: has no LR image",
        "stray.png: has no image",
        "two.png: has no LR image",
        "two.jpg: has no image",
        "two.bmp: has no image",
        "a, b.png: BasicSR would cut the name",
        "bad.png: is truncated",
    ):
        assert err.count(line) == 1, line
    assert (tmp_path / "pairs.txt").read_text() == "HR/pair.png, LR/pair.png\n"
    assert meta(tmp_path / "HR", "-o", tmp_path / "info.txt") == 1
    assert "a, b.png: BasicSR would cut the name" in capsys.readouterr().err


def test_existing_list_is_kept_refused_or_overwritten(tmp_path, capsys):
    write(tmp_path / "HR" / "a.png")
    file = tmp_path / "info.txt"
    assert meta(tmp_path / "HR", "-o", file) == 0
    assert meta(tmp_path / "HR", "-o", file) == 0
    assert "0 made, 1 already there, 0 failed" in capsys.readouterr().out
    file.write_text("a.png (8,6,3)\nmine\n")
    assert meta(tmp_path / "HR", "-o", file) == 2
    assert "exists with other content" in capsys.readouterr().err
    assert file.read_text().endswith("mine\n")
    assert meta(tmp_path / "HR", "-o", file, "--overwrite") == 0
    assert file.read_text() == "a.png (8,6,3)\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr-root", "x"], "goes with --lr only"),
        (["-o", "."], "folder"),
        (["-o", "{HR}/list.txt"], "would lie inside the input folder"),
    ],
)
def test_misuse_is_reported(tmp_path, capsys, arguments, message):
    write(tmp_path / "HR" / "a.png")
    arguments = [argument.format(HR=tmp_path / "HR") for argument in arguments]
    assert meta(tmp_path / "HR", "-o", tmp_path / "info.txt", *arguments) == 2
    assert message in capsys.readouterr().err
