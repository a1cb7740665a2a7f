"""bfloat16 inside the network: float32 input and output, and hardly any loss."""

import json
import math
from pathlib import Path

import pytest
import torch
from fill import fill, golden_input
from torch import Tensor

from rgt_arch import RGT, load_model
from rgt_arch.weights.zoo import BUNDLED, SUMS

CASES = json.loads((Path(__file__).parents[1] / "data" / "golden" / "index.json").read_text())
LEAST_AUTOCAST, LEAST_WHOLE = 55.0, 54.0  # dB


def psnr(output: Tensor, reference: Tensor) -> float:
    error = output.double() - reference.double()
    return 20 * math.log10((reference.max() - reference.min()).item()) - 10 * math.log10(error.square().mean().item())


def check(net: RGT) -> None:
    image = golden_input(1, net.in_chans, 32, 40).float()
    with torch.inference_mode():
        expected = net(image)
        with torch.autocast("cpu", torch.bfloat16):
            inside = net(image)
        whole = net.bfloat16()(image.bfloat16())
    assert inside.dtype == torch.float32
    assert whole.dtype == torch.bfloat16
    assert LEAST_AUTOCAST <= psnr(inside, expected) < 90, "bfloat16 was on, and lost little"
    assert psnr(whole, expected) >= LEAST_WHOLE


# RGT-S takes a minute and tests nothing that smaller networks do not
@pytest.mark.parametrize("case", [case for case in CASES if case != "RGT_S_x4"])
def test_bfloat16_keeps_the_output_of_strong_weights(case: str) -> None:
    check(fill(RGT(**CASES[case]["config"])).eval())


@pytest.mark.parametrize("name", ["RGT_T_x2", "RGT_T_x3", "RGT_T_x4"])
def test_bfloat16_keeps_the_output_of_trained_weights(name: str) -> None:
    if not ((BUNDLED / f"{name}.safetensors").is_file() and (BUNDLED / SUMS).is_file()):
        pytest.skip(f"the package holds no {name}")
    check(load_model(name).eval())
