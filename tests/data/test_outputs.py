"""Folders that `rgt prepare` fills: invalid arguments change nothing, and other files are not replaced."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.data.outputs import STAMP

from .image_files import files, noise, prepare, read, save


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("lr HR --layout X{scale}.png", "with {name} in the name"),
        ("lr HR --layout {name}/{scale}.png", "with {name} in the name"),
        ("lr HR --layout X{scale}/{name}.jpg", "of a .png file"),
        ("lr HR --layout {name}{scale}.png --scale 2 4", "with {scale} in the folder"),
        ("lr HR --layout {name}{format}.png", "no other field"),
        ("lr HR --layout ../{name}.png", "inside the output folder"),
        ("lr HR --layout /{name}.png", "inside the output folder"),
        ("lr HR --layout HR/{name}.png", "inside the input folder"),
        ("lr HR --layout {name}.png", "or around it"),
        ("lr HR --hr-out HR", "inside the input folder"),
        ("lr HR -o HR", "inside the input folder"),
        ("lr HR -o linked --layout {name}.png", "inside the input folder"),
        ("lr HR --hr-out X4 --layout X{scale}/{name}x{scale}.png", "is the folder of LR images"),
        ("lr HR -o filled", "LR_bicubic/X4/other.png exists and was not made by this command"),
        ("subimages HR -o sub --size 0", "--size is 0"),
        ("subimages HR -o sub --step 0", "--step is 0"),
        ("subimages HR -o sub --threshold -1", "--threshold is -1"),
        ("subimages HR -o sub --lr X3 --size 25", "--size is 25 and --step 240; both must be multiples of 3"),
        ("subimages HR -o sub --lr X3 --size 24 --step 10", "both must be multiples of 3"),
        ("subimages HR -o sub --lr X3 --lr X3", "another LR folder is 3 times smaller"),
        ("subimages HR -o sub --lr HR", "none of its images is named like one in HR"),
        ("subimages HR -o sub --lr filled", "and 2 to 16 times smaller"),
        ("subimages HR -o .", "inside the input folder"),
        ("subimages HR -o HR/sub", "inside the input folder"),
        ("subimages HR -o filled", "HR/b.png exists and was not made by this command"),
    ],
)
def test_invalid_arguments_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    hr, lr = hr_lr_pair(noise(30, 30, 3), 3)
    for name, image in (("HR/a", hr), ("X3/ax3", lr), ("filled/LR_bicubic/X4/other", lr), ("filled/HR/b", lr)):
        save(Path(f"{name}.png"), image)
    Path("linked").symlink_to("HR")
    before = files(tmp_path)
    assert prepare(*command.split()) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert files(tmp_path) == before


def test_folder_that_cannot_be_made_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = save(tmp_path / "HR" / "a.png", noise(8, 8, 3))
    (tmp_path / "file").write_bytes(file.read_bytes())
    assert prepare("lr", tmp_path / "HR", "-o", tmp_path / "file") == 1
    assert "cannot be written: Not a directory" in capsys.readouterr().err


def test_changed_settings_need_another_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, image in zip(("HR/a", "X2/a"), hr_lr_pair(noise(48, 48, 3), 2), strict=True):
        save(tmp_path / f"{name}.png", image)
    cut = ("subimages", tmp_path / "HR", "-o", tmp_path / "sub", "--size", 24)
    assert prepare(*cut, "--step", 12) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"sub-images in {tmp_path / 'sub' / 'HR'}: 9"
    before = files(tmp_path)
    for change, words in (
        (["--step", 24], "was filled with other settings (step 12; now step 24)"),
        (["--step", 12, "--lr", tmp_path / "X2"], "HR cropped to multiples of 1; now"),
    ):
        assert prepare(*cut, *change) == 2
        assert words in capsys.readouterr().err
        assert files(tmp_path) == before
    assert prepare(*cut, "--step", 24, "--overwrite") == 0
    assert len(files(tmp_path / "sub" / "HR", ".png")) == 4


def test_interrupted_overwrite_resumes_with_the_files_not_yet_replaced(tmp_path: Path) -> None:
    hr, place = tmp_path / "HR", tmp_path / "LR_bicubic" / "X4"
    save(hr / "0.png", noise(16, 16, 3))
    old = save(place / "0x4.png", noise(4, 4, 3, seed=9))
    time.sleep(0.02)  # file systems round timestamps
    assert prepare("lr", hr, "--overwrite") == 0
    save(old, noise(4, 4, 3, seed=9))
    os.utime(old, ns=(0, (place / STAMP).stat().st_mtime_ns - 1))  # as if not yet replaced
    assert prepare("lr", hr) == 0
    np.testing.assert_array_equal(read(old), hr_lr_pair(noise(16, 16, 3), 4)[1])
