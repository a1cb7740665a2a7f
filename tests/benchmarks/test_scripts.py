"""Each script of benchmarks/ runs on a tiny network, compares what it says it compares, and fails in one line."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from skimage import data

from rgt_arch import rgt_t

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
TINY = "network_g: {type: RGT, upscale: 2, embed_dim: 96, depth: [2], num_heads: [4], split_size: [4, 8], mlp_ratio: 1}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    file = tmp_path_factory.mktemp("network") / "tiny.yml"
    file.write_text(TINY)
    return str(file)


def run(script: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    process = subprocess.run(
        [sys.executable, SCRIPTS / f"{script}.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.returncode == code, process.stderr
    return process


def figures(script: str, *arguments: object) -> Any:
    report = json.loads(run(script, *arguments, "--json", "-").stdout)
    assert "torch threads" in report["machine"]
    return report


def test_latency_compares_engines_with_equal_weights_in_turns(tiny):
    engines = ["official", "ours", "openvino"]
    command = (
        "latency",
        "--network",
        tiny,
        "--sizes",
        "24x40",
        "--rounds",
        2,
        "--device",
        "cpu",
        "--engines",
        *engines,
    )
    report = figures(*command)
    rows = {(row["engine"], row["dtype"]): row for row in report["rows"]}
    present = engines if importlib.util.find_spec("openvino") else engines[:2]
    assert list(rows) == [(engine, dtype) for dtype in ("fp32", "bf16") for engine in present]
    base = rows["official", "fp32"]
    for (engine, dtype), row in rows.items():
        assert len(row["times"]) == 2
        assert row["seconds"] == pytest.approx(sum(row["times"]) / 2)
        assert row["speedup"] == pytest.approx(base["seconds"] / row["seconds"])
        best = max(report["best_flops_per_second"][dtype].values())
        assert row["share_of_best"] == pytest.approx(row["flops_per_second"] / best)
        if dtype == "fp32" and engine != "official":
            assert row["agreement"]["difference"] < 1e-4
    assert base["agreement"] is None
    assert 40 < rows["ours", "bf16"]["agreement"]["psnr"] < 90, "bfloat16 was on"


def test_memory_is_measured_in_fresh_processes_and_a_shortage_is_no_abort(tiny):
    rows = figures("memory", "--network", tiny, "--sizes", "64x64", "--device", "cpu")["rows"]
    assert [row["engine"] for row in rows] == ["official", "ours"]
    assert rows[0]["ratio"] == 1
    assert all(row["memory"] > 4 * 96 * 64 * 64 for row in rows), "a feature map is the least"
    limited = ("--sizes", "512x512", "--engines", "ours", "--memory-limit", 0.05, "--device", "cpu")
    (row,) = figures("memory", "--network", tiny, *limited)["rows"]
    assert (row["memory"], row["needed"]) == (None, 50_000_000)


def test_scaling_fits_growth_and_draws_it(tiny, tmp_path):
    plot = tmp_path / "growth.png"
    report = figures("scaling", "--network", tiny, "--sizes", "16x16", "64x64", "--device", "cpu", "--plot", plot)
    assert [(row["engine"], row["height"]) for row in report["rows"]] == [("ours", 16), ("ours", 64)]
    assert 0 < report["growth"]["time, s"]["ours"]["exponent"] < 2
    with Image.open(plot) as picture:
        assert picture.width > picture.height


def test_layers_jump_where_the_recursion_rule_has_it(tiny):
    report = figures("scaling", "--network", tiny, "--layers", "--sizes", "64x64", "255x255", "1023x1023", "1024x1024")
    a_pixel = [
        {name: products / (row["height"] * row["width"]) for name, products in row["multiply_adds"].items()}
        for row in report["rows"]
    ]
    assert [row["recursion_depth"] for row in report["rows"]] == [2, 2, 2, 3]
    assert a_pixel[2]["RG-SA"] > 5 * a_pixel[3]["RG-SA"]
    assert a_pixel[0]["L-SA"] == pytest.approx(a_pixel[3]["L-SA"], rel=1e-3)
    exponents = {name: fit["exponent"] for name, fit in report["growth"]["multiply-adds, G"].items()}
    assert exponents["L-SA"] == pytest.approx(1, abs=0.01)
    assert exponents["global attention"] == pytest.approx(2, abs=0.03)


def test_layers_are_timed_up_to_the_limit(tiny):
    sizes = ("--sizes", "16x16", "24x16", "--limit", 60, "--device", "cpu")
    rows = figures("scaling", "--network", tiny, "--layers", *sizes)["rows"]
    assert all(set(row["seconds"]) == {"global attention", "L-SA", "RG-SA"} for row in rows)


def test_train_measures_every_variant_after_comparing_gradients(tiny):
    report = figures("train", "--network", tiny, "--patch", 16, "--rounds", 1, "--batch", 2, "--device", "cpu")
    names = [(row["engine"], row["dtype"], row["use_chk"]) for row in report["rows"]]
    assert names == [("official", "fp32", False), ("official", "bf16", False)] + [
        ("ours", dtype, use_chk) for use_chk in (False, True) for dtype in ("fp32", "bf16")
    ]
    assert report["rows"][0]["speedup"] == report["rows"][0]["memory_ratio"] == 1
    assert all(row["seconds"] > 0 and row["memory"] > 0 for row in report["rows"])


def test_tiles_lose_against_the_same_images_run_whole(tmp_path):
    torch.manual_seed(1)
    torch.save({"params": rgt_t(2, depth=[2], num_heads=[6]).state_dict()}, tmp_path / "tiny.pth")
    Image.fromarray(data.chelsea()[:96, :128]).save(tmp_path / "cat.png")
    report = figures("tiles", tmp_path, "-w", tmp_path / "tiny.pth", "--tiles", 16, 1000, "--overlaps", 0, 4, 600)
    whole, coarse, _, larger, _ = report["rows"]
    assert (whole["tile"], coarse["tile"], larger["tile"]) == (0, 16, 1000)
    assert whole["psnr"] == larger["psnr"], "a tile larger than the image is the image"
    assert coarse["psnr"] == pytest.approx(whole["psnr"] - coarse["lost"])
    assert coarse["lost"] != 0


def test_data_is_read_by_both_loaders_and_removed(tmp_path):
    flags = ("--full-images", 1, "--batch", 1, "--steps", 9, "--samples", 8, "--rounds", 1, "--workers", 1)
    report = figures("data", *flags, "--step-ms", 1, "--device", "cpu", "--work-dir", tmp_path)
    assert list(report["reading"]) == ["full images, disk", "sub-images, disk", "sub-images, LMDB"]
    assert all(of["ours"] > 0 and of["BasicSR"] > 0 for of in report["reading"].values())
    assert 0 <= report["training"]["ours"]["waiting for data, % of time"] < 100
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("latency", "--sizes", "big"), 2, "'big' is not a size"),
        (("latency", "--sizes", "15x15"), 2, "the official forward crashes on so small or thin images"),
        (("latency", "--sizes", "9000x9000"), 2, "the official forward needs more than"),
        (("memory", "--groups", "9"), 2, "--groups is 9; RGT has 1 to 8 residual groups"),
        (("train", "--scale", "5"), 2, "no RGT has these arguments"),
        (("train", "--json", "no_such/x.json"), 2, "there is no folder no_such"),
        (("scaling", "--sizes", "8x8"), 2, "growth needs two sizes"),
        (("tiles", "nowhere"), 2, "nowhere: no such folder"),
        (("data", "--size", "3000"), 2, "--size is 3000; give a multiple of --scale 2 from 128 to 1356"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_one_line(arguments, code, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = run(*arguments, code=code).stderr
    assert words in error
    assert error.count("\n") == 1
