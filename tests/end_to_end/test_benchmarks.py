"""`basicsr test` on Set5: published images give the paper's numbers, and an official RGT-S file spandrel's pictures."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from fill import fill
from spandrel import ModelLoader

from rgt_arch import rgt_s

pytestmark = pytest.mark.skipif("RGT_DATA" not in os.environ, reason="RGT_DATA names no folder of benchmark images")
DATA = Path(os.environ.get("RGT_DATA", ""))

# A network that hands on what others have super-resolved, so that BasicSR's own pipeline measures it.
IDENTITY = """
from basicsr.utils.registry import ARCH_REGISTRY
from torch.nn import Identity
@ARCH_REGISTRY.register()
class AsItIs(Identity):
    pass
"""


def options(scale: int, lq: Path, template: str, network: dict[str, Any]) -> dict[str, Any]:
    metric = {"crop_border": scale, "test_y_channel": True}
    return {
        "name": "measured",
        "model_type": "RGTModel",
        "scale": scale,
        "num_gpu": 0,
        "datasets": {
            "test": {
                "name": "Set5",
                "type": "PairedImageDataset",
                "dataroot_gt": str(DATA / "benchmark/Set5/HR"),
                "dataroot_lq": str(lq),
                "filename_tmpl": template,
                "io_backend": {"type": "disk"},
            }
        },
        "network_g": network,
        "path": {"pretrain_network_g": None},
        "val": {
            "save_img": True,
            "metrics": {"psnr": {"type": "calculate_psnr", **metric}, "ssim": {"type": "calculate_ssim", **metric}},
        },
    }


def measured(project: Any, opt: dict[str, Any], *flags: str) -> tuple[float, float]:
    """PSNR and SSIM that `basicsr test` prints."""
    (project.root / "test.yml").write_text(yaml.safe_dump(opt))
    run = project.start("basicsr", "test", "-opt", "test.yml", *flags, OMP_NUM_THREADS="2")
    assert run.returncode == 0, run.stdout[-3000:]
    found = re.search(r"# psnr: (\S+)\s+Best.*\n.*# ssim: (\S+)", run.stdout)
    assert found, run.stdout[-3000:]
    return float(found[1]), float(found[2])


@pytest.mark.parametrize(("scale", "psnr", "ssim"), [(2, 38.27, 0.9614), (3, 34.74, 0.9299), (4, 32.63, 0.9002)])
def test_published_rcan_images_give_the_papers_numbers(project: Any, scale: int, psnr: float, ssim: float) -> None:
    (project.root / "as_it_is.py").write_text(IDENTITY)
    published = DATA / f"published/RCAN_Set5_SR/Set5/x{scale}"
    opt = options(1, published, f"{{}}_RCAN_x{scale}", {"type": "AsItIs"})
    opt["datasets"]["test"]["dataroot_gt"] = str(project.root / "HR")
    (project.root / "HR").mkdir()
    for path in (DATA / "benchmark/Set5/HR").glob("*.png"):  # cut to the multiple of the scale that was super-resolved
        height, width = cv2.imread(str(published / f"{path.stem}_RCAN_x{scale}.png")).shape[:2]
        assert cv2.imwrite(str(project.root / "HR" / path.name), cv2.imread(str(path))[:height, :width])
    for metric in opt["val"]["metrics"].values():
        metric["crop_border"] = scale
    got = measured(project, opt, "--import", "as_it_is")
    assert got[0] == pytest.approx(psnr, abs=0.01)
    assert got[1] == pytest.approx(ssim, abs=0.0002)


def test_official_rgt_s_file_gives_spandrels_pictures_whole_and_close_ones_tiled(project: Any) -> None:
    weights = project.root / "RGT_S_x4.pth"
    torch.save({"params": fill(rgt_s(upscale=4)).state_dict()}, weights)
    arguments = {"depth": [6] * 6, "num_heads": [6] * 6, "embed_dim": 180, "mlp_ratio": 2, "split_size": [8, 32]}
    network = {"type": "RGT", "upscale": 4, "upsampler": "pixelshuffle", "img_size": 64, "c_ratio": 0.5, **arguments}
    lq = DATA / "benchmark/Set5/LR_bicubic/X4"
    opt = options(4, lq, "{}x4", network)
    opt["path"] = {"pretrain_network_g": str(weights), "strict_load_g": True}
    whole = measured(project, opt)
    theirs = ModelLoader().load_from_file(weights).model.eval()
    for path in sorted(lq.glob("*.png")):
        image = torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            expected = theirs(image)[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy()[..., ::-1]
        ours = cv2.imread(str(project.root / f"results/measured/visualization/Set5/{path.stem}_measured.png"))
        difference = np.abs(ours.astype(int) - expected.astype(int))
        # rounding to 8 bits can fall either way
        assert difference.max() <= 1, path
        assert (difference > 0).mean() < 1e-3, path
    opt["val"]["tile"] = {"size": 64, "overlap": 16}
    opt["name"] = "tiled"
    tiled = measured(project, opt)
    assert tiled != whole  # baby has 128 pixels
    assert tiled[0] == pytest.approx(whole[0], abs=1.0)
