"""Entries of a saved network, and which files load."""

import copy

import pytest
import torch
from fill import fill
from spandrel import ModelLoader

from rgt_arch import RGT, rgt, rgt_s

SMALL = {"upscale": 2, "embed_dim": 96, "depth": [4, 2], "num_heads": [6, 6], "split_size": (8, 16), "mlp_ratio": 2.0}


def test_derived_entries_are_not_buffers_and_share_storage_between_blocks() -> None:
    net = RGT(**SMALL)
    assert not list(net.buffers())
    state = net.state_dict()
    index = [value for key, value in state.items() if key.endswith("attns.0.relative_position_index")]
    assert len(index) == 3
    assert len({value.untyped_storage().data_ptr() for value in index}) == 1


def test_spandrel_loads_a_saved_network_and_gives_the_same_output() -> None:
    net = fill(RGT(**SMALL)).eval()
    other = ModelLoader().load_from_state_dict(net.state_dict()).model.eval()
    image = torch.rand(1, 3, 20, 36)
    with torch.no_grad():
        torch.testing.assert_close(net(image), other(image), rtol=0, atol=1e-4)


@pytest.mark.parametrize("derived", ["official", "without", "wrong_masks"])
def test_files_load_strictly_with_and_without_derived_entries(derived: str) -> None:
    state = fill(RGT(**SMALL)).state_dict()
    if derived == "without":
        names = ("attn_mask_0", "attn_mask_1", "rpe_biases", "relative_position_index")
        state = {key: value for key, value in state.items() if not key.endswith(names)}
    if derived == "wrong_masks":  # the masks are for 64×64 and never used; other implementations save different ones
        state = {key: value[:1] if "attn_mask" in key else value for key, value in state.items()}
    keys = set(state)
    net = RGT(**SMALL)
    result = net.load_state_dict(state)
    assert not result.missing_keys
    assert not result.unexpected_keys
    assert set(state) == keys, "the caller's dict was changed"
    assert torch.equal(net.conv_last.weight, state["conv_last.weight"])


def test_file_for_other_windows_is_refused() -> None:
    state = RGT(**SMALL).state_dict()
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=r"other windows than 16×8; check split_size"):
            RGT(**(SMALL | {"split_size": (16, 8)})).load_state_dict(state, strict=strict)


def test_x4_network_loads_x2_weights_and_a_deepcopy_has_its_own() -> None:
    net = RGT(**SMALL)
    result = RGT(**(SMALL | {"upscale": 4})).load_state_dict(net.state_dict(), strict=False)
    assert result.missing_keys == ["upsample.2.weight", "upsample.2.bias"]
    twin = copy.deepcopy(net)
    with torch.no_grad():
        twin.conv_last.weight.add_(1)
    assert not torch.equal(net.state_dict()["conv_last.weight"], twin.state_dict()["conv_last.weight"])
    net.load_state_dict(twin.state_dict())
    assert torch.equal(net.conv_last.weight, twin.conv_last.weight)


def test_parameter_counts_equal_the_published_networks() -> None:
    """paper_tables.json, exact_params; the paper prints them in millions."""
    for preset, counts in ((rgt_s, (10051055, 10235695, 10198767)), (rgt, (13217831, 13402471, 13365543))):
        for scale, parameters in zip((2, 3, 4), counts, strict=True):
            with torch.device("meta"):
                net = preset(upscale=scale)
            assert sum(p.numel() for p in net.parameters()) == parameters
