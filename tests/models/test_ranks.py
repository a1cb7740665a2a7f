"""Two processes over gloo do what one does: the same step, and the same means to the last bit."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import RGT


def run(folder: Path, world_size: int) -> list[dict]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment["OMP_NUM_THREADS"] = "1"
    script = str(Path(__file__).with_name("ranks.py"))
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(folder)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
    return [json.loads((folder / f"{world_size}-{rank}.json").read_text()) for rank in range(world_size)]


@pytest.fixture
def results(options, loader, tmp_path) -> tuple[dict, dict, dict]:
    """Findings of one process, and of the two ranks of a run with two micro-batches each."""
    metrics = {
        "psnr": {"type": "calculate_psnr", "crop_border": 2},
        "ssim": {"type": "calculate_ssim", "crop_border": 2},
    }
    opt = options(
        RGT,
        val={"metrics": metrics},
        train={"grad_clip": 0.5, "nan_patience": 1, "optim_g": {"type": "SGD", "lr": 0.1}},
    )
    for name, images in (("five", 5), ("one", 1)):  # neither divides by two; the second leaves a rank without images
        (tmp_path / f"{name}.json").write_text(json.dumps(dict(loader(images, name=name).dataset.opt)))
        data = json.loads((tmp_path / f"{name}.json").read_text())
        (tmp_path / f"{name}.json").write_text(json.dumps({**data, "io_backend": {"type": "disk"}}))
    (tmp_path / "options.json").write_text(json.dumps(opt))
    [alone] = run(tmp_path, 1)
    opt["train"]["accumulate"] = 2
    (tmp_path / "options.json").write_text(json.dumps(opt))
    first, second = run(tmp_path, 2)
    return alone, first, second


def test_two_ranks_equal_one_process(results, tmp_path):
    alone, first, second = results
    assert first["weights"] == second["weights"]
    assert first["weights"] == pytest.approx(alone["weights"], rel=1e-5, abs=1e-5)
    assert first["log"] == second["log"] == pytest.approx(alone["log"], rel=1e-4)
    assert first["results"] == second["results"] == alone["results"]
    assert first["best"] == second["best"] == alone["best"]
    # one reduction of gradients a step and bucket, though each step has two micro-batches
    assert 1 <= first["reductions"] <= 4
    saved = sorted(path.name for path in (tmp_path / "visualization").rglob("*.png"))
    assert saved == [f"img{number}_0.png" for number in range(5)]
    # the last rank's broken image stops both, and each names the images of both
    assert first["refusal"] == second["refusal"]
    assert "0.png, 1.png" in first["refusal"]
    assert first["kept"]
    assert second["kept"]
