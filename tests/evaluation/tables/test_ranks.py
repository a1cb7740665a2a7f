"""The processes of `rgt table` wait for the slowest one, and end when one is killed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

LATE = str(Path(__file__).with_name("late_rank.py"))
TABLE = ["table", "bicubic", "--scales", "2", "--sets", "Set5", "--data", "benchmark", "--device", "cpu"]
LIMIT = 240


@pytest.fixture
def two_ranks(write_set, tmp_path):
    """two_ranks(patience, late): start both processes of `rgt table`, rank 1 late, with pipes for stdout and stderr."""
    write_set()
    ranks: list[subprocess.Popen[str]] = []

    def start(patience: float, late: float) -> list[subprocess.Popen[str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
        for rank in range(2):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "PATIENCE": str(patience), "LATE": str(late)}
            ranks.append(
                subprocess.Popen(
                    [sys.executable, LATE, *TABLE, "--format", "json"],
                    cwd=tmp_path,
                    env={**os.environ, "OMP_NUM_THREADS": "1", **meeting, **own},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        return ranks

    yield start
    for rank in ranks:
        rank.kill()
        rank.communicate()


def kept(folder: Path) -> list[str]:
    return sorted(file.name.split(".")[0] for file in folder.rglob("*.json"))


def test_rank_slower_than_the_default_timeout_of_torch_is_waited_for(two_ranks, tmp_path):
    first, second = two_ranks(patience=10, late=14)
    out, err = first.communicate(timeout=LIMIT)
    assert (tmp_path / "late").exists(), err
    assert first.returncode == 0, err
    assert len(json.loads(out)["results"][0]["images"]) == 3
    assert second.wait(LIMIT) == 0


def test_killed_rank_ends_the_others_and_their_scores_are_kept(two_ranks, table, tmp_path):
    """Without torchrun, which would itself end the other ranks."""
    first, second = two_ranks(patience=1800, late=3600)
    others, limit = ["face", "grey"], time.monotonic() + LIMIT  # rank 0's share
    while not ((tmp_path / "late").exists() and kept(tmp_path / "results") == others):
        assert first.poll() is None, first.communicate()[1]
        assert time.monotonic() < limit
        time.sleep(0.1)
    time.sleep(1)  # rank 0 waits for the scores of rank 1
    second.kill()
    out, err = first.communicate(timeout=LIMIT)
    assert (first.returncode, out) == (1, "")
    assert "Traceback" not in err
    assert "rgt table: error: another process of this table is gone" in err
    assert kept(tmp_path / "results") == others
    table("bicubic", "--scales", 2, "--sets", "Set5")
    assert "2 of 3 images were measured before" in table.said
