"""`rgt figure features`: drawn blocks, networks without some parts, and wrong inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from rgt_arch import RGT
from rgt_arch.weights.writing import save_checkpoint


@pytest.mark.parametrize(
    ("arguments", "blocks"),
    [([], ("2.1", "2.2")), (["--block", "1.1"], ("1.1", "1.2")), (["--block", "1.3", "--head", "3"], ("1.3", None))],
)
def test_a_block_and_its_neighbour_of_the_other_kind_are_drawn(figure, photograph, weights, arguments, blocks):
    said = figure("features", photograph, "-w", weights, "--query", "3,5", *arguments)
    assert said.count(f"L-SA in block {blocks[0]}, window 4×8") == 1
    assert said.count(f"L-SA in block {blocks[0]}, window 8×4") == 1
    assert said.count("RG-SA in block") == (blocks[1] is not None)
    assert f"RG-SA in block {blocks[1]} over 3×4" in said or blocks[1] is None
    with Image.open("features.png") as image:
        assert image.width / image.info["dpi"][0] * 2.54 == pytest.approx(8.5, abs=0.01)
        assert np.asarray(image.convert("L")).std() > 10


def test_hai_needs_no_image_and_missing_parts_are_reported(figure, photograph, weights, tmp_path):
    assert "written" in figure("features", "--parts", "hai", "-w", weights, "-o", "hai.pdf")
    torch.manual_seed(0)
    plain = RGT(upscale=2, depth=[2], num_heads=[6], embed_dim=96, split_size=[4, 8], hai="none", global_blocks="none")
    save_checkpoint(tmp_path / "plain.safetensors", plain)
    said = figure("features", photograph, "-w", "plain.safetensors", "-o", "plain.png")
    assert "HAI: the network has no learned values (hai: none)" in said
    assert "the network has no RG-SA" in said
    assert "no learned values" in figure("features", "--parts", "hai", "-w", "plain.safetensors", "-o", "x.png", code=2)


def test_wrong_inputs_are_named_in_one_line(figure, photograph, weights):
    for arguments, message in [
        (["face.png", "--query", "72,0"], "--query 72,0: does not lie in face.png, which has 72×60 pixels"),
        (["face.png", "--block", "2.3"], "--block 2.3: net.pth has the blocks 1.1, 1.2, 1.3, 2.1, 2.2"),
        (["face.png", "--head", "4"], "--head 4: the blocks have heads 1 to 3"),
        ([], "an image is needed"),
        (["face.png", "-o", "net.pth"], "the suffix selects the format"),
    ]:
        said = figure("features", *arguments, "-w", "net.pth", code=2)
        assert message in said
        assert said.count("\n") == 1
