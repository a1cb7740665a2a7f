"""The processes of `rgt table` wait for the slowest one, and end when one is killed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ... import warm

LATE = str(Path(__file__).with_name("late_rank.py"))
TABLE = ["table", "bicubic", "--scales", "2", "--sets", "Set5", "--data", "benchmark", "--device", "cpu"]


@pytest.fixture
def two_ranks(write_set, tmp_path):
    """two_ranks(patience, late): start both processes of `rgt table`, rank 1 late."""
    write_set()
    ranks: list[warm.Process] = []

    def start(patience: float, late: float) -> list[warm.Process]:
        variables = warm.two_ranks(PATIENCE=str(patience), LATE=str(late))
        ranks.extend(warm.start_ranks(LATE, *TABLE, "--format", "json", cwd=tmp_path, **variables))
        return ranks

    yield start
    for rank in ranks:
        rank.kill()


def kept(folder: Path) -> list[str]:
    return sorted(file.name.split(".")[0] for file in folder.rglob("*.json"))


def test_rank_slower_than_the_default_timeout_of_torch_is_waited_for(two_ranks, tmp_path):
    first, second = two_ranks(patience=10, late=14)
    assert first.wait() == 0, first.stderr
    assert (tmp_path / "late").exists()
    assert len(json.loads(first.stdout)["results"][0]["images"]) == 3
    assert second.wait() == 0


def test_killed_rank_ends_the_others_and_their_scores_are_kept(two_ranks, table, tmp_path):
    """Without torchrun, which would itself end the other ranks."""
    first, second = two_ranks(patience=1800, late=3600)
    others, limit = ["face", "grey"], time.monotonic() + warm.LIMIT  # rank 0's share
    while not ((tmp_path / "late").exists() and kept(tmp_path / "results") == others):
        assert first.poll() is None, first.stderr
        assert time.monotonic() < limit
        time.sleep(0.1)
    time.sleep(1)  # rank 0 waits for the scores of rank 1
    second.kill()
    assert (first.wait(), first.stdout) == (1, "")
    assert "Traceback" not in first.stderr
    assert "rgt table: error: another process of this table is gone" in first.stderr
    assert kept(tmp_path / "results") == others
    table("bicubic", "--scales", 2, "--sets", "Set5")
    assert "2 of 3 images were measured before" in table.said
