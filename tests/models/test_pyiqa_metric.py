"""Metrics of pyiqa in `val: metrics`: pyiqa's own values, weights without code, and one line where they are missing."""

from __future__ import annotations

import random
import urllib.error
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric

from rgt_arch.errors import UserError
from rgt_arch.models import pyiqa_metric

from ..conftest import MakesFolder

pyiqa = pytest.importorskip("pyiqa", reason="needs pyiqa: pip install 'rgt-arch[metrics]'", exc_type=ImportError)


def images(height: int = 190, width: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image and its original, in BGR; ms_ssim needs 161 pixels."""
    draw = np.random.default_rng(3)
    clean = np.kron(draw.integers(0, 256, (height // 10, width // 10, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    return np.clip(clean + draw.normal(0, 12, clean.shape), 0, 255).astype(np.uint8), clean


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image[..., ::-1].transpose(2, 0, 1)[None] / np.float32(255))


def measured(metric: str, **section: Any) -> float:
    noisy, clean = images()
    return calculate_metric({"img": noisy, "img2": clean}, {"type": "pyiqa", "metric": metric, **section})


@pytest.mark.parametrize("metric", ["gmsd", "ms_ssim", "vif", "entropy"])
def test_values_are_those_of_pyiqa_on_rgb_without_the_border(metric: str) -> None:
    network = pyiqa.create_metric(metric, device="cpu")
    for border in (0, 4):
        pair = [tensor(image[border : 190 - border, border : 200 - border]) for image in images()]
        wanted = float(network(*pair[: 2 if network.metric_mode == "FR" else 1]))
        assert measured(metric, crop_border=border, better="higher") == pytest.approx(wanted, rel=1e-6)


def test_grey_images_are_measured_as_three_equal_channels() -> None:
    grey = [image[..., 0] for image in images()]
    values = [
        calculate_metric(dict(zip(("img", "img2"), pair, strict=True)), {"type": "pyiqa", "metric": "gmsd"})
        for pair in (grey, [np.repeat(image[..., None], 3, axis=2) for image in grey])
    ]
    assert values[0] == values[1]


def test_weights_come_from_a_file_that_runs_no_code_and_the_callers_random_numbers_stay(tmp_path: Path) -> None:
    from pyiqa.archs.cnniqa_arch import CNNIQA

    network, file = CNNIQA(pretrained=None).eval(), tmp_path / "cnniqa.pth"
    torch.save({"params": network.state_dict()}, file)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    value = measured("cnniqa", options={"pretrained_model_path": str(file)})
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    with torch.no_grad():
        assert value == pytest.approx(float(network(tensor(images()[0]))), rel=1e-5)
    other = tmp_path / "other.pth"
    torch.save({"params": MakesFolder(tmp_path / "executed")}, other)
    with pytest.raises(UserError, match=r"pyiqa's metric cnniqa: .*other\.pth: is damaged or holds more than tensors"):
        measured("cnniqa", options={"pretrained_model_path": str(other)})
    assert not (tmp_path / "executed").exists()


def test_metrics_join_a_validation_and_need_gt_only_if_they_compare(build, loader, log) -> None:
    metrics = {name: {"type": "pyiqa", "metric": name} for name in ("gmsd", "entropy")}
    model = build(val={"metrics": metrics})
    model.validation(loader(2), 3, None)
    assert {"gmsd", "entropy"} <= model.metric_results.keys()
    model.validation(loader(2, gt=False, name="Single"), 3, None)
    assert "entropy" in model.metric_results
    assert "gmsd" not in model.metric_results
    assert any("Single: gmsd left out, because there are images without GT" in line for line in log)


def test_missing_network_ends_a_validation_in_one_line_with_the_place_for_the_file(
    build, loader, monkeypatch, tmp_path
) -> None:
    refused = urllib.error.URLError(OSError(-2, "Name or service not known"))
    monkeypatch.setattr("torch.hub.urlopen", Mock(side_effect=refused))
    monkeypatch.setattr("pyiqa.utils.download_util.DEFAULT_CACHE_DIR", str(tmp_path / "pyiqa"))
    pyiqa_metric._load.cache_clear()
    model = build(val={"metrics": {"quality": {"type": "pyiqa", "metric": "cnniqa"}}})
    with pytest.raises(UserError) as caught:
        model.validation(loader(2), 3, None)
    text = str(caught.value)
    assert text.startswith("pyiqa's metric cnniqa: https://")
    assert "the download failed ([Errno -2] Name or service not known); download it by hand and save it as " in text
    assert str(tmp_path / "pyiqa/CNNIQA_koniq10k-e6f14c91.pth") in text
    assert "\n" not in text
