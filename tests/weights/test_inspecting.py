"""Constructor arguments inferred from a state dict equal those of its network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rgt_arch import RGT
from rgt_arch.archs import rgt_arch as arch
from rgt_arch.errors import UsageError
from rgt_arch.weights.inspecting import PUBLISHED, assumed_arguments, infer_config, is_derived, preset_name

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def shapes_of(network: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> dict[str, Tensor]:
    """A cheap state dict: parameters on the meta device, derived tensors of one branch only."""
    with torch.device("meta"):
        built = network(*args, **kwargs)
    branch = "layers.0.blocks.0.attn.attns.0"
    derived = built.get_submodule(branch).state_dict(prefix=f"{branch}.")
    return {**dict(built.named_parameters()), **derived}


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    groups = draw(st.integers(1, 3))
    embed_dim = draw(st.sampled_from([60, 96, 180]))
    global_blocks = draw(st.sampled_from(["rg_sa", "none"]))
    return {
        "upscale": draw(st.sampled_from([1, 2, 3, 4, 8, 16])),
        "in_chans": draw(st.sampled_from([1, 3, 4])),
        "depth": draw(st.lists(st.integers(1, 4), min_size=groups, max_size=groups)),
        "embed_dim": embed_dim,
        "num_heads": draw(st.lists(st.sampled_from([2, 6]), min_size=groups, max_size=groups)),
        "mlp_ratio": draw(st.sampled_from([1.0, 2.0, 2.5, 4.0])),
        "qkv_bias": draw(st.booleans()),
        "resi_connection": draw(st.sampled_from(["1conv", "3conv"])),
        "split_size": draw(st.sampled_from([[8, 8], [8, 32], [32, 8], [4, 16], [3, 6], [16, 2]])),
        "c_ratio": draw(st.sampled_from([0.4, 0.5, 1.0] if embed_dim != 96 else [0.25, 0.5])),
        "hai": draw(st.sampled_from(["learned", "identity", "none"])),
        "global_blocks": global_blocks,
        "reduction_stride": draw(st.sampled_from([2, 4, 8])),
        "cpe": draw(st.booleans()),
    }


@settings(max_examples=25, deadline=None, derandomize=True)
@given(configs())
def test_every_argument_is_inferred_from_the_state_dict(config: dict[str, Any]) -> None:
    recorded = {} if config["hai"] == "learned" else {"hai": config["hai"]}
    state_dict = shapes_of(RGT, **config)
    inferred = infer_config(state_dict, recorded)
    assert shapes_of(RGT, **inferred).keys() == state_dict.keys()
    if max(config["depth"]) == 1 or config["global_blocks"] == "none":  # no RG-SA block to infer these from
        config |= {name: PUBLISHED[name] for name in ("c_ratio", "reduction_stride", "cpe")}
    if max(config["depth"]) == 1:
        config["global_blocks"] = "rg_sa"
    assert {name: inferred[name] for name in config} == config


@pytest.mark.parametrize(
    "case", json.loads((GOLDEN / "index.json").read_text()).values(), ids=lambda c: str(c["params"])
)
def test_official_configurations_are_inferred(case: dict[str, Any]) -> None:
    known = {name: value for name, value in case["config"].items() if name != "img_range"}
    inferred = infer_config(shapes_of(RGT, **case["config"]))
    assert {name: inferred[name] for name in known} == known


def test_published_file_is_recognised_as_rgt_s_by_its_keys_alone() -> None:
    listing = json.loads((GOLDEN / "official_state_dict_RGT_S_x4.json").read_text())
    weights = {key: torch.empty(shape, device="meta") for key, (shape, _) in listing.items() if not is_derived(key)}
    config = infer_config(weights)
    assert preset_name(config) == "RGT-S"
    assert config["upscale"] == 4
    assert "split_size" in assumed_arguments(weights)
    assert assumed_arguments(weights, {"split_size": [8, 32]}) == assumed_arguments(shapes_of(arch.rgt_s))


def test_presets_are_named_and_near_misses_are_not() -> None:
    assert set(arch.PRESETS) == {"RGT", "RGT-S", "RGT-T"}
    for preset, name in ((arch.rgt, "RGT"), (arch.rgt_s, "RGT-S"), (arch.rgt_t, "RGT-T")):
        assert preset_name(infer_config(shapes_of(preset, 3))) == name
        assert preset_name(infer_config(shapes_of(preset, 2), {"img_range": 255.0})) is None
    assert preset_name(infer_config(shapes_of(arch.rgt_t, 2, split_size=(8, 8)))) is None


def test_windows_are_inferred_from_half_precision_tensors() -> None:
    for window in ([8, 32], [32, 8], [3, 6], [16, 16], [1, 4]):
        state_dict = shapes_of(RGT, embed_dim=96, depth=[1], num_heads=[6], split_size=window)
        for dtype in (torch.float16, torch.bfloat16):
            halved = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state_dict.items()}
            assert infer_config(halved)["split_size"] == window


def test_record_gives_arguments_not_visible_in_tensors() -> None:
    recorded = {"img_range": 255.0, "qk_scale": 0.3, "recursion": 3, "drop_path_rate": 0.2}
    slim = {key: tensor for key, tensor in shapes_of(arch.rgt_t).items() if not is_derived(key)}
    config = infer_config(slim, {**recorded, "split_size": (8, 16)})
    assert {name: config[name] for name in recorded} == recorded
    assert config["split_size"] == [8, 16]
    assert json.loads(json.dumps(config)) == config
    rounded = shapes_of(RGT, embed_dim=60, depth=[2], num_heads=[2], c_ratio=0.44)  # int(26.4) channels
    assert infer_config(rounded)["c_ratio"] == pytest.approx(26 / 60)
    assert infer_config(rounded, {"c_ratio": 0.44})["c_ratio"] == 0.44


@pytest.mark.parametrize(
    ("recorded", "words"),
    [
        ({"embed_dim": 180}, "embed_dim is given or recorded as 180, but the weights have 96"),
        ({"hai": "none"}, "hai is given or recorded as 'none', but the weights have 'learned'"),
        ({"split_size": [8, 32]}, r"split_size is given or recorded as \[8, 32\], but the weights have \[8, 16\]"),
        ({"img_range": "255"}, "img_range must be a finite number, not '255'"),
        ({"img_range": float("inf")}, "img_range must be a finite number"),
        ({"qk_scale": "abc"}, "qk_scale must be a finite number, not 'abc'"),
        ({"qk_scale": float("nan")}, "qk_scale must be a finite number"),
    ],
)
def test_record_that_contradicts_the_weights_is_refused(recorded: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        infer_config(shapes_of(arch.rgt_t), recorded)


@pytest.mark.filterwarnings("ignore")  # old torch calls and zero-width layers of the tiny foreign networks
def test_other_architectures_are_named() -> None:
    from basicsr.archs import discriminator_arch, edsr_arch, rrdbnet_arch, srvgg_arch, swinir_arch
    from spandrel.architectures.DAT import DAT
    from spandrel.architectures.HAT import HAT

    others: list[tuple[str, nn.Module]] = [
        ("SwinIR", swinir_arch.SwinIR(embed_dim=12, depths=[1], num_heads=[2])),
        ("HAT", HAT(embed_dim=12, depths=[1], num_heads=[2])),
        ("DAT", DAT(embed_dim=12, depth=[2], num_heads=[2], split_size=[2, 4])),
        ("RRDBNet", rrdbnet_arch.RRDBNet(3, 3, num_feat=8, num_block=1)),
        ("EDSR", edsr_arch.EDSR(3, 3, num_feat=8, num_block=1)),
        ("SRVGGNet", srvgg_arch.SRVGGNetCompact(num_feat=8, num_conv=1)),
        ("discriminator", discriminator_arch.VGGStyleDiscriminator(3, 8)),
        ("discriminator", discriminator_arch.UNetDiscriminatorSN(3, 8)),
    ]
    for name, network in others:
        with pytest.raises(UsageError, match=f"not an RGT's: they look like a? ?{name}"):
            infer_config(network.state_dict())
    with pytest.raises(UsageError, match=r"not an RGT's: conv_first\.weight is missing"):
        infer_config({"weight": torch.ones(1)})
