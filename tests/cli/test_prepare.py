"""Common behaviour of the `rgt prepare` commands."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from rgt_arch.cli import main, prepare

SCRIPTS = Path(__file__).parents[2] / "realesrgan_style_scripts"


def run_script(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    return int(ended.value.code or 0)


@pytest.mark.parametrize("command", [command.name.split()[1] for command in prepare.COMMANDS if command.run])
@pytest.mark.parametrize("jobs", ["0", "two"])
def test_wrong_jobs_are_refused_in_one_line(command, jobs, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["prepare", command, "folder", "--jobs", jobs])
    assert ended.value.code == 2
    assert f"--jobs: '{jobs}' is not a whole number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "command"),
    [
        ("check_dataset", "check"),
        ("create_lmdb", "lmdb"),
        ("extract_subimages", "subimages"),
        ("generate_bicubic_lr", "lr"),
        ("generate_meta_info", "meta"),
    ],
)
def test_realesrgan_style_scripts_run_the_commands(script, command, capsys, monkeypatch):
    assert run_script(monkeypatch, script, "--help") == 0
    assert capsys.readouterr().out.startswith(f"usage: rgt prepare {command} ")


# --- the flags of Real-ESRGAN's scripts ---


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """HR/a.png, HR/b.png, and LR/ax2.png, LR/bx2.png; the current directory."""
    monkeypatch.chdir(tmp_path)
    for folder, ending, size in (("HR", "", (90, 60)), ("LR", "x2", (45, 30))):
        Path(folder).mkdir()
        for name in "ab":
            Image.fromarray(data.chelsea()[:60, :90]).resize(size).save(f"{folder}/{name}{ending}.png")
    return tmp_path


def test_multiscale_images_are_lanczos_by_three_factors_and_with_a_shortest_side_of_400(photos, monkeypatch, capsys):
    flags = ["--input", "HR", "--output", "more/scales", "--num_threads", 1]
    assert run_script(monkeypatch, "generate_multiscale_DF2K", *flags) == 0
    made = {path.name: path for path in Path("more/scales").iterdir()}
    assert sorted(made) == [f"{name}T{number}.png" for name in "ab" for number in range(4)]
    with Image.open("HR/a.png") as source:
        for number, size in enumerate(((67, 45), (45, 30), (30, 20), (600, 400))):
            expected = source.resize(size, Image.Resampling.LANCZOS)
            np.testing.assert_array_equal(np.asarray(Image.open(made[f"aT{number}.png"])), np.asarray(expected))
    assert run_script(monkeypatch, "generate_multiscale_DF2K", *flags) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("images: 0 made, 2 already there, 0 failed")


def test_sub_images_of_hr_and_lr_have_equal_names_in_the_output_folder(photos, monkeypatch, capsys):
    for folder, size in (("HR", 40), ("LR", 20)):
        sizes = ["--crop_size", size, "--step", size // 2, "--thresh_size", 0]
        flags = ["--input", folder, "--output", f"{folder}_sub", *sizes, "--compression_level", 3, "--n_thread", 1]
        assert run_script(monkeypatch, "extract_subimages", *flags) == 0
        names = [path.name for path in sorted(Path(f"{folder}_sub").glob("*.png"))]
        assert names == [f"{name}_s{number:03d}.png" for name in "ab" for number in range(1, 9)]
        assert Image.open(f"{folder}_sub/a_s001.png").size == (size, size)
    Path("LR/ax2.png").rename("LR/bx4.png")
    assert run_script(monkeypatch, "extract_subimages", "--input", "LR", "--output", "other") == 2
    assert "LR/bx2.png and LR/bx4.png would have the same output name" in capsys.readouterr().err


def test_meta_info_lists_the_names_of_several_folders_under_their_roots(photos, monkeypatch, capsys):
    flags = ["--input", "HR", "LR", "--root", ".", "LR", "--meta_info", "lists/all.txt", "--check"]
    for _ in range(2):
        assert run_script(monkeypatch, "generate_meta_info", *flags) == 0
        assert Path("lists/all.txt").read_text() == "HR/a.png\nHR/b.png\nax2.png\nbx2.png\n"
    assert (
        run_script(monkeypatch, "generate_meta_info", *flags[:-3], "--meta_info", "lists/all.txt", "--root", ".") == 2
    )
    assert "--root names 1 folders and --input 2" in capsys.readouterr().err
    Path("LR/bx2.png").write_bytes(b"damaged")
    assert run_script(monkeypatch, "generate_meta_info", *flags) == 2
    assert "exists with other content" in capsys.readouterr().err
    assert run_script(monkeypatch, "generate_meta_info", *flags, "--overwrite") == 1
    assert Path("lists/all.txt").read_text() == "HR/a.png\nHR/b.png\nax2.png\n"


def test_meta_info_of_pairs_has_real_esrgans_flags(photos, monkeypatch):
    for roots, lines in (
        ([], "HR/a.png, LR/ax2.png\nHR/b.png, LR/bx2.png\n"),
        (["--root", "HR", "."], "a.png, LR/ax2.png\nb.png, LR/bx2.png\n"),
    ):
        flags = ["--input", "HR/", "LR/", *roots, "--meta_info", "lists/pairs.txt", "--overwrite"]
        assert run_script(monkeypatch, "generate_meta_info_pairdata", *flags) == 0
        assert Path("lists/pairs.txt").read_text() == lines
