"""The table of what tiles cost."""

import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_psnr
from PIL import Image
from skimage import data

from rgt_arch import rgt_t
from rgt_arch.cli import main
from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.evaluation.tile_benchmark import run_tile_benchmark
from rgt_arch.inference.upscaler import Upscaler


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(1)
    torch.save({"params": rgt_t(2, depth=[2], num_heads=[6]).state_dict()}, tmp_path / "tiny.pth")
    return tmp_path / "tiny.pth"


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "HR"
    folder.mkdir()
    Image.fromarray(data.chelsea()[:96, :128]).save(folder / "cat.png")
    Image.fromarray(data.camera()[:80, :80]).save(folder / "grey.png")
    (folder / "readme.txt").write_text("passed over")
    return folder


def test_losses_are_against_the_same_images_run_whole(images, weights, capsys):
    costs = run_tile_benchmark(images, weights, tiles=[16, 1000], overlaps=[0, 4, 600])
    assert [(cost.tile, cost.overlap) for cost in costs] == [(0, 0), (16, 0), (16, 4), (1000, 0), (1000, 4)]
    whole, coarse, _, larger, _ = costs
    assert whole.lost == larger.lost == larger.most_lost == 0  # a tile larger than the image is the image
    assert whole.psnr == larger.psnr
    assert coarse.lost != 0
    assert coarse.psnr == pytest.approx(whole.psnr - coarse.lost)
    assert all(cost.seconds > 0 for cost in costs)
    assert "2 images of" in capsys.readouterr().out


def test_psnr_is_that_of_the_upscaler_s_pictures(images, weights):
    (images / "grey.png").unlink()
    whole = run_tile_benchmark(images, weights, tiles=[16], overlaps=[0])[0]
    hr, lr = hr_lr_pair(np.asarray(Image.open(images / "cat.png")), 2)
    result = Upscaler(weights, tile=0).upscale(lr)
    expected = calculate_psnr(result[..., ::-1], hr[..., ::-1], crop_border=2, test_y_channel=True)
    assert whole.psnr == pytest.approx(expected)


def test_command_prints_a_line_for_each_tiling(images, weights, capsys):
    assert main(["bench", "tiles", str(images), "-w", str(weights), "--tiles", "24", "--overlaps", "4", "8"]) == 0
    table = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert [line.split()[:2] for line in table[2:]] == [["24", "4"], ["24", "8"]]
    assert len({len(line) for line in table}) == 1


def test_nothing_to_measure_is_said(images, weights, tmp_path, capsys):
    command = ["bench", "tiles", "-w", str(weights)]
    assert main([*command, str(images), "--tiles", "8", "6", "--overlaps", "4"]) == 2
    assert "--overlaps 4: none is less than half of --tiles 8 6" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main([*command, str(tmp_path / "empty")]) == 2
    assert "no pictures" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(1, 1), (5, 200)])
def test_pictures_with_nothing_inside_the_border_are_named(images, weights, size, capsys):
    Image.new("RGB", size).save(images / "a.png")
    assert main(["bench", "tiles", str(images), "-w", str(weights)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"a.png: has {size[1]}×{size[0]} pixels; at least 6×6 can be measured; leave it out" in error


def test_a_folder_that_is_not_there_is_named(weights, tmp_path, capsys):
    assert main(["bench", "tiles", str(tmp_path / "nowhere"), "-w", str(weights)]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--tiles", "--overlaps", "--limit"])
def test_numbers_below_zero_are_refused(images, weights, flag, capsys):
    with pytest.raises(SystemExit):
        main(["bench", "tiles", str(images), "-w", str(weights), f"{flag}=-1"])
    assert f"'-1' is no whole number from {int(flag == '--limit')} on" in capsys.readouterr().err
