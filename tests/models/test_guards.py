"""Steps that are not finite are left out, named and counted; they end a run only where they go on."""

from __future__ import annotations

import pytest
import torch
from torch.utils._pytree import tree_flatten

from rgt_arch.errors import UserError


def step(model, data, iteration):
    model.update_learning_rate(iteration)
    model.feed_data(data)
    model.optimize_parameters(iteration)


@pytest.fixture
def bad(batch):
    data = batch(2)
    data["gt"][0, 0, 0, 0] = float("nan")
    return {**data, "lq_path": ["LR/first.png", "LR/second.png"]}


def everything(model):
    kept = [model.net_g.state_dict(), model.net_g_ema.state_dict(), model.optimizer_g.state_dict()["state"]]
    return [leaf.clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in tree_flatten(kept)[0]]


def test_a_bad_step_is_left_out_and_named_and_training_goes_on(build, batch, bad, log):
    model = build(train={"ema_decay": 0.5})
    step(model, batch(2), 1)
    before = everything(model)
    step(model, bad, 2)
    for old, new in zip(before, everything(model), strict=True):
        assert torch.equal(old, new) if isinstance(old, torch.Tensor) else old == new
    assert log[-1] == (
        "iteration 2: the loss l_pix is nan on LR/first.png, LR/second.png; the step is left out "
        "(1 in a row; at 10 the run ends)"
    )
    assert model.iteration == 2
    step(model, batch(2), 3)
    assert not torch.equal(before[0], everything(model)[0])
    assert len([line for line in log if "left out" in line]) == 1


def test_patience_counts_steps_in_a_row_through_a_resume(build, batch, bad, tmp_path):
    model = build(train={"nan_patience": 3})
    for iteration, data in enumerate((bad, bad, batch(2), bad, bad), 1):
        step(model, data, iteration)
    weights = [param.clone() for param in model.net_g.parameters()]
    model.save(0, 5)
    resumed = build(train={"nan_patience": 3}, path={"pretrain_network_g": str(tmp_path / "models/net_g_5.pth")})
    state = torch.load(tmp_path / "training_states/5.state", weights_only=True)  # BasicSR's
    resumed.resume_training({**state, **model.extra_state()})
    for one in (model, resumed):
        with pytest.raises(UserError, match=r"iteration 6: .*bad steps in a row: 3 \(train\.nan_patience\)") as caught:
            step(one, bad, 6)
        assert "\n" not in str(caught.value)
        assert all(torch.equal(old, new) for old, new in zip(weights, one.net_g.parameters(), strict=True))
