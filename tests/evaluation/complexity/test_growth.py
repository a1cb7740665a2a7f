"""`rgt complexity --growth`: global attention is what it says, jumps are where the recursion rule has them."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from torch import nn

from rgt_arch.archs.rgt_arch import explicit_attention
from rgt_arch.cli import main
from rgt_arch.evaluation.complexity import layers
from rgt_arch.evaluation.complexity.layers import GLOBAL, GlobalAttention, global_products
from rgt_arch.evaluation.speed.arithmetic import counting
from rgt_arch.evaluation.speed.settings import Size

OPTIONS = """network_g: {type: RGT, upscale: 2, embed_dim: 96, depth: [2], num_heads: [6], split_size: [4, 8],
            mlp_ratio: 1%s}
"""


@pytest.fixture
def small(tmp_path):
    file = tmp_path / "small.yml"
    file.write_text(OPTIONS % "")
    return str(file)


@pytest.mark.parametrize("dim", [96, 60], ids=["wide as fused kernels want", "widened"])
def test_global_attention_is_multi_head_attention(dim):
    torch.manual_seed(0)
    layer, reference = GlobalAttention(dim, 6), nn.MultiheadAttention(dim, 6, batch_first=True)
    reference.load_state_dict(
        {
            "in_proj_weight": layer.qkv.weight,
            "in_proj_bias": layer.qkv.bias,
            "out_proj.weight": layer.proj.weight,
            "out_proj.bias": layer.proj.bias,
        }
    )
    x = torch.randn(1, 5, 7, dim)
    tokens = x.reshape(1, 35, dim)
    wanted = tokens + reference(tokens, tokens, tokens)[0]
    torch.testing.assert_close(layer(x).reshape(1, 35, dim), wanted, rtol=1e-5, atol=1e-5)


def test_its_multiply_adds_are_counted_right():
    with torch.device("meta"), explicit_attention(), counting() as counter:
        GlobalAttention(96, 6)(torch.empty(1, 12, 20, 96))
    assert 2 * global_products(96, Size(12, 20)) == counter.get_total_flops()


def test_jump_of_the_official_rule_is_told_and_drawn(small, tmp_path, capsys):
    plot = tmp_path / "growth.png"
    sizes = ["1024x1024", "256x256", "512x512", "1023x1023"]
    assert main(["complexity", small, "--growth", "--sizes", *sizes, "--plot", str(plot), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    rows = report["rows"]
    assert [(row["height"], row["recursion_depth"], row["representative_map"]) for row in rows] == [
        (256, 2, [16, 16]),
        (512, 2, [32, 32]),
        (1023, 2, [63, 63]),
        (1024, 3, [16, 16]),
    ]
    a_pixel = [{name: count / row["height"] ** 2 for name, count in row["multiply_adds"].items()} for row in rows]
    assert a_pixel[3]["RG-SA"] == pytest.approx(a_pixel[0]["RG-SA"], rel=1e-3)
    assert a_pixel[2]["RG-SA"] > 5 * a_pixel[3]["RG-SA"]
    assert a_pixel[0]["L-SA"] == pytest.approx(a_pixel[3]["L-SA"], rel=1e-3)
    assert report["growth"]["L-SA"]["exponent"] == pytest.approx(1, abs=0.01)
    assert report["growth"][GLOBAL]["exponent"] == pytest.approx(2, abs=0.01)
    with Image.open(plot) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(picture.width * picture.height)}
    for style in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)):
        assert style in colours


def test_measured_are_those_that_fit_into_the_limit(small, monkeypatch, capsys):
    monkeypatch.setattr(layers, "seconds", lambda work, device: 1.0)
    arguments = ["complexity", small, "--growth", "--sizes", "16x16", "32x32", "--measure", "--limit", "8"]
    assert main([*arguments, "--device", "cpu", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["rows"]
    assert set(first["seconds"]) == {GLOBAL, "L-SA", "RG-SA"}
    # 4 times the pixels: up to 16 times the work of global attention
    factors = {name: second["multiply_adds"][name] / first["multiply_adds"][name] for name in first["seconds"]}
    assert set(second["seconds"]) == {name for name, factor in factors.items() if factor <= 8} != set(factors)


def test_layers_are_measured(small, capsys):
    assert main(["complexity", small, "--growth", "--sizes", "16x16", "16x24", "--measure", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "measured time grows with pixels^" in out


@pytest.mark.parametrize("left_out", ["embed_dim: 96, ", "depth: [2], num_heads: [6], "])
def test_arguments_that_are_left_out_have_their_defaults(left_out, tmp_path, capsys):
    file = tmp_path / "short.yml"
    file.write_text((OPTIONS % "").replace(left_out, ""))
    arguments = ["--growth", "--sizes", "16x16", "16x24", "--measure", "--device", "cpu"]
    assert main(["complexity", str(file), *arguments]) == 0
    assert "180 channels" in capsys.readouterr().out or "depth" in left_out


def test_network_without_rg_sa_is_refused(tmp_path, capsys):
    file = tmp_path / "none.yml"
    file.write_text(OPTIONS % ", global_blocks: none")
    assert main(["complexity", str(file), "--growth"]) == 2
    assert "has no RG-SA" in capsys.readouterr().err
