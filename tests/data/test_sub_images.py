"""`rgt prepare subimages`: HR and LR crops that pair, BasicSR's positions, bad files, restarts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.data.outputs import Cutting

from .image_files import files, noise, prepare, read, save


def pngs(folder: Path) -> set[str]:
    return set(files(folder, ".png"))


def cut(root: Path, *arguments: object) -> int:
    return prepare("subimages", root / "HR", "-o", root / "sub", *arguments)


def pairs(root: Path, shapes: dict[str, tuple[int, ...]], scales: tuple[int, ...] = (2,), ending: str = "x{}") -> None:
    """Write HR and LR images with these names and HR shapes."""
    for seed, (name, shape) in enumerate(shapes.items()):
        save(root / "HR" / f"{name}.png", noise(*shape, seed=seed))
        for scale in scales:
            small = hr_lr_pair(noise(*shape, seed=seed), scale)[1]
            save(root / f"X{scale}" / f"{name}{ending.format(scale)}.png", small)


def test_hr_and_lr_of_other_formats_pair(tmp_path: Path) -> None:
    save(tmp_path / "HR" / "a.tif", noise(128, 140, 3))
    save(tmp_path / "X2" / "ax2.webp", noise(64, 70, 3))
    assert cut(tmp_path, "--lr", tmp_path / "X2") == 0
    assert read(tmp_path / "sub/LR_bicubic/X2/a_s001.png").shape[:2] == (64, 70)


def test_images_smaller_than_a_crop_are_kept_whole_or_without_a_patch_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs(tmp_path, {"narrow": (128, 300), "large": (160, 160), "icon": (127, 300)})
    save(tmp_path / "HR" / "tiny.png", noise(1, 1, 3))  # has no LR image
    for _ in range(2):  # the second time, the outputs exist
        assert cut(tmp_path, "--size", 160, "--step", 160, "--lr", tmp_path / "X2") == 0
        assert capsys.readouterr().out.splitlines()[2:] == [
            "images smaller than 160 pixels in a direction, kept whole there: 1",
            "images smaller than 128 pixels in a direction, left out: 2",
        ]
    assert pngs(tmp_path / "sub/HR") == {"narrow_s001.png", "narrow_s002.png", "large_s001.png"}
    assert read(tmp_path / "sub/HR/narrow_s001.png").shape[:2] == (128, 160)


@pytest.mark.parametrize(
    ("length", "threshold", "starts"),
    [(480, 0, [0]), (300, 0, [0]), (481, 0, [0, 1]), (481, 1, [0]), (720, 0, [0, 240]), (1000, 0, [0, 240, 480, 520])],
)
def test_positions_are_basicsrs(length: int, threshold: int, starts: list[int]) -> None:
    boxes = Cutting(480, 240, threshold).boxes((480, length))
    assert boxes == [(0, left, 480, min(480, length)) for left in starts]
    assert [box[0] for box in Cutting(480, 240, threshold).boxes((length, 480))] == starts


@pytest.mark.parametrize("ending", ["x{}", ""])
def test_crops_of_hr_and_lr_show_the_same_places(tmp_path: Path, ending: str) -> None:
    shapes = {"a": (61, 50, 3), "in/b.1": (24, 100), "box2": (30, 24, 3), "bo": (24, 30, 3)}
    pairs(tmp_path, shapes, (2, 3), ending)
    lr = ["--lr", tmp_path / "X3", "--lr", tmp_path / "X2"]
    assert cut(tmp_path, *lr, "--size", 24, "--step", 12, "--jobs", 2) == 0
    out = tmp_path / "sub"
    names = pngs(out / "HR")
    assert pngs(out / "LR_bicubic" / "X2") == pngs(out / "LR_bicubic" / "X3") == names
    seen = 0
    for name, shape in shapes.items():
        hr = read(tmp_path / "HR" / f"{name}.png")
        boxes = Cutting(24, 12).boxes((shape[0] - shape[0] % 6, shape[1] - shape[1] % 6))
        for number, (top, left, height, width) in enumerate(boxes, 1):
            place = f"{name}_s{number:03}.png"
            np.testing.assert_array_equal(read(out / "HR" / place), hr[top : top + height, left : left + width])
            for scale in (2, 3):
                small = read(tmp_path / f"X{scale}" / f"{name}{ending.format(scale)}.png")
                part = small[top // scale : (top + height) // scale, left // scale : (left + width) // scale]
                np.testing.assert_array_equal(read(out / "LR_bicubic" / f"X{scale}" / place), part)
        seen += len(boxes)
    assert seen == len(names)


def test_bad_image_is_a_one_line_error_without_crops(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = ["good", "hr_cut", "lr_cut", "no_lr", "other_size", "other_scale", "pipe"]
    pairs(tmp_path, dict.fromkeys(names, (40, 48, 3)))
    hr, lr = tmp_path / "HR", tmp_path / "X2"
    (hr / "hr_cut.png").write_bytes((hr / "hr_cut.png").read_bytes()[:2000])
    (lr / "lr_cutx2.png").write_bytes((lr / "lr_cutx2.png").read_bytes()[:900])
    (lr / "no_lrx2.png").rename(lr / "no_hrx2.png")
    save(lr / "other_sizex2.png", noise(20, 23, 3))
    save(lr / "other_scalex2.png", noise(10, 12, 3))
    (lr / "pipex2.png").unlink()
    os.mkfifo(lr / "pipex2.png")
    (lr / "readme.txt").write_text("about")
    (hr / "good.txt").write_text("about")
    for made in (1, 0):
        assert cut(tmp_path, "--lr", lr, "--size", 24, "--step", 12, "--jobs", 2) == 1
        out, err = capfd.readouterr()
        assert f"images: {made} made, {1 - made} already there, 7 failed" in out
        assert "passed over: 2 .txt" in out.splitlines()
        lines = [line for line in err.splitlines() if line.startswith(str(tmp_path))]
        assert len(err.splitlines()) == len(lines) + 1, err  # plus the progress bar
        assert sorted(Path(line.split(": ")[0]).name for line in lines) == [
            "hr_cut.png",
            "lr_cutx2.png",
            "no_hrx2.png",
            "no_lr.png",
            "other_scalex2.png",
            "other_sizex2.png",
            "pipex2.png",
        ]
        assert not any(line.split(": ")[1].startswith(str(tmp_path)) for line in lines), "named once"
        assert {name.split("_s0")[0] for name in pngs(tmp_path / "sub" / "HR")} == {"good"}
        assert pngs(tmp_path / "sub" / "HR") == pngs(tmp_path / "sub" / "LR_bicubic" / "X2")


def test_restart_replaces_missing_damaged_and_outdated_files(tmp_path: Path) -> None:
    pairs(tmp_path, {"a": (48, 48, 3), "b": (48, 48, 3)})
    arguments = ["--lr", tmp_path / "X2", "--size", "24", "--step", "24"]
    assert cut(tmp_path, *arguments) == 0
    out = tmp_path / "sub"
    whole, age = files(out), (out / "HR" / "b_s001.png").stat().st_mtime_ns
    (out / "HR" / "a_s002.png").unlink()
    (out / "LR_bicubic" / "X2" / "a_s003.png").write_bytes(b"cut")
    assert cut(tmp_path, *arguments) == 0
    assert files(out) == whole
    assert (out / "HR" / "b_s001.png").stat().st_mtime_ns == age
    pairs(tmp_path, {"a": (24, 30, 3)})  # a new, smaller version has fewer crops
    assert cut(tmp_path, *arguments) == 0
    assert {name for name in pngs(out / "HR") if name.startswith("a")} == {"a_s001.png", "a_s002.png"}
    np.testing.assert_array_equal(read(out / "HR/a_s002.png"), noise(24, 30, 3)[:, 6:])
    assert pngs(out / "HR") == pngs(out / "LR_bicubic" / "X2")
