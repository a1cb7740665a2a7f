"""RGTModel's network files: readable by other programs, from any published layout, with errors in one line."""

from __future__ import annotations

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

from ..conftest import MakesFolder
from .conftest import CONV, RGT


def test_files_load_in_basicsr_and_in_spandrel(build, options, batch):
    """With EMA weights, which differ from the network's but share its derived tensors in the file."""
    import spandrel
    from basicsr.models.sr_model import SRModel

    network = {**RGT, "depth": [2, 2], "num_heads": [6, 6], "mlp_ratio": 2}
    model = build(network, train={"ema_decay": 0.5})
    model.feed_data(batch(2))
    model.optimize_parameters(1)
    before = [{key: value.clone() for key, value in net.state_dict().items()} for net in (model.net_g, model.net_g_ema)]
    model.save(0, 1)
    path = f"{model.opt['path']['models']}/net_g_1.pth"
    saved = torch.load(path, weights_only=True)
    for kept, net, name in zip(before, (model.net_g, model.net_g_ema), ("params", "params_ema"), strict=True):
        for key, value in net.state_dict().items():
            assert torch.equal(value, kept[key])
            assert torch.equal(value, saved[name][key])
            shared = saved["params"][key].data_ptr() == saved["params_ema"][key].data_ptr()
            assert shared == is_derived(key), key
    theirs = SRModel(options(network, is_train=False, path={"pretrain_network_g": path}))
    for mine, other in zip(model.net_g.parameters(), theirs.net_g.parameters(), strict=True):
        assert torch.equal(mine, other)
    lq = torch.rand(1, 3, 40, 48)
    model.feed_data({"lq": lq})
    model.test()
    with torch.no_grad():
        loaded = spandrel.ModelLoader().load_from_file(path).model.eval()
        torch.testing.assert_close(loaded(lq), model.output, rtol=0, atol=1e-4)


def test_basicsrs_own_save_network_writes_a_small_file(options):
    """spandrel loads such a state dict in tests/archs/test_state_dict.py."""
    from basicsr.models.sr_model import SRModel

    model = SRModel(options({"type": "RGT", "upscale": 4, **PRESETS["RGT-S"]}, is_train=False))
    model.save_network(model.net_g, "net_g", 1)
    assert (Path(model.opt["path"]["models"]) / "net_g_1.pth").stat().st_size <= 55 * 2**20


@pytest.mark.parametrize("layout", ["plain", "params", "params_ema", "module."])
def test_published_layouts_load(build, layout, log, tmp_path):
    source = build(CONV, is_train=False).net_g.state_dict()
    weights = {key: torch.rand_like(value) for key, value in source.items()}
    contents = {"plain": weights, "module.": {"params": {f"module.{key}": value for key, value in weights.items()}}}
    torch.save(contents.get(layout, {layout: weights}), tmp_path / "file.pth")
    path = {"pretrain_network_g": str(tmp_path / "file.pth"), "param_key_g": "params"}
    model = build(CONV, is_train=False, path=path)
    assert all(torch.equal(weights[key], value) for key, value in model.net_g.state_dict().items())
    assert any("params does not exist" in line for line in log) == (layout in ("plain", "params_ema"))


def test_x2_weights_start_an_x4_network_and_its_ema(build, log):
    two = build(RGT)
    two.save_network(two.net_g, "net_g", 9)
    path = f"{two.opt['path']['models']}/net_g_9.pth"
    torch.manual_seed(1)
    start = {"pretrain_network_g": path, "strict_load_g": False}
    four = build({**RGT, "upscale": 4}, path=start, train={"ema_decay": 0.9})
    own, other, averaged = (net.state_dict() for net in (four.net_g, two.net_g, four.net_g_ema))
    assert torch.equal(own["conv_first.weight"], other["conv_first.weight"])
    assert all(torch.equal(own[key], averaged[key]) for key in own)
    assert any("upsample.2" in line for line in log)  # BasicSR's list of differing keys
    assert f"{len(other)} of {len(own)} tensors come from the file." in log
    with pytest.raises(
        UserError, match=r"net_g_9\.pth: does not fit RGT: without upsample\.2\.weight.*strict_load_g"
    ) as caught:
        build({**RGT, "upscale": 4}, path={"pretrain_network_g": path})
    assert "\n" not in str(caught.value)


def test_weights_load_by_name(build, tmp_path, monkeypatch):
    source = build(RGT)
    source.save_network(source.net_g, "net_g", 1)
    monkeypatch.setattr(zoo, "BUNDLED", tmp_path / "bundled")
    (tmp_path / "bundled").mkdir()
    file = tmp_path / "bundled/RGT_T_x2.safetensors"
    convert_checkpoint(tmp_path / "models/net_g_1.pth", file)
    (tmp_path / "bundled/SHA256SUMS").write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")
    torch.manual_seed(1)
    model = build(RGT, path={"pretrain_network_g": "rgt-t-x2"})
    for key, value in model.net_g.state_dict().items():
        assert torch.equal(value, source.net_g.state_dict()[key]), key
    with pytest.raises(UserError, match=r"RGT_T_x4.*a part of the package, is missing"):
        build(RGT, path={"pretrain_network_g": "RGT_T_x4"})


def test_unusable_files_end_in_one_line(build, tmp_path):
    torch.save({"params": {"conv.weight": torch.rand(2, 2)}}, tmp_path / "other.pth")
    torch.save({"params": build(CONV, is_train=False).net_g.state_dict()}, tmp_path / "conv.pth")
    torch.save({"params": {"a": MakesFolder(tmp_path / "ran")}}, tmp_path / "evil.pth")
    wider = {**CONV, "num_feat": 16}
    for name, network, strict, message in (
        ("other", RGT, True, "does not fit RGT: without"),
        ("other", RGT, False, "no weight in common"),
        ("conv", wider, True, r"body\.0\.conv1\.bias \(8 in the file, 16 in the network\)"),
        ("nowhere", CONV, True, r"nowhere\.pth: no such file"),
        ("evil", CONV, True, "run code"),
    ):
        path = {"pretrain_network_g": str(tmp_path / f"{name}.pth"), "strict_load_g": strict}
        with pytest.raises(UserError, match=message) as caught:
            build(network, path=path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
    assert not (tmp_path / "ran").exists()


def test_saved_network_keeps_arguments_not_visible_in_tensors(build):
    model = build({**RGT, "img_range": 255.0, "hai": "identity"})
    model.save(0, 1)
    network = load_model(Path(model.opt["path"]["models"]) / "net_g_1.pth")
    image = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        assert torch.equal(network(image), model.net_g.eval()(image))
