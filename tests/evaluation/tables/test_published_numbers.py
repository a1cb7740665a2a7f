"""On the real images, `rgt table` reproduces the bicubic rows of the literature and the paper's RCAN row."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.metrics import calculate_psnr
from basicsr.utils.color_util import bgr2ycbcr

from rgt_arch.data.bicubic import crop_to_multiple, imresize
from rgt_arch.evaluation.tables.measuring import TableSettings, make_table
from rgt_arch.evaluation.tables.results import SCALES

pytestmark = pytest.mark.skipif("RGT_DATA" not in os.environ, reason="RGT_DATA names no folder of benchmark images")
DATA = Path(os.environ.get("RGT_DATA", ""))


def differences(keep: Path, method: str, *sets: str) -> dict[tuple[int, str], tuple[float, float]]:
    settings = TableSettings([method], SCALES, sets, DATA / "benchmark", device="cpu", keep=keep)
    results = make_table(settings).results
    return {(r.scale, r.benchmark): tuple(r.difference.values()) for r in results}


def test_bicubic_rows_equal_the_literature(tmp_path):
    found = differences(tmp_path, "bicubic", "Set5", "Set14")
    assert len(found) == 6
    for where, (psnr, ssim) in found.items():
        assert abs(psnr) < 0.02, where
        assert abs(ssim) < 0.001, where


def test_published_rcan_images_give_the_papers_row(tmp_path):
    found = differences(tmp_path, f"RCAN={DATA / 'published/RCAN_Set5_SR'}", "Set5")
    assert len(found) == 3
    for where, (psnr, ssim) in found.items():
        assert abs(psnr) < 0.0051, where  # equal after rounding
        assert abs(ssim) < 0.000051, where


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_bicubic_of_single_images_equals_the_published_table(name, scale):
    """Convention of that table: edges replicated for LR, Y rounded to 8 bits, grey images measured on grey."""
    tables = json.loads((DATA / "published/selfexsr_tables.json").read_text())
    rows = tables["tables"][f"{name}_SRF_{scale}"]["PSNR"]
    column, border = tables["methods"].index("Bicubic"), 8
    for stem, row in zip(tables["names"][name], rows, strict=True):
        hr = crop_to_multiple(cv2.imread(str(DATA / f"benchmark/{name}/HR/{stem}.png"), cv2.IMREAD_UNCHANGED), scale)
        around = [(border * scale, border * scale)] * 2 + [(0, 0)] * (hr.ndim - 2)
        lr = imresize(np.pad(hr, around, mode="edge"), 1 / scale)[border:-border, border:-border]
        pair = [_luma(image)[..., None] for image in (imresize(lr, scale), hr)]
        assert calculate_psnr(*pair, crop_border=scale) == pytest.approx(row[column], abs=0.001), stem


def _luma(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2:
        return image
    return np.floor(bgr2ycbcr(image.astype(np.float32) / 255, y_only=True) * 255 + 0.5)
