"""RGTModel's network files: readable by everybody, from any published layout, with errors in one line."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import pytest
import torch

from rgt_arch import load_model
from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.errors import UserError
from rgt_arch.weights import zoo
from rgt_arch.weights.inspecting import is_derived
from rgt_arch.weights.writing import convert_checkpoint

from .conftest import CONV, RGT


def train(model, batch, iterations) -> list[float]:
    losses = []
    for iteration in iterations:
        model.update_learning_rate(iteration)
        model.feed_data(batch(iteration % 3 + 1))
        model.optimize_parameters(iteration)
        losses.append(model.log_dict["l_pix"])
    return losses


def test_files_load_in_basicsr_and_in_spandrel(build, options, batch):
    import spandrel
    from basicsr.models.sr_model import SRModel

    network = {**RGT, "depth": [2, 2], "num_heads": [6, 6], "mlp_ratio": 2}
    model = build(network, train={"ema_decay": 0.9})
    train(model, batch, [1])
    model.save(0, 1)
    path = f"{model.opt['path']['models']}/net_g_1.pth"
    theirs = SRModel(options(network, is_train=False, path={"pretrain_network_g": path}))
    for mine, other in zip(model.net_g.parameters(), theirs.net_g.parameters(), strict=True):
        assert torch.equal(mine, other)
    loaded = spandrel.ModelLoader().load_from_file(path)
    lq = torch.rand(1, 3, 40, 48)
    model.feed_data({"lq": lq})
    model.test()
    with torch.no_grad():
        torch.testing.assert_close(loaded.model.eval()(lq), model.output, rtol=0, atol=1e-4)


def test_basicsrs_own_save_network_writes_a_small_file_that_spandrel_loads(options):
    import spandrel
    from basicsr.models.sr_model import SRModel

    network = {"type": "RGT", "upscale": 4, **PRESETS["RGT-S"]}
    model = SRModel(options(network, is_train=False))
    model.save_network(model.net_g, "net_g", 1)
    path = Path(model.opt["path"]["models"]) / "net_g_1.pth"
    assert path.stat().st_size <= 55 * 2**20
    loaded = spandrel.ModelLoader().load_from_file(path).model.eval()
    lq = torch.rand(1, 3, 16, 20)
    with torch.no_grad():
        torch.testing.assert_close(loaded(lq), model.net_g.eval()(lq), rtol=0, atol=1e-4)


@pytest.mark.parametrize("layout", ["plain", "params", "params_ema", "module."])
def test_published_layouts_load(build, layout, log):
    source = build(CONV, is_train=False)
    weights = {key: torch.rand_like(value) for key, value in source.net_g.state_dict().items()}
    path = f"{source.opt['path']['models']}/file.pth"
    torch.save(
        {"plain": weights, "module.": {"params": {f"module.{k}": v for k, v in weights.items()}}}.get(
            layout, {layout: weights}
        ),
        path,
    )
    model = build(CONV, is_train=False, path={"pretrain_network_g": path, "param_key_g": "params"})
    assert all(torch.equal(weights[key], value) for key, value in model.net_g.state_dict().items())
    assert any("params does not exist" in line for line in log) == (layout in ("plain", "params_ema"))


def test_x2_weights_start_an_x4_network(build, log):
    two = build(RGT)
    two.save_network(two.net_g, "net_g", 9)
    path = f"{two.opt['path']['models']}/net_g_9.pth"
    torch.manual_seed(1)
    four = build({**RGT, "upscale": 4}, path={"pretrain_network_g": path, "strict_load_g": False})
    own, other = four.net_g.state_dict(), two.net_g.state_dict()
    assert torch.equal(own["conv_first.weight"], other["conv_first.weight"])
    assert any("upsample.2" in line for line in log)  # BasicSR's list of what differs
    assert f"{len(other)} of {len(own)} tensors come from the file." in log
    with pytest.raises(
        UserError, match=r"net_g_9\.pth: does not fit RGT: without upsample\.2\.weight.*strict_load_g"
    ) as caught:
        build({**RGT, "upscale": 4}, path={"pretrain_network_g": path})
    assert "\n" not in str(caught.value)


def test_weights_go_by_name(build, tmp_path, monkeypatch):
    source = build(RGT)
    source.save_network(source.net_g, "net_g", 1)
    monkeypatch.setattr(zoo, "BUNDLED", tmp_path / "bundled")
    (tmp_path / "bundled").mkdir()
    file = tmp_path / "bundled/RGT_T_x2.safetensors"
    convert_checkpoint(tmp_path / "models/net_g_1.pth", file)
    (tmp_path / "bundled/SHA256SUMS").write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")
    torch.manual_seed(1)
    for name in ("RGT_T_x2", "rgt-t-x2"):
        model = build(RGT, path={"pretrain_network_g": name})
        for key, value in model.net_g.state_dict().items():
            assert torch.equal(value, source.net_g.state_dict()[key]), key
    with pytest.raises(UserError, match=r"RGT_T_x4.*a part of the package, is missing"):
        build(RGT, path={"pretrain_network_g": "RGT_T_x4"})


@pytest.mark.parametrize(("strict", "message"), [(True, "does not fit RGT: without"), (False, "no weight in common")])
def test_weights_that_do_not_fit_are_one_line(build, tmp_path, strict, message):
    torch.save({"params": {"conv.weight": torch.rand(2, 2)}}, tmp_path / "other.pth")
    path = {"pretrain_network_g": str(tmp_path / "other.pth"), "strict_load_g": strict}
    with pytest.raises(UserError, match=message) as caught:
        build(RGT, path=path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_wrong_shapes_are_named_with_both_sizes(build, tmp_path):
    source = build(CONV, is_train=False)
    source.save_network(source.net_g, "net_g", 1)
    path = {"pretrain_network_g": f"{tmp_path}/models/net_g_1.pth"}
    with pytest.raises(UserError, match=r"body\.0\.conv1\.bias \(8 in the file, 16 in the network\)"):
        build({**CONV, "num_feat": 16}, path=path)


def test_missing_file_is_a_user_error(build, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.pth: no such file"):
        build(path={"pretrain_network_g": str(tmp_path / "nowhere.pth")})


def test_file_that_would_run_code_is_refused(build, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"params": {"a": Evil()}}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="run code"):
        build(path={"pretrain_network_g": str(tmp_path / "evil.pth")})
    assert not (tmp_path / "ran").exists()


def test_saving_leaves_the_network_as_it_was(build):
    model = build(RGT)
    before = copy.deepcopy(model.net_g.state_dict())
    model.save(0, 1)
    assert all(torch.equal(before[key], value) for key, value in model.net_g.state_dict().items())


def test_a_training_file_keeps_arguments_that_no_tensor_shows(build):
    model = build({**RGT, "img_range": 255.0, "hai": "identity"})
    model.save(0, 1)
    network = load_model(Path(model.opt["path"]["models"]) / "net_g_1.pth")
    image = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        assert torch.equal(network(image), model.net_g.eval()(image))


def test_the_average_shares_the_derived_tensors_of_the_network_in_a_file(build, batch):
    model = build(RGT, train={"ema_decay": 0.5})
    train(model, batch, [1])
    model.save(0, 1)
    saved = torch.load(f"{model.opt['path']['models']}/net_g_1.pth", weights_only=True)
    for key, tensor in saved["params"].items():
        shared = tensor.data_ptr() == saved["params_ema"][key].data_ptr()
        assert shared == is_derived(key), key
    for name, network in (("params", model.net_g), ("params_ema", model.net_g_ema)):
        for key, tensor in network.state_dict().items():
            assert torch.equal(saved[name][key], tensor)
