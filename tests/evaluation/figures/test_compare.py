"""`rgt figure compare`: its numbers, its enlarged parts, and wrong inputs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.utils import img2tensor, tensor2img
from PIL import Image

from rgt_arch import RGT
from rgt_arch.data.bicubic import hr_lr_pair, imresize
from rgt_arch.evaluation.figures.compare import most_different


def score(image: np.ndarray, hr: np.ndarray, scale: int) -> str:
    metrics = [metric(image, hr, crop_border=scale, test_y_channel=True) for metric in (calculate_psnr, calculate_ssim)]
    return f"{metrics[0]:.2f}/{metrics[1]:.4f}"


def upscaled(network: RGT, lr: np.ndarray) -> np.ndarray:
    """The network's output as in BasicSR's validation; BGR, like `lr`."""
    with torch.no_grad():
        return tensor2img(network(img2tensor(lr.astype(np.float32) / 255)[None]))


def test_bicubic_networks_and_folders_are_measured_as_in_basicsr(figure, photograph, network, weights, tmp_path):
    hr, lr = hr_lr_pair(cv2.imread(str(photograph)), 2)
    given = np.clip(hr.astype(np.int16) + 3, 0, 255).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "face_lr.png"), lr)
    (tmp_path / "results" / "x2").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "results" / "x2" / "face_mine.png"), given)
    cv2.imwrite(str(tmp_path / "results" / "faces.png"), hr)
    said = figure("compare", photograph, f"A net={weights}", f"mine={tmp_path / 'results'}", "-o", "made.png")
    lines = said.splitlines()
    assert lines[0] == f"Bicubic: {score(imresize(lr, 2), hr, 2)}"
    assert lines[1] == f"A net: {score(upscaled(network, lr), hr, 2)}"
    assert lines[2] == f"mine: {score(given, hr, 2)}"
    given_lr = figure("compare", photograph, f"A net={weights}", "--lr", "face_lr.png", "-o", "given.png")
    assert given_lr.splitlines()[:2] == lines[:2]


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_figure_is_one_column_wide_and_reproducible(figure, photograph, kind):
    contents = []
    for _ in range(2):
        figure("compare", photograph, "bicubic", "--scale", 3, "--overwrite", "-o", f"figure.{kind}")
        contents.append(Path(f"figure.{kind}").read_bytes())
    assert contents[0] == contents[1]
    if kind == "png":
        with Image.open("figure.png") as image:
            assert image.width / image.info["dpi"][0] * 2.54 == pytest.approx(8.5, abs=0.01)
    assert not list(Path().glob(".*part*"))


def test_enlarged_parts_show_the_pixels_of_the_box(figure, tmp_path):
    """Every pixel has its own colour: only colours of the box cover large areas of the figure."""
    colours = np.random.default_rng(1).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), colours)
    figure("compare", "noise.png", "bicubic", "--scale", 2, "--box", "20,31,8,6")
    pixels = np.asarray(Image.open("compare.png").convert("RGB")).astype(int) @ (65536, 256, 1)
    drawn = dict(zip(*(part.tolist() for part in np.unique(pixels, return_counts=True)), strict=True))
    noise = colours.astype(int) @ (1, 256, 65536)
    box = np.zeros((60, 60), bool)
    box[31:37, 20:28] = True
    assert all(drawn.get(colour, 0) > 500 for colour in noise[box].tolist())
    assert all(drawn.get(colour, 0) < 100 for colour in noise[~box].tolist())  # in the small photograph only


def test_default_box_covers_the_differing_pixels():
    base = np.full((120, 160, 3), 100, np.uint8)
    other = base.copy()
    other[70:80, 101:115] = 180
    box = most_different(base, [other], 3)
    assert box.left <= 101
    assert box.left + box.width >= 115
    assert box.top <= 70
    assert box.top + box.height >= 80
    assert [side % 3 for side in (box.left, box.top, box.width, box.height)] == [0, 0, 0, 0]


MISTAKES = [
    (["bicubic", "--scale", "2", "--box", "60,0,20,10"], "--box 60,0,20,10: must lie in the image, which has 72×60"),
    (["bicubic", "--scale", "2", "--box", "0,0,40,2"], "its sides must be 4 pixels at least"),
    (["bicubic"], "--scale is needed"),
    (["net.pth", "--scale", "3"], "--scale 3: not possible; give one that all methods have (net ×2)"),
    (["bicubic", "--lr", "face.png"], "not a whole scale from 2"),
    (["bicubic", "--scale", "2", "-o", "face.png", "--overwrite"], "is one of the inputs"),
    (["bicubic", "--scale", "2", "-o", "taken.png"], "exists; --overwrite replaces it"),
    (["bicubic", "--scale", "2", "-o", "figure.jpg"], "must be one of .png, .pdf, .svg"),
    (["--scale", "2", "empty"], "there are 0 pictures called face"),
    (["bicubic", "--scale", "2", "--width", "0"], "--width 0: must be from 5 to 40 cm"),
]


def test_wrong_inputs_are_named_in_one_line_and_change_no_file(figure, photograph, weights, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken.png").write_text("mine")
    before = photograph.read_bytes()
    for arguments, message in MISTAKES:
        said = figure("compare", photograph, *arguments, code=2)
        assert message in said
        assert said.count("\n") == 1
    assert photograph.read_bytes() == before
    assert (tmp_path / "taken.png").read_text() == "mine"
    assert not (tmp_path / "compare.png").exists()


def test_missing_matplotlib_error_names_the_install_command(figure, photograph, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'rgt-arch[figures]'" in figure("compare", photograph, "bicubic", "--scale", 2, code=1)
