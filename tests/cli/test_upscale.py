"""`rgt upscale` and inference_rgt.py from end to end: real files, real networks, every flag."""

import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from rgt_arch import load_model, rgt_t
from rgt_arch.cli import main
from rgt_arch.inference.upscaler import Upscaler

SCRIPT = Path(__file__).parents[2] / "realesrgan_style_scripts/inference_rgt.py"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(2)
    file = tmp_path_factory.mktemp("weights") / "tiny_x2.pth"
    torch.save({"params": rgt_t(2, depth=[2], num_heads=[6]).state_dict()}, file)
    return file


@pytest.fixture
def cat(tmp_path):
    """A small lossless photograph."""
    Image.fromarray(data.chelsea()[60:92, 100:140]).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


def upscale(*arguments: object) -> int:
    return main(["upscale", *map(str, arguments), "--device", "cpu"])


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_output_equals_the_upscaler(cat, weights, capsys):
    assert upscale(cat, "-w", weights) == 0
    np.testing.assert_array_equal(pixels(cat.with_name("cat_x2.png")), Upscaler(weights).upscale(pixels(cat)))
    assert capsys.readouterr().out == f"1 made, 0 already there, 0 failed: {cat.with_name('cat_x2.png')}\n"


def test_every_option_reaches_the_upscaler(cat, weights, tmp_path):
    image = pixels(cat)
    for number, (flags, options) in enumerate(
        (
            (["--tile", 16, "--overlap", 4], {"tile": 16, "overlap": 4}),
            (["--self-ensemble"], {"self_ensemble": True}),
            (["--precision", "bf16"], {"precision": "bf16"}),
        )
    ):
        target = tmp_path / f"{number}.png"
        assert upscale(cat, "-w", weights, "-o", target, *flags) == 0
        expected = Upscaler(weights, device="cpu", **options).upscale(image)
        np.testing.assert_array_equal(pixels(target), expected, err_msg=str(flags))
        assert not np.array_equal(expected, Upscaler(weights, device="cpu", tile=0).upscale(image)), flags
    assert upscale(cat, "-w", weights, "-o", tmp_path / "s.png", "-s", 1.5) == 0
    assert pixels(tmp_path / "s.png").shape == (48, 60, 3)


def test_quality_changes_the_size_of_the_file(cat, weights, tmp_path):
    for quality in (30, 95):
        assert upscale(cat, "-w", weights, "-o", tmp_path / f"{quality}.jpg", "--quality", quality) == 0
    assert (tmp_path / "30.jpg").stat().st_size < (tmp_path / "95.jpg").stat().st_size


def test_mistakes_are_one_line_errors_and_change_nothing(cat, weights, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for flags, text in (
        (["--quality", 0], "--quality is 0"),
        (["--quality", "lossless", "-o", "a.jpg"], "a.jpg: JPEG is always lossy"),
        (["--width", 0], "--width is 0"),
        (["--crf", 99], "--crf is 99"),
        (["-w", "no.pth"], "no.pth"),
        (["-s", 0, "-w", "no.pth"], "--outscale is 0"),
        (["-o", "a.gif"], "a.gif"),
    ):
        assert upscale(cat, *(flags if "-w" in flags else ["-w", weights, *flags])) in (1, 2)
        err = capsys.readouterr().err
        assert text in err
        assert err.count("\n") == 1
    with pytest.raises(SystemExit):
        upscale(cat, "-w", weights, "-s", 2, "--width", 60)
    assert "--width: not allowed with argument -s" in capsys.readouterr().err
    for tile in ("abc", "-8", "1.5"):
        with pytest.raises(SystemExit):
            upscale(cat, "-w", weights, f"--tile={tile}")
        assert f"{tile} is neither auto nor a number of pixels" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


# --- the script ---


def script(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return int(ended.value.code or 0)


def test_each_flag_of_real_esrgan_has_an_effect(cat, weights, tmp_path, monkeypatch):
    image = pixels(cat)
    out = tmp_path / "results"
    base = ["-i", cat, "-o", out, "-n", weights, "--fp32"]
    assert script(monkeypatch, *base) == 0
    np.testing.assert_array_equal(pixels(out / "cat_out.png"), Upscaler(weights, tile=0).upscale(image))
    assert script(monkeypatch, *base, "-t", 16, "--tile_pad", 3, "--suffix", "tiled") == 0
    np.testing.assert_array_equal(pixels(out / "cat_tiled.png"), Upscaler(weights, tile=22, overlap=6).upscale(image))
    assert script(monkeypatch, *base, "-t", 16, "--suffix", "default_pad") == 0
    assert script(monkeypatch, *base, "-s", 3, "--ext", "jpg", "--suffix", "") == 0
    assert pixels(out / "cat.jpg").shape == (96, 120, 3)


def test_script_reports_numbers_out_of_range_in_one_line(cat, weights, monkeypatch, capsys):
    for flag, words in (
        ("--outscale=0", "rgt upscale: error: --outscale is 0"),
        ("--outscale=nan", "rgt upscale: error: --outscale is nan"),
        ("--tile=-1", "error: --tile is -1"),
        ("--tile_pad=-1", "--tile_pad -1; neither can be below 0"),
    ):
        assert script(monkeypatch, "-i", cat, "-n", weights, flag) == 2
        assert words in capsys.readouterr().err.splitlines()[-1]


def test_real_esrgans_alpha_flag(tmp_path, weights, monkeypatch):
    rgba = np.dstack([data.chelsea()[:20, :24], np.tile(np.linspace(0, 255, 24).astype(np.uint8), (20, 1))])
    Image.fromarray(rgba).save(tmp_path / "glass.png")
    for name, alpha in (("realesrgan", "rgt"), ("bicubic", "bicubic")):
        flags = ["-i", tmp_path / "glass.png", "-o", tmp_path, "-n", weights, "--suffix", name]
        assert script(monkeypatch, *flags, "--alpha_upsampler", name) == 0
        expected = Upscaler(load_model(weights), alpha=alpha, tile=0).upscale(rgba)
        np.testing.assert_array_equal(pixels(tmp_path / f"glass_{name}.png"), expected)


def test_model_path_and_gpu_of_real_esrgan_do_what_they_say(cat, weights, tmp_path, monkeypatch, capsys):
    flags = ["-i", cat, "-o", tmp_path, "-n", "RealESRGAN_x4plus", "--model_path", weights]
    assert script(monkeypatch, *flags) == 0
    assert pixels(tmp_path / "cat_out.png").shape == (64, 80, 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for flag in (["-g", 1], ["--gpu-id=1"]):
        capsys.readouterr()
        assert script(monkeypatch, *flags, *flag) == 2
        assert re.fullmatch(r"rgt upscale: error: device cuda:1 is not available .*\n", capsys.readouterr().err)


def test_flags_that_rgt_has_nothing_for_are_one_line(cat, weights, tmp_path, monkeypatch, capsys):
    flags = ["-i", cat, "-o", tmp_path, "-n", weights]
    for flag, code, words in (
        (["-dn", 0.3], 0, "--denoise_strength 0.3 has no effect: RGT"),
        (["--pre_pad", 10], 0, "--pre_pad 10 has no effect: RGT"),
        (["--ffmpeg_bin", "ffmpeg"], 0, "--ffmpeg_bin ffmpeg has no effect: videos"),
        (["--extract_frame_first"], 0, "--extract_frame_first has no effect: videos"),
        (["--num_process_per_gpu", 2], 0, "--num_process_per_gpu 2 has no effect: one"),
        (["--face_enhance"], 2, "error: --face_enhance: RGT has no network for faces; leave"),
        (["--fps", 30], 2, "error: --fps 30: the frames of a video keep their times; leave"),
    ):
        assert script(monkeypatch, *flags, *flag) == code
        line, *others = capsys.readouterr().err.splitlines()
        assert line.startswith(f"inference_rgt.py: {words}")
        assert not any("inference_rgt.py" in other for other in others)


# --- processes ---


def test_file_names_that_the_terminal_cannot_show_do_not_end_the_run(weights, tmp_path):
    (tmp_path / "é.png").write_bytes(b"damaged")
    command = [sys.executable, "-m", "rgt_arch.cli", "upscale", tmp_path, "-w", weights]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert r"\xe9.png" in process.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_terminated_run_leaves_no_partial_file(weights, tmp_path, number):
    """During a video, whose finished part is in a temporary file beside the target."""
    with av.open(tmp_path / "in.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(200):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(data.chelsea()[:48, :64], format="rgb24")))
        container.mux(stream.encode())
    out = tmp_path / "out"
    command = [sys.executable, "-m", "rgt_arch.cli", "upscale", tmp_path / "in.mp4", "-w", weights, "-o", f"{out}/"]
    with subprocess.Popen([*map(str, command), "--device", "cpu"], stderr=subprocess.PIPE, text=True) as process:
        while not (out.exists() and any(file.stat().st_size for file in out.iterdir())):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(number)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert "Traceback" not in told
    assert list(out.iterdir()) == []


def test_upscaling_works_with_closed_standard_streams(cat, weights):
    """As from a file manager, or with `2>&-`."""
    command = f'exec "{sys.executable}" -m rgt_arch.cli upscale "{cat}" -w "{weights}" --device cpu >&- 2>&-'
    assert subprocess.run(["sh", "-c", command], check=False, timeout=120).returncode == 0
    assert pixels(cat.with_name("cat_x2.png")).shape == (64, 80, 3)
