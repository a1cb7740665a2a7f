"""`rgt convert`: its files load here and in spandrel, and a refusal leaves no file behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from spandrel import ModelLoader

from rgt_arch import RGT, rgt_t
from rgt_arch.cli import main
from rgt_arch.weights.building import load_model
from rgt_arch.weights.inspecting import is_derived
from rgt_arch.weights.reading import read_checkpoint


@pytest.fixture(scope="module")
def network() -> RGT:
    torch.manual_seed(0)
    return rgt_t(2).eval()


@pytest.fixture
def training_file(tmp_path: Path, network: RGT) -> Path:
    """net_g_500.pth of a DDP run with EMA; `network` has the averaged weights."""
    ema = network.state_dict()
    live = {"module." + key: tensor if is_derived(key) else tensor + 1 for key, tensor in ema.items()}
    path = tmp_path / "net_g_500.pth"
    torch.save({"params": live, "params_ema": {"module." + key: tensor for key, tensor in ema.items()}}, path)
    return path


def convert(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


def test_a_training_file_becomes_a_release_file(
    training_file: Path, network: RGT, capsys: pytest.CaptureFixture[str]
) -> None:
    release, back = training_file.with_name("RGT_T_x2.safetensors"), training_file.with_name("RGT_T_x2.pth")
    assert convert(training_file, release) == 0
    out = capsys.readouterr().out
    assert f"{release}: params_ema weights of net_g_500.pth, float32, safetensors" in out
    assert f"{training_file.stat().st_size / 1e6:.1f} MB before, {release.stat().st_size / 1e6:.1f} MB after" in out
    assert out.endswith("readable for this package alone, without derived tensors\n")
    assert convert(release, back) == 0
    assert capsys.readouterr().out.endswith(
        "readable for this package, the official code and spandrel (chaiNNer, ComfyUI)\n"
    )
    content = torch.load(back, weights_only=True)
    assert content["rgt_info"] == {"param_key": "params_ema", "iteration": 500}
    for key, tensor in network.state_dict().items():
        assert torch.equal(content["params"][key], tensor)
    image = torch.rand(1, 3, 17, 20)
    loaded = ModelLoader().load_from_file(back).model.eval()
    with torch.inference_mode():
        expected = network(image)
        assert torch.allclose(loaded(image), expected, atol=1e-5)
        assert torch.equal(load_model(release)(image), expected)


def test_key_picks_the_weights(training_file: Path, network: RGT, capsys: pytest.CaptureFixture[str]) -> None:
    live = training_file.with_name("live.pth")
    assert convert(training_file, live, "--key", "params") == 0
    taken = read_checkpoint(live).state_dict()["norm.weight"]
    assert torch.equal(taken, network.state_dict()["norm.weight"] + 1)
    assert convert(live, training_file.with_name("a.pth"), "--key", "params_ema") == 2
    assert "has no params_ema, it holds params" in capsys.readouterr().err
    torch.save({"model": network.state_dict(), "swa-model": read_checkpoint(live).state_dict()}, training_file)
    for key, value in {"model": 1.0, "swa-model": 2.0, "swa_model": 2.0}.items():
        assert convert(training_file, live.with_name("a.pth"), "--key", key, "--overwrite") == 0
        assert read_checkpoint(live.with_name("a.pth")).state_dict()["norm.weight"][0] == value


def test_half_halves_the_size_and_slim_is_optional(training_file: Path) -> None:
    sizes = {}
    for name, flags in {
        "a.safetensors": [],
        "half.safetensors": ["--half"],
        "full.safetensors": ["--no-slim"],
        "a.pth": [],
        "slim.pth": ["--slim"],
    }.items():
        assert convert(training_file, training_file.with_name(name), *flags) == 0
        sizes[name] = training_file.with_name(name).stat().st_size
        assert load_model(training_file.with_name(name)).split_size == (8, 16)
    assert sizes["half.safetensors"] < 0.55 * sizes["a.safetensors"]
    assert sizes["slim.pth"] < sizes["a.pth"] < sizes["full.safetensors"]
    half = read_checkpoint(training_file.with_name("half.safetensors")).state_dict()
    assert {tensor.dtype for tensor in half.values()} == {torch.float16}


def test_half_refuses_values_that_float16_cannot_hold(
    tmp_path: Path, network: RGT, capsys: pytest.CaptureFixture[str]
) -> None:
    state_dict = network.state_dict()
    state_dict["norm.bias"] = torch.full_like(state_dict["norm.bias"], 1e5)
    torch.save(state_dict, tmp_path / "net.pth")
    assert convert(tmp_path / "net.pth", tmp_path / "half.pth", "--half") == 2
    assert "norm.bias has values that float16 cannot hold" in capsys.readouterr().err
    assert not (tmp_path / "half.pth").exists()


def test_set_records_arguments_unknown_from_weights_and_reads_numbers_like_option_files(training_file: Path) -> None:
    target = training_file.with_name("a.safetensors")
    target.write_bytes(b"old")
    for text, value in (("1e-1", 0.1), ("2.5e2", 250.0), ("255", 255), (".5", 0.5)):
        flags = ("--set", f"img_range={text}", "--set", "qk_scale=~", "--overwrite")
        assert convert(training_file, target, *flags) == 0
        assert read_checkpoint(target).config["img_range"] == value
        assert load_model(target).img_range == value


@pytest.mark.parametrize(
    ("target", "flags", "words"),
    [
        ("net_g_500.pth", ["--overwrite"], "is one of the inputs"),
        ("link.pth", ["--overwrite"], "is one of the inputs"),
        ("there.pth", [], "exists; --overwrite replaces it"),
        ("nowhere/a.pth", [], "nowhere; make it, or name another place"),
        ("a.onnx", [], "unknown suffix '.onnx'"),
        (".", [], "unknown suffix"),
        ("a.pth", ["--set", "img_range"], "write ARGUMENT=VALUE"),
        ("a.pth", ["--set", "img_range=[1"], "not valid YAML"),
        ("a.pth", ["--set", "embed_dim=180"], "embed_dim is given or recorded as 180, but the weights have 96"),
        ("a.pth", ["--set", "img_rang=1"], "did you mean `img_range`?"),
    ],
)
def test_refusals_are_one_line_errors_and_write_nothing(
    training_file: Path, capsys: pytest.CaptureFixture[str], target: str, flags: list[str], words: str
) -> None:
    folder = training_file.parent
    (folder / "there.pth").write_bytes(b"precious")
    (folder / "link.pth").symlink_to(training_file)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert convert(training_file, folder / target, *flags) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
