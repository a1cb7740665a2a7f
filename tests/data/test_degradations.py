"""`rgt prepare degrade`: the same images for the same seed, made by the code of the training."""

from __future__ import annotations

import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torch.nn import functional as F

from rgt_arch.config.tables import degradation_values
from rgt_arch.data.degradations import PhotoDegradation, RealDegradation, degrade_image, draw_kernels
from rgt_arch.data.loading import seeded

from .image_files import files, prepare, read, save

degrade = partial(prepare, "degrade")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """HR/a.png, HR/sub/b.png and a grey HR/c.png; their sides do not divide by 4."""
    picture = data.astronaut()[:121, 100:242, ::-1]
    for name, image in {"a": picture, "sub/b": picture, "c": picture[:, :, 1]}.items():
        save(tmp_path / "HR" / f"{name}.png", image)
    return tmp_path / "HR"


@pytest.fixture
def threads():
    """Two threads of torch in this process, which forked ones do not have."""
    torch.set_num_threads(2)
    torch.nn.functional.conv2d(torch.rand(1, 8, 128, 128), torch.rand(8, 8, 3, 3))
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("profile", ["photo", "real"])
def test_one_seed_gives_the_same_files_and_the_code_of_training_makes_them(photos, tmp_path, profile, capsys):
    def made(out: str, *flags: object) -> dict[str, np.ndarray]:
        assert degrade(photos, "-o", tmp_path / out, "--profile", profile, *flags) == 0
        return {name: read(tmp_path / out / name) for name in files(tmp_path / out, ".png")}

    first, again, other = made("one", "--jobs", 2), made("two", "--jobs", 1), made("three", "--seed", 1)
    assert list(first) == [f"LR_{profile}/X4/{name}x4.png" for name in ("a", "c", "sub/b")]
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)
    assert not np.array_equal(first[f"LR_{profile}/X4/ax4.png"], first[f"LR_{profile}/X4/sub/bx4.png"])

    image = np.ascontiguousarray(read(photos / "a.png")[:120, :140, ::-1])
    hr = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with seeded(0, zlib.crc32(b"a")):
        kernels = draw_kernels() if profile == "real" else {}
        lr = PhotoDegradation(4)(hr) if profile == "photo" else RealDegradation(4, degradation_values({}))(hr, kernels)
    expected = (lr[0] * 255).round().permute(1, 2, 0).numpy()[:, :, ::-1]
    assert np.abs(expected - first[f"LR_{profile}/X4/ax4.png"]).max() <= 1  # another number of threads


def test_other_settings_and_small_images_are_refused_in_one_line(photos, tmp_path, capsys):
    assert degrade(photos, "--profile", "photo", "--scale", 2) == 0
    assert degrade(photos, "--profile", "photo", "--scale", 2, "--seed", 1) == 2
    assert "was filled with other settings (seed 0; now seed 1)" in capsys.readouterr().err
    assert degrade(photos, "--profile", "photo", "--seed", -1) == 2
    save(photos / "d.png", np.zeros((40, 90, 3), np.uint8))
    assert degrade(photos, "--profile", "real") == 1
    assert "d.png: is too small for the profile real at x4: a side is below 74 pixels" in capsys.readouterr().err


def test_16_bits_and_8_bits_of_an_image_are_degraded_alike():
    image = data.astronaut()[:96, :96, ::-1]
    assert np.array_equal(
        degrade_image(image, 2, "photo", (3, 4)), degrade_image(image.astype(np.uint16) * 257, 2, "photo", (3, 4))
    )


def test_about_one_image_in_five_is_only_made_smaller():
    hr = torch.from_numpy(data.astronaut()[:32, :32] / np.float32(255)).permute(2, 0, 1)[None]
    smaller = F.interpolate(hr, size=(16, 16), mode="bicubic", antialias=True)
    with seeded(0, 0):
        lr = PhotoDegradation(2)(hr.repeat(400, 1, 1, 1))
    is_clean = (lr - smaller.clamp(0, 1)).abs().amax(dim=(1, 2, 3)) <= 0.51 / 255  # rounded to 8 bits
    assert 0.16 < is_clean.float().mean() < 0.28  # beside the clean share, few images escape every step
