"""Work in processes: order, failures of every kind, dying workers, counts."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rgt_arch.data import parallel
from rgt_arch.data.parallel import Summary, Task, successes
from rgt_arch.errors import UserError


def job(number: int, kind: str = "good", folder: Path = Path()) -> Task[tuple[int, str]]:
    return Task((folder / f"{number}.png",), (number, kind))


def work(task: Task[tuple[int, str]]) -> int:
    number, kind = task.name
    if kind == "user":
        raise UserError(f"{task.source}: is em\npty\x1b[31m\udcff")
    if kind == "bug":
        raise ValueError("two\nlines")
    if kind == "memory":
        raise MemoryError
    if kind == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "marks":
        task.source.touch()
    time.sleep(0.005 * (number % 3))  # so that jobs end in another order
    return number * 10


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_order_and_failures_are_single_lines(capsys: pytest.CaptureFixture[str], jobs: int) -> None:
    kinds = {3: "user", 5: "bug", 8: "memory"}
    summary = Summary()
    tasks = [job(number, kinds.get(number, "good")) for number in range(20)]
    done = [(task.name[0], result) for task, result in successes(work, tasks, summary, jobs=jobs, title="t")]
    assert done == [(number, number * 10) for number in range(20) if number not in kinds]
    assert summary.failures == [
        "3.png: is em\\npty\\x1b[31m\\udcff",
        "5.png: ValueError: two lines",
        "8.png: not enough memory; use fewer --jobs",
    ]
    assert set(summary.failures) <= set(capsys.readouterr().err.splitlines())


@pytest.mark.parametrize("isolate", [True, False])
def test_dead_worker_fails_only_its_own_file(isolate: bool) -> None:
    tasks = [job(number, "dies" if number in (4, 9) else "good") for number in range(14)]
    summary = Summary()
    jobs = 1 if isolate else 2
    done = [r for _, r in successes(work, tasks, summary, jobs=jobs, title="t", isolate=isolate)]
    assert done == [number * 10 for number in range(14) if number not in (4, 9)]
    assert [line.split(": ")[:2] for line in summary.failures] == [
        [f"{n}.png", "its worker process died"] for n in (4, 9)
    ]


def test_stopping_early_starts_no_more_jobs_and_leaves_no_worker(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    tasks = [job(number, "marks", tmp_path) for number in range(100)]
    results = successes(work, tasks, Summary(), jobs=2, title="t")
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert 1 <= len(list(tmp_path.iterdir())) <= 2 * parallel._TASKS_AHEAD
    assert set(multiprocessing.active_children()) <= before


def test_summary_has_counts_and_notes() -> None:
    summary = Summary(made=3, kept=2, failures=["a"], seconds=2.0, notes=["more"])
    assert summary.text() == "images: 3 made, 2 already there, 1 failed (2.0 s, 2.5 images/s)\nmore"


def test_workers_start_after_opencv_used_threads():
    """A forked child that stops the threads of its parent waits for ever."""
    code = """
import cv2, numpy
cv2.setNumThreads(2)
cv2.resize(cv2.GaussianBlur(numpy.zeros((2000, 2000, 3), numpy.uint8), (31, 31), 0), (999, 999))
from rgt_arch.data.parallel import _pool
with _pool(2) as pool:
    print(pool.submit(int, "3").result())
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert process.stdout == "3\n", process.stderr
