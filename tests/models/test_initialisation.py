"""`train.init: interpolation`: the network starts as linear interpolation and trains all parameters."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from rgt_arch.archs import rgt_arch
from rgt_arch.errors import UsageError
from rgt_arch.models.initialisation import start_from_interpolation

from .conftest import CONV, RGT


def fresh(**changes) -> rgt_arch.RGT:
    return rgt_arch.RGT(**({key: value for key, value in RGT.items() if key != "type"} | changes))


def linear(image: torch.Tensor, scale: int) -> torch.Tensor:
    steps = {2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}[scale]
    for step in steps:
        image = F.interpolate(image, scale_factor=step, mode="bilinear", align_corners=False)
    return image


@pytest.mark.parametrize("connection", ["1conv", "3conv"])
def test_initial_output_is_linear_interpolation(connection):
    for changes in ({"upscale": 2}, {"upscale": 3}, {"upscale": 8}, {"in_chans": 1, "img_range": 255.0}):
        network = fresh(**changes, resi_connection=connection).double().eval()
        start_from_interpolation(network)
        image = torch.rand(2, network.conv_last.out_channels, 12, 17, dtype=torch.float64)
        with torch.no_grad():
            output = network(image)
        inner = (..., slice(20, -20), slice(20, -20))  # zero padding changes pixels near the border
        assert output.isfinite().all()
        expected = linear(image, network.upscale)[inner]
        torch.testing.assert_close(output[inner], expected, rtol=0, atol=1e-9, msg=str(changes))


def test_every_parameter_learns():
    network = fresh().train()
    start_from_interpolation(network)
    before = {name: param.detach().clone() for name, param in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    image, target = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 32, 32)
    for _ in range(3):  # gradients pass a zero weight only from the second step on
        optimizer.zero_grad()
        (network(image) - target).abs().mean().backward()
        optimizer.step()
    still = [name for name, param in network.named_parameters() if torch.equal(param, before[name])]
    assert still == []


def test_model_and_ema_start_from_interpolation(build, batch):
    model = build(RGT, train={"init": "interpolation", "ema_decay": 0.9})
    data = batch(2)
    for network in (model.net_g, model.net_g_ema):
        with torch.no_grad():
            output = network.eval()(data["lq"])
        inner = (..., slice(4, -4), slice(4, -4))
        torch.testing.assert_close(output[inner], linear(data["lq"], 2)[inner], rtol=0, atol=1e-5)


@pytest.mark.parametrize("init", ["interpolation", None])
def test_x4_network_started_from_x2_weights_interpolates_their_output(build, options, init, tmp_path):
    small = build(RGT, train={"init": "interpolation"})
    torch.nn.init.normal_(small.net_g.conv_after_body.weight, std=0.01)  # simulates trained weights
    small.save_network(small.net_g, "net_g", 7)
    path = {**options()["path"], "pretrain_network_g": str(tmp_path / "models/net_g_7.pth"), "strict_load_g": False}
    large = build({**RGT, "upscale": 4}, path=path, train={"init": init})
    lq = F.interpolate(torch.rand(1, 3, 4, 4), size=(32, 32), mode="bicubic")
    with torch.no_grad():
        twice, four_times = small.net_g.eval()(lq), large.net_g.eval()(lq)
    # only close: in the ×4 network, conv_last comes after the interpolation
    error = F.mse_loss(four_times, linear(twice, 2)) / twice.var()
    assert (error < 0.05) == (init is not None)


def test_other_networks_are_refused_and_test_mode_ignores_init(build):
    with pytest.raises(UsageError, match=r"train\.init: interpolation is for RGT, and network_g is MSRResNet"):
        build(CONV, train={"init": "interpolation"})
    weights = build(RGT, is_train=False).net_g.state_dict()
    again = build(RGT, is_train=False, train={"init": "interpolation"}).net_g.state_dict()
    for name, value in weights.items():
        assert torch.equal(value, again[name])
