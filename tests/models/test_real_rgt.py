"""RealRGTModel and RealRGTGANModel: LR images equal to BasicSR's, and steps equal to SRGANModel's."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from basicsr.models.realesrnet_model import RealESRNetModel
from basicsr.models.srgan_model import SRGANModel

from rgt_arch.config.tables import DEGRADATION
from rgt_arch.data.degradations import draw_kernels
from rgt_arch.errors import UsageError, UserError
from rgt_arch.models.real_rgt_model import RealRGTGANModel, RealRGTModel

from .conftest import CONV

REAL = {name: key.default for name, key in DEGRADATION.items() if key.default is not None}
JUDGE = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4}
ADVERSARIAL = {
    "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
    "optim_d": {"type": "Adam", "lr": 1e-3},
}


def seed(number: int) -> None:
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def real_batch(images: int, side: int = 96) -> dict[str, torch.Tensor]:
    seed(images)
    kernels = [draw_kernels() for _ in range(images)]
    batch = {name: torch.cat([each[name] for each in kernels]) for name in kernels[0]}
    return {**batch, "gt": (torch.rand(images, 3, side, side) * 255).round() / 255}


@pytest.fixture
def make(options):
    """make(model class, **keys at the top level, train={…}): a model, seeded."""

    def make(kind, network_d=None, train=None, **keys):
        more = {} if network_d is None else ADVERSARIAL
        opt = options(train={**more, **(train or {})}) | keys
        if network_d is not None:
            opt["network_d"] = copy.deepcopy(network_d)
        seed(0)
        return kind(opt)

    return make


@pytest.mark.parametrize("sharpened", [False, True])
@pytest.mark.parametrize("number", range(4))
def test_real_degradation_and_pool_equal_those_of_basicsr_bit_for_bit(make, sharpened, number):
    """BasicSR's pool holds sharpened HR images, ours plain ones, which are sharpened later."""
    keys = {**REAL, "gt_size": 64, "queue_size": 4, "gt_usm": sharpened}
    ours, theirs = make(RealRGTModel, **keys), make(RealESRNetModel, **keys)
    data, pairs = real_batch(2), []
    for model in (ours, theirs):
        seed(number)
        for _ in range(4):  # the pool is full after two
            model.feed_data(data)
        pairs.append((model.lq, model._target(model.gt, "l1") if model is ours else model.gt))
    assert pairs[0][0].shape == (2, 3, 32, 32)
    assert torch.equal(pairs[0][0], pairs[1][0])
    inner = slice(26, -26)  # the sharpening of a patch does not see what lies around it
    torch.testing.assert_close(pairs[0][1][..., inner, inner], pairs[1][1][..., inner, inner], atol=0.02, rtol=0)


def test_batches_come_from_the_pool_once_it_is_full(make, batch):
    model = make(RealRGTModel, degradation="photo", queue_size=5)
    seen = []
    for number in range(8):
        gt = torch.full((2, 3, 24, 32), (number * 20) / 255)
        model.feed_data({"gt": gt, "lq": gt})
        assert model.lq.shape == (2, 3, 12, 16)
        means = [float(image.mean()) for image in model.gt]
        assert means == pytest.approx([float(image.mean()) for image in model.lq], abs=0.05)  # pairs stay together
        seen.append({round(mean * 255 / 20) for mean in means})
    assert seen[:2] == [{0}, {1}]  # two batches fit into the pool
    assert set().union(*seen[2:]) != set(range(2, 8))
    assert any(number not in numbers for number, numbers in enumerate(seen[2:], 2))


def test_photos_are_degraded_one_by_one_and_some_are_only_made_smaller(make):
    model, gt = make(RealRGTModel, degradation="photo"), real_batch(1)["gt"].repeat(60, 1, 1, 1)
    gt = torch.nn.functional.interpolate(gt[..., :12, :12], size=(96, 96), mode="bicubic").clamp(0, 1)
    seed(1)
    model.feed_data({"gt": gt})
    assert model.queue_size == 0
    assert model.lq.shape == (60, 3, 48, 48)
    assert torch.equal((model.lq * 255).round() / 255, model.lq)
    clean = torch.nn.functional.interpolate(gt[:1], size=(48, 48), mode="bicubic", antialias=True)
    changes = (model.lq - clean).pow(2).mean((1, 2, 3)).sqrt() * 255
    assert 5 <= int((changes < 0.5).sum()) <= 25  # of 8 bits alone: 0.3
    assert 2 < float(changes.median()) < 15
    assert len({float(change) for change in changes}) > 30


def test_validation_during_training_takes_the_lr_images_of_the_data_set(make, loader):
    model = make(RealRGTModel, degradation="photo")
    plain = make(RealRGTModel, degradation="photo", is_train=False)
    for each in (model, plain):
        assert each.validation(loader(2), 1, None)
    assert model.metric_results == plain.metric_results != {}
    model.feed_data({"gt": torch.rand(1, 3, 24, 32)})
    assert model.lq.shape == (1, 3, 12, 16)


def test_wrong_values_are_usage_errors(make):
    with pytest.raises(UsageError, match="jpeg_range = 'high': expected a list of numbers"):
        make(RealRGTModel, jpeg_range="high")


@pytest.mark.parametrize(("every", "first"), [(1, 0), (2, 1)])
def test_steps_with_a_discriminator_equal_those_of_srganmodel(make, batch, every, first):
    train = {"net_d_iters": every, "net_d_init_iters": first, "ema_decay": 0.9}
    ours = make(RealRGTGANModel, JUDGE, train, degradation="photo")
    theirs = make(SRGANModel, JUDGE, train)
    for iteration in range(1, 5):
        for model in (ours, theirs):
            model.update_learning_rate(iteration)
            data = batch(4)
            model.lq, model.gt, model._lq_paths = data["lq"], data["gt"], []
            model.optimize_parameters(iteration)
        expected = {name.replace("l_g_pix", "l_pix"): value for name, value in theirs.log_dict.items()}
        assert ours.log_dict == pytest.approx(expected, rel=1e-5)
        assert ("l_g_gan" in ours.log_dict) is (iteration % every == 0 and iteration > first)
    for name in ("net_g", "net_g_ema", "net_d"):
        for mine, other in zip(getattr(ours, name).parameters(), getattr(theirs, name).parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_accumulated_gradients_of_both_networks_equal_those_of_the_whole_batch(make, batch):
    # The estimate of spectral norms would change with each micro-batch; CONV has none.
    models = [make(RealRGTGANModel, CONV, {"accumulate": parts}, degradation="photo") for parts in (1, 3)]
    for model in models:
        model.net_g.double()
        model.net_d.double()
        data = batch(8, dtype=torch.float64)
        model.lq, model.gt, model._lq_paths = data["lq"], data["gt"], []
        model.optimize_parameters(1)
    for name in ("net_g", "net_d"):
        for whole, parted in zip(*(getattr(model, name).parameters() for model in models), strict=True):
            assert whole.grad.abs().sum() > 0
            torch.testing.assert_close(parted.grad, whole.grad, rtol=1e-9, atol=1e-11)
    assert models[1].log_dict == pytest.approx(models[0].log_dict, rel=1e-6)


@pytest.mark.parametrize("amp", [None, "bf16"])
def test_sharpened_targets_perceptual_loss_and_mixed_precision_train_and_clip_both_networks(make, amp):
    train = {"amp": amp, "grad_clip": 1e-4}
    usm = {"l1_gt_usm": True, "percep_gt_usm": False, "gan_gt_usm": False}
    model, targets = make(RealRGTGANModel, JUDGE, train, degradation="photo", **usm), {}

    def perceptual(output, gt):
        targets["percep"] = gt
        return (output - gt).abs().mean() * 0.1, None

    pixel = model.cri_pix
    model.cri_perceptual = perceptual
    model.cri_pix = lambda output, gt: targets.update(l1=gt) or pixel(output, gt)
    for iteration in (1, 2):
        model.feed_data({"gt": real_batch(2, 64)["gt"]})
        before = copy.deepcopy([*model.net_g.parameters(), *model.net_d.parameters()])
        model.optimize_parameters(iteration)
        after = [*model.net_g.parameters(), *model.net_d.parameters()]
        assert all(value.isfinite().all() for value in after)
        assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert torch.equal(targets["percep"], model.gt)
    assert torch.equal(targets["l1"], model._usm_sharpener(model.gt))
    assert not torch.equal(targets["l1"], model.gt)
    names = ["l_pix", "l_percep", "l_g_gan", "l_d_real", "out_d_real", "l_d_fake", "out_d_fake"]
    assert [*model.log_dict] == [*names, "grad_norm", "grad_norm_d"]
    for network in (model.net_g, model.net_d):
        norm = torch.stack([param.grad.norm() for param in network.parameters() if param.grad is not None]).norm()
        assert float(norm) == pytest.approx(1e-4, rel=1e-2)


def test_losses_with_one_target_sharpen_it_once(make):
    model, targets = make(RealRGTGANModel, JUDGE, degradation="photo", gt_usm=True), []
    model.cri_pix = lambda output, gt: targets.append(gt) or (output - gt).abs().mean()
    model.cri_perceptual = lambda output, gt: (targets.append(gt) or (output - gt).abs().mean(), None)
    model.feed_data({"gt": real_batch(2, 64)["gt"]})
    model.optimize_parameters(1)
    assert targets[0] is targets[1]
    assert torch.equal(targets[0], model._usm_sharpener(model.gt))


def test_messages_about_the_discriminators_weights_name_its_keys(make, tmp_path):
    torch.save({"params": {"conv0.weight": torch.rand(8, 3, 3, 3)}}, tmp_path / "net_d.pth")
    model = make(RealRGTGANModel, JUDGE, degradation="photo")
    with pytest.raises(UserError, match=r"set network_d as the file was trained, or path\.strict_load_d: false"):
        model.load_network(model.net_d, tmp_path / "net_d.pth")
    with pytest.raises(UserError, match=r"set network_g as .* path\.strict_load_g: false"):
        model.load_network(model.net_g, tmp_path / "net_d.pth")
    torch.save({"params": {"a": torch.rand(2)}}, tmp_path / "net_d.pth")
    with pytest.raises(UserError, match=r"check path\.pretrain_network_d and network_d\.type"):
        model.load_network(model.net_d, tmp_path / "net_d.pth", strict=False)
