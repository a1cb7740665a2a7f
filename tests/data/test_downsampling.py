"""`rgt prepare lr`: the benchmarks' LR files bit for bit, unusual and bad files, restarts after kills."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from basicsr.data.paired_image_dataset import PairedImageDataset
from PIL import Image

from rgt_arch.data import outputs
from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.data.images import write_png
from rgt_arch.files import written_whole

from .image_files import TURNED, files, noise, prepare, read, save

lr = partial(prepare, "lr")


@pytest.mark.skipif("RGT_DATA" not in os.environ, reason="RGT_DATA names no folder of benchmark images")
@pytest.mark.parametrize(("name", "count"), [("Set5", 15), ("Set14", 42), ("B100_dev50", 150)])
def test_command_reproduces_the_benchmarks_bit_for_bit(tmp_path: Path, name: str, count: int) -> None:
    folder = Path(os.environ["RGT_DATA"], "benchmark", name)
    assert lr(folder / "HR", "-o", tmp_path, "--scale", 2, 3, 4, "--jobs", 2) == 0
    made = sorted((tmp_path / "LR_bicubic").rglob("*.png"))
    published = [folder / path.relative_to(tmp_path) for path in made]
    assert published == sorted((folder / "LR_bicubic").rglob("*.png"))
    assert len(made) == count
    for one, other in zip(made, published, strict=True):
        np.testing.assert_array_equal(read(one), read(other), err_msg=str(other))


def test_files_not_named_like_images_are_passed_over_and_transparency_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "HR/alpha.png", noise(8, 12, 4))
    save(tmp_path / "HR/plain.png", noise(8, 12, 3))
    for name in ("LICENSE", "notes.TXT", "phone.heic", "in/more.txt"):
        (tmp_path / "HR" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "HR" / name).touch()
    for made in (2, 0):
        assert lr(tmp_path / "HR") == 0
        out, err = capsys.readouterr()
        assert out.startswith(f"images: {made} made, {2 - made} already there, 0 failed")
        assert out.splitlines()[1:] == [
            "passed over: 2 .txt, 1 .heic, 1 without a suffix",
            "images with transparency, of which only the colours are kept: 1",
            f"images in {tmp_path / 'LR_bicubic/X4'}: 2",
        ]
        assert "alpha" not in err
    assert prepare("meta", tmp_path / "HR", "-o", tmp_path / "list.txt") == 0
    assert "passed over: 2 .txt" in capsys.readouterr().out
    assert (tmp_path / "list.txt").read_text() == "alpha.png (8,12,3)\nplain.png (8,12,3)\n"
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").touch()
    assert lr(tmp_path / "texts") == 2
    assert "there are no images in it; passed over: 1 .txt" in capsys.readouterr().err


def test_all_scales_sub_folders_and_unusual_names_get_their_own_files(tmp_path: Path) -> None:
    names = ["plain", "CID22/1.2 ü{scale}", "CID22/{name}", "ax2"]
    for seed, name in enumerate(names):
        save(tmp_path / "HR" / f"{name}.png", noise(33, 50, 3, seed=seed))
    assert lr(tmp_path / "HR", "--scale", 8, 2, 3, "--jobs", 2) == 0
    for seed, name in enumerate(names):
        for scale in (2, 3, 8):
            expected = hr_lr_pair(noise(33, 50, 3, seed=seed), scale)[1]
            np.testing.assert_array_equal(read(tmp_path / f"LR_bicubic/X{scale}/{name}x{scale}.png"), expected)
    assert len(files(tmp_path / "LR_bicubic", ".png")) == 12


@pytest.mark.parametrize(
    ("layout", "place"), [("{name}.png", "sub/a.png"), ("low/{scale}/lr_{name}.png", "low/4/sub/lr_a.png")]
)
def test_layout_decides_where_files_go(tmp_path: Path, layout: str, place: str) -> None:
    save(tmp_path / "HR" / "sub" / "a.png", noise(8, 8, 3))
    assert lr(tmp_path / "HR", "-o", tmp_path / "out", "--layout", layout) == 0
    assert list(files(tmp_path / "out", ".png")) == [place]


def test_modes_and_depths_match_training_and_a_second_run_keeps_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hr = tmp_path / "HR"
    save(hr / "grey.png", noise(8, 12))
    save(hr / "deep.png", noise(8, 12, 3, dtype=np.uint16))
    save(hr / "alpha.png", noise(8, 12, 4))
    image = Image.fromarray(noise(8, 12, 3))
    image.quantize(8).save(hr / "palette.png")
    image.convert("CMYK").save(hr / "cmyk.jpg")
    for name in ("gif.gif", "jp2.jp2", "jpg.jpg", "png.png", "tif.tif", "webp.webp"):
        image.save(hr / name, exif=TURNED)
    for made in (11, 0):
        assert lr(hr) == 0
        assert capsys.readouterr().out.startswith(f"images: {made} made, {11 - made} already there")
    made_of = {p.name.removesuffix("x4.png"): read(p) for p in (tmp_path / "LR_bicubic/X4").glob("*.png")}
    for name, pixels in made_of.items():
        shape = (3, 2, 3) if name in ("jpg", "png", "tif", "webp") else (2, 3) if name == "grey" else (2, 3, 3)
        assert (pixels.shape, pixels.dtype) == (shape, "uint16" if name == "deep" else "uint8"), name
    np.testing.assert_array_equal(made_of["alpha"], hr_lr_pair(noise(8, 12, 4)[..., :3], 4)[1])
    turned = cv2.imread(str(hr / "jpg.jpg"), cv2.IMREAD_COLOR)
    assert turned is not None
    np.testing.assert_array_equal(made_of["jpg"], hr_lr_pair(turned, 4)[1])


def write_bad_files(folder: Path) -> list[str]:
    """Write two good files and one bad file of every kind; return the names of the bad ones."""
    good = save(folder / "good.png", noise(40, 40, 3)).read_bytes()
    (folder / "empty.png").touch()
    (folder / "junk.png").write_bytes(b"no image")
    (folder / "cut.png").write_bytes(good[:3000])
    (folder / "changed.png").write_bytes(good[:1000] + bytes(100) + good[1100:])
    (folder / "last.png").write_bytes(good[:-4])
    Image.fromarray(noise(40, 40, 3)).save(folder / "whole.jpg")
    (folder / "cut.jpeg.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:900])
    cv2.imwrite(str(folder / "float.tiff"), np.zeros((8, 8, 3), np.float32))
    save(folder / "small.png", noise(3, 40, 3))
    os.mkfifo(folder / "pipe.png")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    return sorted({path.name for path in folder.iterdir()} - {"good.png", "whole.jpg"})


@pytest.mark.parametrize("jobs", [1, 2])
def test_bad_file_is_a_one_line_error_without_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], jobs: int
) -> None:
    bad = write_bad_files(tmp_path / "HR")
    for made in (2, 0):  # again when the good ones are made
        assert lr(tmp_path / "HR", "--hr-out", tmp_path / "HR4", "--jobs", jobs) == 1
        out, err = capfd.readouterr()
        assert out.splitlines()[1:] == [f"images in {tmp_path / 'LR_bicubic/X4'} and {tmp_path / 'HR4'}: 2"]
        assert out.startswith(f"images: {made} made, {2 - made} already there, {len(bad)} failed")
        lines = [line for line in err.splitlines() if line.startswith(str(tmp_path))]
        assert sorted(Path(line.split(": ")[0]).name for line in lines) == bad
        assert len(err.splitlines()) == len(bad) + 1, err  # plus the progress bar
        made_of = {*files(tmp_path / "LR_bicubic" / "X4"), *files(tmp_path / "HR4")}
        assert made_of == {".rgt_prepare", "goodx4.png", "wholex4.png", "good.png", "whole.png"}


def test_advice_on_uneven_images_gives_pairs_that_train_in_basicsr_at_every_scale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "HR" / "even.png", noise(24, 36, 3))
    save(tmp_path / "HR" / "odd.png", noise(25, 37, 3))
    assert lr(tmp_path / "HR", "--scale", 2, 3) == 0
    advice = capsys.readouterr().out.splitlines()[2]
    assert "1 at x2, 1 at x3" in advice
    assert "run again with --hr-out" in advice
    assert lr(tmp_path / "HR", "--scale", 2, 3, "--hr-out", tmp_path / "HR6", "-o", tmp_path / "six") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    np.testing.assert_array_equal(read(tmp_path / "HR6" / "odd.png"), noise(25, 37, 3)[:24, :36])
    for scale in (2, 3):
        lq = tmp_path / f"six/LR_bicubic/X{scale}"
        options = {"dataroot_gt": str(tmp_path / "HR6"), "dataroot_lq": str(lq), "filename_tmpl": f"{{}}x{scale}"}
        options |= {"phase": "train", "scale": scale, "gt_size": 24, "use_hflip": True, "use_rot": True}
        dataset = PairedImageDataset({**options, "io_backend": {"type": "disk"}})
        assert len(dataset) == 2
        for item in dataset:
            assert item["gt"].shape == (3, 24, 24)
            assert item["lq"].shape == (3, 24 // scale, 24 // scale)


def test_outputs_are_kept_only_if_whole_of_the_right_size_and_newer(tmp_path: Path) -> None:
    hr = tmp_path / "HR"
    for number in range(5):
        save(hr / f"{number}.png", noise(16, 16, 3, seed=number))
    assert lr(hr) == 0
    place = tmp_path / "LR_bicubic" / "X4"
    before, ages = files(place), {p.name: p.stat().st_mtime_ns for p in place.iterdir()}
    (place / "0x4.png").write_bytes(before["0x4.png"][:60])
    save(place / "1x4.png", noise(3, 3, 3))
    (place / "2x4.png").unlink()
    save(tmp_path / "elsewhere" / "3.png", noise(16, 16, 3, seed=33))
    os.utime(tmp_path / "elsewhere" / "3.png", (1, 1))
    os.replace(tmp_path / "elsewhere" / "3.png", hr / "3.png")  # another image with an old date
    assert lr(hr) == 0
    after = files(place)
    assert {name for name in after if after[name] != before[name]} == {"3x4.png"}
    np.testing.assert_array_equal(read(place / "3x4.png"), hr_lr_pair(noise(16, 16, 3, seed=33), 4)[1])
    assert (place / "4x4.png").stat().st_mtime_ns == ages["4x4.png"]


def test_second_scale_keeps_the_files_of_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "HR" / "a.png", noise(16, 16, 3))
    assert lr(tmp_path / "HR", "--scale", 2) == 0
    time.sleep(0.02)  # file systems round timestamps
    assert lr(tmp_path / "HR", "--scale", 4) == 0
    capsys.readouterr()
    assert lr(tmp_path / "HR", "--scale", 2, 4) == 0
    assert capsys.readouterr().out.startswith("images: 0 made, 1 already there")


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process")
def test_second_run_after_a_kill_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hr, place = tmp_path / "HR", tmp_path / "out" / "LR_bicubic"
    for number in range(12):
        save(hr / f"{number:02}.png", noise(60, 60, 3, seed=number))
    arguments = [hr, "-o", tmp_path / "out", "--scale", 2, 4, "--jobs", 2]

    def stuck_at_08(path: Path, image: np.ndarray) -> None:
        if path.name == "08x4.png":  # so that the kill always comes in time
            with written_whole(path) as beside:
                beside.write_bytes(b"half")
                time.sleep(600)
        write_png(path, image)

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "write_png", stuck_at_08)
        run = multiprocessing.get_context("fork").Process(target=lr, args=arguments)
        run.start()
    deadline = time.monotonic() + 60
    while not list(place.rglob(".08x4.*")) and time.monotonic() < deadline:
        time.sleep(0.002)
    workers = psutil.Process(run.pid).children()
    run.kill()
    run.join()
    _, strays = psutil.wait_procs(workers, timeout=10)
    for stray in strays:
        stray.kill()
    assert not strays
    assert 2 <= len(list(place.rglob("[!.]*x4.png"))) < 12
    assert lr(*arguments) == 0
    assert lr(hr, "-o", tmp_path / "undisturbed", "--scale", 2, 4, "--jobs", 1) == 0
    whole = files(tmp_path / "undisturbed")
    assert {name: data for name, data in files(tmp_path / "out").items() if ".part." not in name} == whole
