"""A forward leaves no state behind, and works with EMA, checkpointing, autocast, channels-last and compile."""

import copy
import threading
import types

import pytest
import torch
from basicsr.archs.discriminator_arch import VGGStyleDiscriminator
from basicsr.models.base_model import BaseModel
from basicsr.utils.img_process_util import filter2D
from fill import fill
from torch._subclasses.fake_tensor import FakeTensorMode

from rgt_arch import RGT
from rgt_arch.archs import rgt_arch as rgt_arch_module

CONFIG = {"upscale": 2, "embed_dim": 96, "depth": [3, 2], "num_heads": [6, 6], "split_size": (8, 16), "mlp_ratio": 2.0}


@pytest.fixture
def net() -> RGT:
    return fill(RGT(**CONFIG, drop_path_rate=0.0))


def image(height: int = 24, width: int = 40, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height * width))


def test_forward_changes_nothing_on_the_module(net: RGT) -> None:
    def snapshot() -> dict:
        return {name: dict(vars(module)) for name, module in net.named_modules()}

    before = snapshot()
    net.eval()(image())
    net.train()(image()).mean().backward()
    after = snapshot()
    for name, attributes in before.items():
        assert attributes.keys() == after[name].keys()
        for key, value in attributes.items():
            assert key == "training" or after[name][key] is value or after[name][key] == value, f"{name}.{key}"


def test_threads_with_different_sizes_get_the_results_of_one_thread(net: RGT) -> None:
    net.eval()
    images = [image(16, 16), image(17, 40), image(33, 20), image(16, 16) * 0.5]
    with torch.no_grad():
        expected = [net(x) for x in images]
    failures: list[int] = []

    def work(number: int) -> None:
        with torch.no_grad():
            for _ in range(3):
                if not torch.equal(net(images[number]), expected[number]):
                    failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(images))]
    for act in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            act(thread)
    assert not failures


def test_training_works_after_inference_mode_and_fake_tensors(net: RGT) -> None:
    net.eval()
    with torch.inference_mode():
        net(image())
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        out = net(mode.from_tensor(image()))
        assert out.shape == (1, 3, 48, 80)
    net.train()
    net(image()).mean().backward()
    assert all(p.grad is not None and type(p.grad) is torch.Tensor for p in net.parameters())


def test_output_follows_basicsrs_ema_which_writes_to_tensor_data(net: RGT) -> None:
    ema = copy.deepcopy(net).eval()
    model = types.SimpleNamespace(net_g=net, net_g_ema=ema, get_bare_model=lambda network: network)
    with torch.no_grad():
        before = ema(image())
        for p in net.parameters():
            p.add_(0.05)
    BaseModel.model_ema(model, decay=0.0)
    with torch.no_grad():
        assert not torch.allclose(ema(image()), before)
        assert torch.equal(ema(image()), net.eval()(image()))


def test_gradients_are_bit_identical_in_20_repeats_on_2_threads() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        net = fill(RGT(**(CONFIG | {"depth": [4], "num_heads": [6]}), drop_path_rate=0.0)).train()
        first = None
        for _ in range(20):
            net.zero_grad()
            net(image(16, 16)).square().mean().backward()
            grads = [p.grad.clone() for p in net.parameters()]
            first = first or grads
            assert all(torch.equal(a, b) for a, b in zip(first, grads, strict=True))
    finally:
        torch.set_num_threads(threads)


def test_gates_are_computed_again_instead_of_kept_for_the_backward_pass() -> None:
    mlp = rgt_arch_module.GatedMLP(96, 192, torch.nn.GELU)
    x = torch.rand(1, 16, 16, 96, requires_grad=True)

    def kept_maps() -> int:
        kept = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            mlp(x)
        return sum(size >= x.numel() for size in kept.values())

    recomputing = kept_maps()
    mlp.recompute_gate = False
    assert recomputing <= kept_maps() - 4


def test_slices_grow_with_the_threads_up_to_those_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads, pixels in ((1, 4096), (2, 8192), (64, 1 << 16)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        start, stop, _, _ = next(rgt_arch_module._slice_rows(torch.empty(1, 2048, 64, 1)))
        assert (stop - start) * 64 == pixels


def test_checkpointing_gives_the_same_gradients_and_recomputes_blocks() -> None:
    plain = fill(RGT(**CONFIG, drop_path_rate=0.3)).train()
    checkpointed = fill(RGT(**CONFIG, drop_path_rate=0.3, use_chk=True)).train()
    calls = []
    checkpointed.layers[0].blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    for net in (plain, checkpointed):
        torch.manual_seed(3)  # drop path
        net(image(batch=2)).square().mean().backward()
    assert len(calls) == 2
    for (name, a), b in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


@pytest.mark.parametrize("mode", ["eval", "eval without gradients", "train"])
def test_autocast_stays_finite_and_close(net: RGT, mode: str) -> None:
    net.train(mode == "train")
    with torch.no_grad():
        expected = net(image())
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype), torch.set_grad_enabled(mode != "eval without gradients"):
            out = net(image())
        assert out.isfinite().all()
        assert (out - expected).abs().mean() < 0.05 * expected.abs().mean()
        if mode == "train":
            out.float().mean().backward()
            assert all(p.grad.isfinite().all() for p in net.parameters())
    if mode != "train":  # autocast does not change a float64 network
        net.double()
        with torch.no_grad():
            expected = net(image().double())
        with torch.set_grad_enabled(mode == "eval"), torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(net(image().double()), expected, rtol=0, atol=1e-9)


def test_bfloat16_gradients_equal_float32_except_for_rounding(net: RGT) -> None:
    net.train()
    gradients = []
    for enabled in (False, True):
        net.zero_grad()
        torch.manual_seed(3)  # drop path
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = net(image(batch=2))
        out.float().square().mean().backward()
        gradients.append({name: param.grad.clone() for name, param in net.named_parameters()})
    exact, rounded = gradients
    for name in exact:
        if "reduction1" in name or "qkv" in name:
            likeness = torch.cosine_similarity(exact[name].flatten(), rounded[name].flatten(), dim=0)
            assert likeness > 0.98, name


def test_network_cast_to_bfloat16_runs(net: RGT) -> None:
    """With gradients. test_precision.py tests it without."""
    out = net.eval().bfloat16()(image().bfloat16())
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()


def test_channels_last_input_and_weights_change_nothing(net: RGT) -> None:
    net.eval()
    with torch.no_grad():
        expected = net(image(batch=2))
        net.to(memory_format=torch.channels_last)
        out = net(image(batch=2).contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


def test_compiles_through_autograd_without_graph_breaks() -> None:
    net = fill(RGT(**(CONFIG | {"depth": [3], "num_heads": [6]}))).eval()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(image()), net(image()), rtol=0, atol=1e-4)
    torch._dynamo.reset()


@pytest.mark.parametrize(("upscale", "size"), [(2, (64, 64)), (3, (33, 130)), (4, (33, 40))])
@pytest.mark.parametrize("mode", ["train", "eval", "eval without gradients, in slices"])
def test_output_is_contiguous_so_that_view_works(monkeypatch, mode: str, upscale: int, size: tuple) -> None:
    """BasicSR's filters, discriminators and some losses call `view` on it."""
    monkeypatch.setitem(rgt_arch_module.SLICE_PIXELS, "cpu", 1024)
    net = fill(RGT(**{**CONFIG, "upscale": upscale, "depth": [2], "num_heads": [6]})).train(mode == "train")
    with torch.set_grad_enabled("without" not in mode):
        output = net(image(*size, batch=2))
    assert output.is_contiguous()
    output.view(2, -1)
    filter2D(output, torch.ones(2, 3, 3) / 9)
    if output.shape[-1] == output.shape[-2] == 128:
        VGGStyleDiscriminator(3, 4, input_size=128)(output)


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    drop = rgt_arch_module.DropPath(0.25).train()
    torch.manual_seed(0)
    out = drop(torch.ones(4000, 2, 2, 3))
    per_sample = out.flatten(1)
    assert (per_sample == per_sample[:, :1]).all()
    assert set(per_sample[:, 0].tolist()) == {0.0, 1 / 0.75} or torch.allclose(per_sample.max(), torch.tensor(1 / 0.75))
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)
    assert drop.eval()(torch.ones(2, 1, 1, 3)).eq(1).all()
