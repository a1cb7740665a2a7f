"""RGTModel's optimiser step: accumulation, mixed precision, clipping, optimisers by name, EMA, non-finite steps."""

from __future__ import annotations

import copy

import pytest
import timm.optim
import torch
from torch.utils._pytree import tree_flatten

from rgt_arch.config import classes
from rgt_arch.config.classes import optimizers
from rgt_arch.errors import UsageError, UserError

from .conftest import RGT

NAMES = ["LR/first.png", "LR/second.png"]


def gradients(model) -> list[torch.Tensor]:
    return [param.grad for param in model.net_g.parameters()]


def step(model, data, iteration: int = 1) -> None:
    model.feed_data(data)
    model.optimize_parameters(iteration)


def everything(model):
    kept = [model.net_g.state_dict(), model.net_g_ema.state_dict(), model.optimizer_g.state_dict()]
    return tree_flatten(copy.deepcopy(kept))[0]


def equal(before, after) -> bool:
    pairs = zip(before, after, strict=True)
    return all(torch.equal(old, new) if isinstance(old, torch.Tensor) else old == new for old, new in pairs)


@pytest.fixture
def bad(batch):
    data = batch(2)
    data["gt"][0, 0, 0, 0] = float("nan")
    return {**data, "lq_path": NAMES}


@pytest.mark.parametrize("parts", [2, 3, 8])  # 3 does not divide 8: the parts differ in size
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
    # one optimiser step in total, not one per part
    for whole, parted in zip(models[0].net_g.parameters(), models[1].net_g.parameters(), strict=True):
        torch.testing.assert_close(parted, whole, rtol=1e-9, atol=1e-9)


def test_batches_that_cannot_be_accumulated_are_usage_errors(build, batch):
    model = build(train={"accumulate": 5})
    with pytest.raises(UsageError, match=r"train\.accumulate: 5 .* 4 images"):
        step(model, batch(4))
    model.cri_pix.criterion_type = "fro"  # a norm over the batch
    with pytest.raises(UsageError, match="fro"):
        step(model, batch(5))


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


@pytest.mark.parametrize("amp", ["auto", "bf16", "fp16"])
def test_float32_replaces_bfloat16_that_is_not_native(build, monkeypatch, amp, log):
    monkeypatch.setattr("rgt_arch.models.rgt_model.has_native_bfloat16", lambda device: False)
    model = build(train={"amp": amp})
    assert model.amp_dtype is None
    assert sum("auto is float32" in line if amp == "auto" else "float32 is used" in line for line in log) == 1


@pytest.mark.parametrize("amp", ["auto", "bf16", "fp16"])  # on a CPU fp16 becomes bf16
def test_mixed_precision_trains_rgt_without_nan_and_keeps_float32_weights(build, batch, amp, log, monkeypatch):
    monkeypatch.setattr("rgt_arch.models.rgt_model.has_native_bfloat16", lambda device: True)
    model = build(RGT, train={"amp": amp, "optim_g": {"type": "Adam", "lr": 1e-3}})
    dtypes, losses = [], []
    model.net_g.conv_first.register_forward_hook(lambda module, args, output: dtypes.append(output.dtype))
    for iteration in range(1, 6):
        step(model, batch(2), iteration)
        losses.append(model.log_dict["l_pix"])
    assert set(dtypes) == {torch.bfloat16}
    assert losses[-1] < losses[0]
    assert all(param.dtype == torch.float32 and param.isfinite().all() for param in model.net_g.parameters())
    assert any("fp16 needs CUDA" in line for line in log) == (amp == "fp16")
    model.test()
    assert model.output.dtype == dtypes[-1] == torch.float32  # validation runs in float32


def test_gradient_norm_is_bounded_and_logged(build, batch):
    free, clipped = build(train={"grad_clip": 1e9}), build(train={"grad_clip": 0.01})
    for model in (free, clipped):
        step(model, batch(4))
    norm = torch.stack([grad.norm() for grad in gradients(clipped)]).norm().item()
    assert norm == pytest.approx(0.01, rel=1e-3)
    assert clipped.log_dict["grad_norm"] == pytest.approx(free.log_dict["grad_norm"])
    assert free.log_dict["grad_norm"] > 0.01


def test_optimisers_by_name(build, batch, monkeypatch):
    assert {"Adam", "AdamW", "SGD", "Muon"} <= set(optimizers())
    for name in optimizers():
        model = build(train={"optim_g": {"type": name, "lr": 1e-3}})
        before = copy.deepcopy(list(model.net_g.parameters()))
        for iteration in (1, 2):
            step(model, batch(2), iteration)
        assert type(model.optimizer_g) is (timm.optim.Muon if name == "Muon" else getattr(torch.optim, name))
        assert all(param.isfinite().all() for param in model.net_g.parameters()), name
        assert any(not torch.equal(a, b) for a, b in zip(before, model.net_g.parameters(), strict=True)), name
    monkeypatch.setattr(classes, "find_spec", lambda name: None)  # timm is not installed
    assert "Muon" not in optimizers.__wrapped__()
    arguments = {"lr": 2e-4, "eps": 1e-7, "weight_decay": 0.1}
    group = build(train={"optim_g": {"type": "AdamW", **arguments}}).optimizer_g.param_groups[0]
    assert {name: group[name] for name in arguments} == arguments


@pytest.mark.parametrize(
    ("optim_g", "message"),
    [
        ({"type": "Adamm"}, "Adamm.*did you mean Adam?"),
        ({"type": "Optimizer"}, "not an optimiser"),
        ({"type": "Lion"}, "Lion.*valid: .*AdamW"),
        ({"type": "LBFGS"}, "not an optimiser"),
        ({"type": "Adam", "momentum": 0.9}, "train.optim_g: Adam refuses.*momentum"),
    ],
)
def test_wrong_optimisers_are_usage_errors_of_one_line(build, optim_g, message):
    with pytest.raises(UsageError, match=message) as caught:
        build(train={"optim_g": {"lr": 1e-3, **optim_g}})
    assert "\n" not in str(caught.value)


def test_bad_step_is_skipped_and_reported_and_training_continues(build, batch, bad, log):
    model = build(train={"ema_decay": 0.5})
    step(model, batch(2), 1)
    before = everything(model)
    step(model, bad, 2)
    assert equal(before, everything(model))
    assert log[-1] == (
        "iteration 2: the loss l_pix is nan on LR/first.png, LR/second.png; the step is left out "
        "(1 in a row; at 10 the run ends)"
    )
    assert model.iteration == 2
    step(model, batch(2), 3)
    assert not equal(before[:1], everything(model)[:1])
    assert len([line for line in log if "left out" in line]) == 1


@pytest.mark.parametrize(("grad_clip", "value"), [(None, float("inf")), (1.0, float("nan"))])
def test_non_finite_gradient_of_a_finite_loss_does_not_change_the_weights(build, batch, grad_clip, value):
    model = build(train={"grad_clip": grad_clip, "ema_decay": 0.5, "nan_patience": 1})
    step(model, batch(2))
    before = everything(model)
    model.net_g.conv_first.weight.register_hook(lambda gradient: gradient * value)
    words = r"iteration 2: the norm of the gradients is (inf|nan) on LR/first\.png, LR/second\.png; .*optim_g\.lr"
    with pytest.raises(UserError, match=words) as caught:
        step(model, {**batch(2), "lq_path": NAMES}, 2)
    assert "\n" not in str(caught.value)
    assert equal(before, everything(model))


def test_patience_counts_consecutive_bad_steps_across_a_resume(build, batch, bad, tmp_path):
    model = build(train={"nan_patience": 3})
    for iteration, data in enumerate((bad, bad, batch(2), bad, bad), 1):
        model.update_learning_rate(iteration)
        step(model, data, iteration)
    weights = [param.clone() for param in model.net_g.parameters()]
    model.save(0, 5)
    resumed = build(train={"nan_patience": 3}, path={"pretrain_network_g": str(tmp_path / "models/net_g_5.pth")})
    state = torch.load(tmp_path / "training_states/5.state", weights_only=True)  # BasicSR's part of the state
    resumed.resume_training({**state, **model.extra_state()})
    for one in (model, resumed):
        with pytest.raises(UserError, match=r"iteration 6: .*bad steps in a row: 3 \(train\.nan_patience\)") as caught:
            step(one, bad, 6)
        assert "\n" not in str(caught.value)
        assert equal(weights, one.net_g.parameters())


def test_ranks_reduce_gradients_once_per_step_and_name_the_images_of_all_ranks(build, batch, bad, tmp_path, options):
    """In a group of one process; two processes are compared with one in tests/end_to_end/test_ranks.py."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    from rgt_arch.models.rgt_model import RGTModel

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = RGTModel(options(train={"accumulate": 2, "nan_patience": 1}) | {"dist": True})
        step(model, batch(4))
        reductions = []
        model.net_g.register_comm_hook(None, lambda _, bucket: reductions.append(1) or allreduce_hook(None, bucket))
        step(model, batch(4), 2)
        assert len(reductions) == 1
        with pytest.raises(UserError, match=r"loss l_pix is nan on LR/first\.png, LR/second\.png; "):
            step(model, bad, 3)
    finally:
        torch.distributed.destroy_process_group()


def test_ema_follows_the_network_and_is_used_for_testing(build, batch):
    model = build(train={"ema_decay": 0.5})
    start = [param.clone() for param in model.net_g_ema.parameters()]
    step(model, batch(2))
    for old, new, averaged in zip(start, model.net_g.parameters(), model.net_g_ema.parameters(), strict=True):
        torch.testing.assert_close(averaged, (old + new) / 2)
    model.test()
    with torch.no_grad():
        assert torch.equal(model.output, model.net_g_ema(model.lq))
        assert not torch.equal(model.output, model.net_g(model.lq))
