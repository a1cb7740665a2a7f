"""RGTModel's optimiser step: accumulation, mixed precision, clipping, optimisers by name, EMA, broken losses."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch.utils._pytree import tree_flatten

from rgt_arch.config.classes import optimizers
from rgt_arch.errors import UsageError, UserError

from .conftest import RGT


def gradients(model) -> list[torch.Tensor]:
    return [param.grad for param in model.net_g.parameters()]


def step(model, data, iteration: int = 1) -> None:
    model.feed_data(data)
    model.optimize_parameters(iteration)


@pytest.mark.parametrize("parts", [2, 3, 8])  # 3 does not divide 8: shares differ
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_accumulated_gradients_equal_those_of_the_whole_batch(build, batch, parts, reduction):
    pixel_opt = {"type": "L1Loss", "loss_weight": 0.7, "reduction": reduction}
    models = [build(train={"pixel_opt": pixel_opt, "accumulate": n}) for n in (1, parts)]
    calls = []
    for model in models:
        model.net_g.double()
        model.net_g.register_forward_hook(lambda module, args, output: calls.append(len(args[0])))
        step(model, batch(8, dtype=torch.float64))
    assert sum(calls) == 16
    assert len(calls) == 1 + parts
    for whole, parted in zip(gradients(models[0]), gradients(models[1]), strict=True):
        torch.testing.assert_close(parted, whole, rtol=1e-10, atol=1e-10)
    assert models[1].log_dict["l_pix"] == pytest.approx(models[0].log_dict["l_pix"], rel=1e-6)
    # and one step of the optimiser, not one a part
    for whole, parted in zip(models[0].net_g.parameters(), models[1].net_g.parameters(), strict=True):
        torch.testing.assert_close(parted, whole, rtol=1e-9, atol=1e-9)


def test_one_step_equals_srmodel(build, options, batch):
    from basicsr.models.sr_model import SRModel

    ours = build()
    torch.manual_seed(0)
    theirs = SRModel(options())
    for iteration in (1, 2, 3):
        for model in (ours, theirs):
            model.update_learning_rate(iteration)
            step(model, batch(4), iteration)
        assert ours.log_dict == pytest.approx(theirs.log_dict)
    for mine, other in zip(ours.net_g.parameters(), theirs.net_g.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_accumulate_beyond_the_batch_is_a_usage_error(build, batch):
    model = build(train={"accumulate": 5})
    with pytest.raises(UsageError, match=r"train\.accumulate: 5 .* 4 images"):
        step(model, batch(4))


def test_a_norm_over_the_batch_cannot_be_accumulated(build, batch):
    model = build(train={"accumulate": 2})
    model.cri_pix.criterion_type = "fro"
    with pytest.raises(UsageError, match="fro"):
        step(model, batch(4))


@pytest.mark.parametrize("amp", ["bf16", "fp16"])  # on a CPU fp16 becomes bf16
def test_mixed_precision_trains_rgt_without_nan_and_keeps_float32_weights(build, batch, amp, log):
    model = build(RGT, train={"amp": amp, "optim_g": {"type": "Adam", "lr": 1e-3}})
    dtypes = []
    model.net_g.conv_first.register_forward_hook(lambda module, args, output: dtypes.append(output.dtype))
    losses = []
    for iteration in range(1, 6):
        step(model, batch(2), iteration)
        losses.append(model.log_dict["l_pix"])
    assert set(dtypes) == {torch.bfloat16}
    assert losses[-1] < losses[0]
    assert all(param.dtype == torch.float32 and param.isfinite().all() for param in model.net_g.parameters())
    assert any("fp16 needs CUDA" in line for line in log) == (amp == "fp16")
    model.test()
    assert model.output.dtype == torch.float32  # validation runs in float32
    assert dtypes[-1] == torch.float32


def test_gradient_norm_is_bounded_and_logged(build, batch):
    free, clipped = build(train={"grad_clip": 1e9}), build(train={"grad_clip": 0.01})
    for model in (free, clipped):
        step(model, batch(4))
    norm = torch.stack([grad.norm() for grad in gradients(clipped)]).norm().item()
    assert norm == pytest.approx(0.01, rel=1e-3)
    assert clipped.log_dict["grad_norm"] == pytest.approx(free.log_dict["grad_norm"])
    assert free.log_dict["grad_norm"] > 0.01


@pytest.mark.parametrize("name", optimizers())
def test_optimisers_of_torch_by_name(build, batch, name):
    model = build(train={"optim_g": {"type": name, "lr": 1e-3}})
    before = copy.deepcopy(list(model.net_g.parameters()))
    assert any(param.ndim == 4 for param in before)
    for iteration in (1, 2):
        step(model, batch(2), iteration)
    assert type(model.optimizer_g) is getattr(torch.optim, name)
    assert all(param.isfinite().all() for param in model.net_g.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, model.net_g.parameters(), strict=True))


def test_arguments_reach_the_optimiser(build):
    arguments = {"lr": 2e-4, "eps": 1e-7, "weight_decay": 0.1}
    group = build(train={"optim_g": {"type": "AdamW", **arguments}}).optimizer_g.param_groups[0]
    assert {name: group[name] for name in arguments} == arguments


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"optim_g": {"type": "Adamm", "lr": 1e-3}}, "Adamm.*did you mean Adam?"),
        ({"optim_g": {"type": "Optimizer", "lr": 1e-3}}, "not an optimiser"),
        ({"optim_g": {"type": "Lion", "lr": 1e-3}}, "Lion.*valid: "),
        ({"optim_g": {"type": "Adam", "lr": 1e-3, "momentum": 0.9}}, "train.optim_g: Adam refuses.*momentum"),
    ],
)
def test_wrong_optimisers_are_usage_errors_of_one_line(build, train, message):
    with pytest.raises(UsageError, match=message) as caught:
        build(train=train)
    assert "\n" not in str(caught.value)


def test_broken_loss_stops_before_it_reaches_the_weights(build, batch):
    model = build(train={"nan_patience": 1})
    step(model, batch(2))
    before = copy.deepcopy(model.net_g.state_dict())
    data = batch(2)
    data["gt"][0, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match=r"iteration 2: the loss l_pix is nan; .*lr"):
        step(model, data, 2)
    assert all(torch.equal(before[key], value) for key, value in model.net_g.state_dict().items())


@pytest.mark.parametrize("grad_clip", [None, 1.0])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_broken_gradient_of_a_finite_loss_does_not_reach_the_weights(build, batch, grad_clip, value):
    model = build(train={"grad_clip": grad_clip, "ema_decay": 0.5, "nan_patience": 1})
    step(model, batch(2))
    before = copy.deepcopy([model.net_g.state_dict(), model.net_g_ema.state_dict(), model.optimizer_g.state_dict()])
    model.net_g.conv_first.weight.register_hook(lambda gradient: gradient * value)
    data = {**batch(2), "lq_path": ["LR/first.png", "LR/second.png"]}
    words = r"iteration 2: the norm of the gradients is (inf|nan) on LR/first\.png, LR/second\.png; .*optim_g\.lr"
    with pytest.raises(UserError, match=words) as caught:
        step(model, data, 2)
    assert "\n" not in str(caught.value)
    after = [model.net_g.state_dict(), model.net_g_ema.state_dict(), model.optimizer_g.state_dict()]
    for old, new in zip(tree_flatten(before)[0], tree_flatten(after)[0], strict=True):
        assert torch.equal(old, new) if isinstance(old, torch.Tensor) else old == new


def test_ema_follows_the_network_and_is_what_is_tested(build, batch):
    model = build(train={"ema_decay": 0.5})
    start = [param.clone() for param in model.net_g_ema.parameters()]
    step(model, batch(2))
    for old, new, averaged in zip(start, model.net_g.parameters(), model.net_g_ema.parameters(), strict=True):
        torch.testing.assert_close(averaged, (old + new) / 2)
    model.test()
    with torch.no_grad():
        assert torch.equal(model.output, model.net_g_ema(model.lq))
        assert not torch.equal(model.output, model.net_g(model.lq))


def test_non_strict_weights_leave_the_ema_network_like_the_network(build):
    model = build(network={**RGT, "upscale": 3})
    model.save_network(model.net_g, "net_g", 7)
    path = {"pretrain_network_g": f"{model.opt['path']['models']}/net_g_7.pth", "strict_load_g": False}
    model = build(network={**RGT, "upscale": 4}, path=path, train={"ema_decay": 0.9})
    own, averaged = model.net_g.state_dict(), model.net_g_ema.state_dict()
    assert all(torch.equal(own[key], averaged[key]) for key in own)


def test_unknown_optimiser_lists_what_there_is(build):
    with pytest.raises(UsageError) as caught:
        build(train={"optim_g": {"type": "Lion", "lr": 1e-3}})
    assert {"Adam", "AdamW", "SGD"} <= set(re.findall(r"\w+", str(caught.value)))
    assert not {"LBFGS", "Muon"} & set(re.findall(r"\w+", str(caught.value)))
