"""`rgt bench`: tables on stdout, errors in one line, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from rgt_arch.cli import main

TINY = ["--full-images", "1", "--batch", "1", "--steps", "9", "--samples", "8", "--rounds", "1", "--workers", "1"]


def test_data_prints_machine_and_every_row_and_removes_its_files(tmp_path, capsys):
    """On real training steps of RGT-T."""
    assert main(["bench", "data", *TINY, "--device", "cpu", "--work-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "torch threads" in out.splitlines()[0]
    assert "1 mosaic of 5 photographs of scikit-image" in out
    for row in ("full images, disk", "sub-images, disk", "sub-images, LMDB"):
        line = next(line for line in out.splitlines() if line.startswith(row))
        ours, plain, ratio, _ = map(float, line.removeprefix(row).split())
        assert ratio == pytest.approx(ours / plain, abs=0.02)
    for row in (
        "waiting for data, % of time",
        "longest wait at an epoch end, ms",
        "median wait inside an epoch, ms",
        "until the first batch, ms",
        "training step, ms",
    ):
        line = next(line for line in out.splitlines() if line.startswith(row))
        assert len(line.removeprefix(row).split()) == 3
    assert "RGT-T ×2 training on LMDB sub-images, batch 1" in out
    assert "Target: waiting takes less than 5%" in out
    assert not any(tmp_path.iterdir())


def test_wrong_settings_exit_2_in_one_line(tmp_path, capsys):
    assert main(["bench", "data", "--size", "3000"]) == 2
    assert capsys.readouterr().err == "rgt bench data: error: --size is 3000; give a multiple of --scale 2 up to 1356\n"
    assert main(["bench", "data", "--images", str(tmp_path / "none")]) == 2
    assert "none: no such folder" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_removes_the_files_and_exits_130(tmp_path):
    """While workers read: the step is so long that it is always then."""
    arguments = ["bench", "data", *TINY, "--step-ms", "60000", "--work-dir", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "rgt_arch.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("sub-images, LMDB"):  # part 1 is done
            break
    time.sleep(2)
    assert any(tmp_path.iterdir())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to all of its processes
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert errors.endswith("rgt bench data: interrupted\n")
    assert not any(tmp_path.iterdir())
