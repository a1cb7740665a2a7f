"""`basicsr test` with weights in the official layout and official arguments gives spandrel's images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from fill import fill
from spandrel import ModelLoader

from rgt_arch import rgt_s


def test_official_weights_give_spandrels_images(project: Any, basicsr_command: Callable[..., str]) -> None:
    weights = project.root / "RGT_S_x2.pth"
    torch.save({"params": fill(rgt_s(2, depth=[2], num_heads=[6])).state_dict()}, weights)
    arguments = {"depth": [2], "num_heads": [6], "embed_dim": 180, "mlp_ratio": 2, "split_size": [8, 32]}
    network = {"type": "RGT", "upscale": 2, "upsampler": "pixelshuffle", "img_size": 64, "c_ratio": 0.5, **arguments}
    project.options.update(
        model_type="RGTModel", num_gpu=0, network_g=network, datasets={"test": project.options["datasets"]["val"]}
    )
    project.options["path"] = {"pretrain_network_g": str(weights), "strict_load_g": True}
    project.options["val"]["save_img"] = True
    basicsr_command(command="test")
    theirs = ModelLoader().load_from_file(weights).model.eval()
    for path in sorted((project.root / "val/lr").glob("*.png")):
        image = torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            expected = theirs(image)[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy()[..., ::-1]
        ours = cv2.imread(str(project.root / f"results/tiny/visualization/held_out/{path.stem}_tiny.png"))
        # rounding to 8 bits can fall either way
        np.testing.assert_allclose(ours.astype(int), expected.astype(int), atol=1, err_msg=str(path))
        assert (ours != expected).mean() < 2e-3, path
