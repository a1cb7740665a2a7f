"""`rgt export`: its files are right at every size, or are not written, and `Upscaler` runs them."""

from __future__ import annotations

import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from unittest.mock import Mock

import av
import numpy as np
import pytest
import torch
from PIL import Image

from rgt_arch import RGT, Upscaler, rgt_t
from rgt_arch.cli import main
from rgt_arch.errors import UsageError, UserError
from rgt_arch.inference.onnx_network import OnnxNetwork
from rgt_arch.weights.writing import save_checkpoint

onnx = pytest.importorskip("onnx", reason="needs the extra [export]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra [export]")
graph = pytest.importorskip("rgt_arch.export.graph")


def export(*arguments: object) -> int:
    return main(["export", *map(str, arguments)])


@pytest.fixture(scope="module")
def network() -> RGT:
    torch.manual_seed(0)
    network = rgt_t(2, depth=[3], num_heads=[6], split_size=[4, 8]).eval()  # L-SA, RG-SA, L-SA with shifted windows
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return network


@pytest.fixture(scope="module")
def weights(network: RGT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("weights") / "mine.safetensors", network)


@pytest.fixture(scope="module")
def file(weights: Path) -> Path:
    target = weights.with_name("mine.onnx")
    assert export(weights, "-o", target) == 0
    return target


@pytest.fixture(scope="module")
def fixed(weights: Path) -> Path:
    target = weights.with_name("fixed.onnx")
    assert export(weights, "-o", target, "--size", "24x16") == 0
    return target


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 2, 40), (1, 7, 8), (3, 16, 9), (1, 31, 33)])
def test_results_equal_pytorch_at_sizes_that_the_export_did_not_check(
    network: RGT, file: Path, shape: tuple[int, int, int]
) -> None:
    image = torch.rand(shape[0], 3, *shape[1:])
    with torch.inference_mode():
        torch.testing.assert_close(OnnxNetwork(file, "cpu")(image), network(image), rtol=0, atol=1e-4)


def test_metadata_say_what_a_program_has_to_know(file: Path, fixed: Path) -> None:
    facts = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    facts.pop("rgt_arch")
    assert facts == {
        "network": "RGT", "scale": "2", "weights": "mine", "licence": "that of the weights", "channels": "RGB",
        "range": "0 to 1", "precision": "fp32", "sizes": "1 pixel a side or more",
    }  # fmt: skip
    assert "24x16" in {entry.value for entry in onnx.load(fixed).metadata_props}
    assert str(Path(__file__).parents[2]).encode() not in file.read_bytes()


def test_a_file_that_differs_from_pytorch_is_not_written(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = weights.with_name("kept.onnx")
    target.write_bytes(b"precious")
    assert export(weights, "-o", target) == 2
    assert "exists; --overwrite replaces it" in capsys.readouterr().err
    shift = graph._Graph._windows
    monkeypatch.setattr(graph._Graph, "_windows", lambda *arguments: shift(*arguments)._replace(mask=None))
    assert export(weights, "-o", target, "--size", "16x16", "--overwrite") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "not written: its results differ from PyTorch's by" in error
    assert target.read_bytes() == b"precious"
    assert not list(target.parent.glob(".*"))


@pytest.mark.parametrize("tile", ["auto", 16])
@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_upscaler_gives_the_picture_of_the_network(
    network: RGT, file: Path, tile: int | str, channels: tuple[int, ...]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (21, 30, *channels), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = Upscaler(file, tile=tile).upscale(image)
    expected = Upscaler(network, device="cpu", tile=0 if tile == "auto" else tile).upscale(image)
    assert np.abs(result.astype(int) - expected).max() <= 1


def test_a_file_of_fixed_size_upscales_smaller_and_larger_pictures(network: RGT, fixed: Path) -> None:
    upscaler, image = Upscaler(fixed), np.random.default_rng(0).random((40, 20, 3), np.float32)
    assert upscaler.upscale(image).shape == (80, 40, 3)
    assert upscaler.used_tile == 16
    expected = Upscaler(network, device="cpu").upscale(np.pad(image[:9, :7], ((0, 15), (0, 9), (0, 0)), "edge"))
    result = upscaler.upscale(image[:9, :7])
    assert np.abs(result - expected[:18, :14])[4:-4, 4:-4].max() < 1e-4
    with pytest.raises(UsageError, match="exported for 16 only"):
        Upscaler(fixed, tile=32)


def test_the_self_ensemble_runs_a_file_of_any_size_and_one_of_a_fixed_oblong_size(
    network: RGT, file: Path, fixed: Path
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 13, 3), np.uint8)
    expected = Upscaler(network, device="cpu", self_ensemble=True).upscale(image)
    result = Upscaler(file, self_ensemble=True).upscale(image)
    assert np.abs(result.astype(int) - expected).max() <= 1
    assert Upscaler(fixed, self_ensemble=True).upscale(image).shape == expected.shape


def test_the_command_upscales_pictures_and_videos_with_a_file(file: Path, tmp_path: Path) -> None:
    Image.new("RGBA", (9, 7), "red").save(tmp_path / "a.png")
    with av.open(tmp_path / "b.mp4", "w") as video:
        stream = video.add_stream("libx264", rate=25)
        stream.width, stream.height = 24, 16
        frame = av.VideoFrame.from_ndarray(np.full((16, 24, 3), 80, np.uint8), format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode()]:
            video.mux(packet)
    assert main(["upscale", str(tmp_path), "-o", str(tmp_path / "out"), "-w", str(file)]) == 0
    assert Image.open(tmp_path / "out/a_x2.png").size == (18, 14)
    with av.open(tmp_path / "out/b_x2.mp4") as video:
        assert [(frame.width, frame.height) for frame in video.decode(video=0)] == [(48, 32)]


def test_half_precision_is_inside_the_file_only(weights: Path, network: RGT) -> None:
    target = weights.with_name("half.onnx")
    assert export(weights, "-o", target, "--size", "16x16", "--precision", "fp16") == 0
    image = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        result = OnnxNetwork(target, "cpu")(image)
        assert result.dtype == torch.float32
        assert 0 < (result - network(image)).abs().max() < 2e-2
    with pytest.raises(UsageError, match="has its own"):
        Upscaler(target, precision="bf16")


def test_a_program_runs_without_the_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = save_checkpoint(tmp_path / "mine.safetensors", rgt_t(2, depth=[2], num_heads=[6]))
    target = tmp_path / "mine.pt2"
    assert export(weights, "-o", target, "--size", "16x24", "--precision", "bf16") == 0
    assert "16x24: " in capsys.readouterr().out
    code = f"""
import sys
sys.modules["rgt_arch"] = None  # an import of it fails
import torch
facts = {{"scale": ""}}
program = torch.export.load({str(target)!r}, extra_files=facts)
print(facts["scale"], program.module()(torch.zeros(1, 3, 16, 24)).dtype)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.stdout == "2 torch.float32\n", run.stderr
    with zipfile.ZipFile(target) as archive:
        assert not any(str(Path(__file__).parents[2]).encode() in archive.read(name) for name in archive.namelist())


def test_other_files_are_refused_in_one_line(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    with pytest.raises(UsageError, match=r"a\.onnx: onnxruntime cannot run it"):
        Upscaler(tmp_path / "a.onnx")
    with pytest.raises(UsageError, match=r"b\.onnx: no such file"):
        Upscaler(tmp_path / "b.onnx")
    with pytest.raises(UsageError, match="device cuda is not available to onnxruntime"):
        Upscaler(tmp_path / "a.onnx", device="cuda")
    for arguments, words in (
        ((weights, "-o", "a.tflite"), "unknown suffix '.tflite'; take .onnx"),
        ((weights, "-o", tmp_path / "c.onnx", "--precision", "bf16"), "--precision bf16: onnxruntime does not run"),
        ((weights, "-o", tmp_path / "c.pt2"), "takes one size; name it, such as --size 64x64"),
        (("nothing", "-o", tmp_path / "c.onnx"), "nothing: no such file"),
        ((tmp_path / "a.onnx", "-o", tmp_path / "c.onnx"), "a.onnx: is a program, not a checkpoint"),
    ):
        assert export(*arguments) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        export(weights, "-o", tmp_path / "c.onnx", "--size", "5000x64")
    assert "5000x64 is not HEIGHTxWIDTH of 16 to 4096 pixels" in capsys.readouterr().err


def test_a_picture_that_is_too_large_is_a_lack_of_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = OnnxNetwork(file, "cpu")
    for text, error, words in (
        ("[ONNXRuntimeError] Failed to allocate memory for requested buffer", MemoryError, "allocate"),
        ("[ONNXRuntimeError] another fault\nmore", UserError, r"another fault$"),
    ):
        monkeypatch.setattr(network.session, "run", Mock(side_effect=Exception(text)))
        with pytest.raises(error, match=words):
            network(torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("device", "current", "expected"),
    [
        ("auto", 3, [("CUDAExecutionProvider", 3), ("CPUExecutionProvider", None)]),
        ("auto", None, [("CUDAExecutionProvider", 0), ("CPUExecutionProvider", None)]),
        ("cuda", 3, [("CUDAExecutionProvider", 3), ("CPUExecutionProvider", None)]),
        ("cuda:1", 3, [("CUDAExecutionProvider", 1), ("CPUExecutionProvider", None)]),
        ("cpu", 3, [("CPUExecutionProvider", None)]),
        (
            "tensorrt:2",
            3,
            [("TensorrtExecutionProvider", 2), ("CUDAExecutionProvider", 2), ("CPUExecutionProvider", None)],
        ),
    ],
)
def test_a_file_runs_on_the_gpu_of_the_process_or_on_that_of_the_device(
    file: Path, monkeypatch: pytest.MonkeyPatch, device: str, current: int | None, expected: object
) -> None:
    seen, real = [], onnxruntime.InferenceSession

    def recorded(path: Path, options: object, providers: list[str], settings: list[dict[str, int]]) -> object:
        seen.extend(zip(providers, (setting.get("device_id") for setting in settings), strict=True))
        return real(path, options, ["CPUExecutionProvider"])

    installed = [f"{name}ExecutionProvider" for name in ("Tensorrt", "CUDA", "CPU")]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: installed)
    monkeypatch.setattr(onnxruntime, "InferenceSession", recorded)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: current is not None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    OnnxNetwork(file, device)
    assert seen == expected
    with pytest.raises(UsageError, match="device cuda:x is not available"):
        OnnxNetwork(file, "cuda:x")


def test_a_batch_has_no_effect_on_a_file(file: Path) -> None:
    with pytest.warns(UserWarning, match="batch 4 has no effect on an ONNX file, which runs one at a time"):
        assert Upscaler(file, batch=4).batch == 1
