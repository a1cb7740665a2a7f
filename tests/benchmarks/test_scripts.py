"""Each script of benchmarks/ runs on a tiny network, makes the comparison it documents, and fails in one line."""

from __future__ import annotations

import importlib
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image
from skimage import data

from rgt_arch import rgt_t

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
TINY = "network_g: {type: RGT, upscale: 2, embed_dim: 96, depth: [2], num_heads: [4], split_size: [4, 8], mlp_ratio: 1}"
Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """run(script, *flags): the exit code of a script."""
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.chdir(tmp_path)
    Path("tiny.yml").write_text(TINY)
    return lambda script, *flags: importlib.import_module(script).main([*map(str, flags), "--device", "cpu"])


@pytest.fixture
def rows(run: Run, capsys: pytest.CaptureFixture[str]) -> Run:
    """rows(script, *flags, table="rows"): a table of a script's results, for a tiny network."""

    def call(script: str, *flags: object, table: str = "rows") -> Any:
        network = () if script in ("tiles", "data") else ("--network", "tiny.yml")
        assert run(script, *network, *flags, "--json", "-") == 0
        report = json.loads(capsys.readouterr().out)
        assert "torch threads" in report["machine"]
        return report[table]

    return call


def test_latency_compares_engines_with_equal_weights(rows: Run) -> None:
    optional = [name for name in ("openvino", "onnxruntime") if importlib.util.find_spec(name)]
    expected = [("official", "fp32"), ("ours", "fp32"), *((name, "fp32") for name in optional)]
    flags = ("--sizes", "24x40", "--rounds", 2, "--dtypes", "fp32", "bf16")
    found = rows("latency", *flags, "--engines", "official", "ours", "openvino", "onnxruntime")
    expected += [(name, "bf16") for name, _ in expected if name != "onnxruntime"]
    assert [(row["engine"], row["dtype"]) for row in found] == expected
    for row in found:
        assert row["seconds"] == pytest.approx(sum(row["times"]) / 2)
        assert row["speedup"] == pytest.approx(found[0]["seconds"] / row["seconds"])
        assert row["difference"] < 1e-4 if row["dtype"] == "fp32" else 40 < row["psnr"] < 90, "bfloat16 was on"


@pytest.mark.parametrize("script", ["latency", "train"])
def test_busy_processes_spin_while_networks_are_measured(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str
) -> None:
    measuring = importlib.import_module("measuring")
    busy: list[psutil.Process] = []

    def measure(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        busy[:] = [child for child in psutil.Process().children() if measuring._SPIN in child.cmdline()]
        while any(child.cpu_times().user < 0.1 for child in busy):
            time.sleep(0.01)
        return [{"size": "64×64" if script == "train" else "128×128", "seconds": 1.0}]

    monkeypatch.setattr(f"{script}.measure", measure)
    assert run(script, "--network", "tiny.yml", "--busy", 2) == 0
    assert "beside 2 busy processes" in capsys.readouterr().out
    assert len(busy) == 2
    assert not any(child.is_running() for child in busy)


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_measured_by_default_only_where_it_is_native(
    rows: Run, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    importlib.import_module("latency")
    monkeypatch.setattr("networks.has_native_bfloat16", lambda device: native)
    found = rows("latency", "--sizes", "16x16", "--rounds", 1, "--engines", "ours")
    assert [row["dtype"] for row in found] == ["fp32", "bf16"][: 1 + native]


def test_memory_is_measured_in_fresh_processes_and_a_shortage_is_reported(
    rows: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    official, ours = rows("memory", "--sizes", "64x64")
    assert (official["engine"], ours["engine"], official["memory_ratio"]) == ("official", "ours", 1)
    assert min(official["GB"], ours["GB"]) > 4 * 96 * 64 * 64 / 1e9, "a feature map is the least"
    monkeypatch.setattr("measuring.free_memory", lambda device: 10**9 + 50_000_000)
    (row,) = rows("memory", "--sizes", "512x512", "--engines", "ours")
    assert (row["GB"], row["more_than_GB"]) == (None, 0.05)


def test_scaling_fits_growth_and_draws_it(rows: Run) -> None:
    growth = rows("scaling", "--sizes", "64x64", "16x16", "--plot", "growth.png", table="growth")
    assert [(fit["curve"], fit["quantity"]) for fit in growth] == [("ours fp32", "seconds"), ("ours fp32", "GB")]
    with Image.open("growth.png") as picture:
        assert picture.width > picture.height


def test_cost_of_layers_jumps_where_the_recursion_depth_changes(rows: Run) -> None:
    flags = ("scaling", "--layers", "--sizes", "64x64", "1023x1023", "1024x1024")
    a_pixel = {(row["layer"], row["size"]): row["thousands_a_pixel"] for row in rows(*flags)}
    assert a_pixel["RG-SA", "1023×1023"] > 5 * a_pixel["RG-SA", "1024×1024"]
    exponents = {fit["curve"]: fit["exponent"] for fit in rows(*flags, table="growth")}
    assert exponents["L-SA"] == pytest.approx(1, abs=0.01)
    assert exponents["global attention"] == pytest.approx(2, abs=0.05)


def test_train_measures_every_variant(rows: Run) -> None:
    found = rows("train", "--sizes", "16x16", "--rounds", 1, "--dtypes", "fp32")
    assert [(row["engine"], row["use_chk"]) for row in found] == [("official", False), ("ours", False), ("ours", True)]
    assert found[0]["speedup"] == found[0]["memory_ratio"] == 1
    assert all(row["seconds"] > 0 and row["GB"] > 0 for row in found)


def test_train_fails_if_gradients_differ(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("measuring.measure_apart", lambda case, rounds: {"seconds": 1, "GB": 1})
    monkeypatch.setattr("measuring.MOST_GRADIENT_DIFFERENCE", 0.0)
    assert run("train", "--network", "tiny.yml", "--sizes", "16x16", "--dtypes", "fp32") == 1
    assert "ours in fp32 at 16×16 differs from official" in capsys.readouterr().err


def test_tiles_reports_the_psnr_lost_against_whole_images(rows: Run) -> None:
    torch.manual_seed(1)
    torch.save({"params": rgt_t(2, depth=[2], num_heads=[6]).state_dict()}, "tiny.pth")
    Image.fromarray(data.chelsea()[:96, :128]).save("cat.png")
    whole, coarse, larger = rows("tiles", ".", "-w", "tiny.pth", "--tiles", 16, 1000, "--overlaps", 4, 600)
    assert (whole["tile"], coarse["tile"], larger["tile"]) == ("whole", 16, 1000)
    assert whole["psnr"] == larger["psnr"], "a tile larger than the image is the image"
    assert coarse["psnr"] == pytest.approx(whole["psnr"] - coarse["lost"])
    assert coarse["lost"] != 0


def test_data_is_read_by_both_loaders(rows: Run) -> None:
    Path("images").mkdir()
    Image.fromarray(data.astronaut()).save("images/astronaut.png")
    flags = ("--images", "images", "--batch", 1, "--steps", 9, "--rounds", 1, "--workers", 1, "--step-ms", 1)
    found = {row["measured"]: row for row in rows("data", *flags)}
    assert all(row["ours"] > 0 and row["BasicSR"] > 0 for row in found.values())
    assert found["waiting for data, % of time"]["ours"] < 100


WRONG = [
    (2, "'big' is not a size", "latency", "--sizes", "big"),
    (1, "choose other --sizes, or --engines ours", "latency", "--sizes", "15x15", "--groups", 1),
    (2, "--groups is 9; RGT has 1 to 8 residual groups", "memory", "--groups", 9),
    (2, "no RGT has these arguments", "train", "--scale", 5),
    (2, "there is no folder no_such", "train", "--json", "no_such/x.json"),
    (2, "growth needs two sizes", "scaling", "--sizes", "8x8"),
    (2, "nowhere: there are no pictures in it", "tiles", "nowhere"),
]


def test_wrong_usage_is_a_one_line_error(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for code, words, *command in WRONG:
        assert run(*command) == code, command
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
