"""The same work on many files in worker processes: a bar, one line for each that fails, and a summary."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
from tqdm import tqdm

from rgt_arch.errors import UserError, printable
from rgt_arch.progress import Progress


class Task(Protocol):
    """Something to do with one file."""

    @property
    def source(self) -> Path:
        """The file, for messages."""


T = TypeVar("T", bound=Task)
R = TypeVar("R")

_MOST_WORKERS = 61  # Windows waits for no more processes at once
_TASKS_AHEAD = 4  # per worker: bounds the results held in memory while one large image is waited for


@dataclass
class Summary:
    """What came of the files of one command."""

    made: int = 0
    kept: int = 0
    """Outputs that were there already, complete."""
    failures: list[str] = field(default_factory=list)
    """One line for each file that failed."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    """Lines to print after the counts."""

    def fail(self, problem: str) -> None:
        """Count a file as failed and print the reason on stderr in one line."""
        line = printable(problem)
        self.failures.append(line)
        tqdm.write(line, file=sys.stderr)  # does not tear a bar

    def text(self) -> str:
        """Counts, time and rate in one line, then the notes."""
        rate = (self.made + self.kept) / self.seconds if self.seconds else 0.0
        counts = f"{self.made} made, {self.kept} already there, {len(self.failures)} failed"
        return "\n".join([f"images: {counts} ({self.seconds:.1f} s, {rate:.1f} images/s)", *self.notes])


def default_jobs() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def successes(
    work: Callable[[T], R],
    tasks: Sequence[T],
    summary: Summary,
    *,
    jobs: int,
    title: str,
    unit: str = "image",
    isolate: bool = False,
) -> Iterator[tuple[T, R]]:
    """Do `work` on all tasks in `jobs` processes; yields (task, result) of those that worked, in order.

    work: a function of a module, called with one task. Its exceptions become lines on stderr and in
    `summary.failures`. Neither they nor a worker that dies stop the other tasks. With jobs 1, or for one task, it runs
    in this process, unless `isolate` is set because the data could kill the process.
    """
    start = time.monotonic()
    with (
        contextlib.closing(_in_order(work, tasks, jobs, isolate)) as results,
        Progress(len(tasks), title, unit) as progress,
    ):
        for task, result in results:
            progress.advance()
            if isinstance(result, UserError):
                summary.fail(str(result))
            else:
                yield task, result
            summary.seconds = time.monotonic() - start


def _in_order(
    work: Callable[[T], R], tasks: Sequence[T], jobs: int, isolate: bool
) -> Generator[tuple[T, R | UserError], None, None]:
    if not isolate and (jobs == 1 or len(tasks) < 2):
        yield from ((task, _attempt(work, task)) for task in tasks)
        return
    jobs = max(1, min(jobs, len(tasks), _MOST_WORKERS))
    waiting, pending, pool = deque(tasks), deque[tuple[T, Future[R | UserError]]](), _pool(jobs)
    try:
        while waiting or pending:
            try:
                while waiting and len(pending) < jobs * _TASKS_AHEAD:
                    pending.append((waiting[0], pool.submit(_attempt, work, waiting[0])))
                    waiting.popleft()
                result = pending[0][1].result()
            except BrokenProcessPool:  # one of the pending tasks killed its worker: done one by one, it is found
                pool.shutdown()
                for task, _ in pending:
                    if len(tasks) == 1:
                        yield task, UserError(f"{task.source}: killed its reader: damaged, or too large for the memory")
                    else:
                        yield from _in_order(work, [task], 1, isolate=True)
                pending.clear()
                pool = _pool(jobs)
            else:
                yield pending.popleft()[0], result
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(work: Callable[[T], R], task: T) -> R | UserError:
    try:
        return work(task)
    except UserError as error:
        return error
    except MemoryError:
        return UserError(f"{task.source}: not enough memory; use fewer --jobs")
    except Exception as error:  # whatever is wrong with one file, the others are done
        return UserError(f"{task.source}: {type(error).__name__}: {' '.join(str(error).split())}")


def _pool(jobs: int) -> ProcessPoolExecutor:
    # Forked workers need no second import. Elsewhere forking is unsafe or impossible.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    # Before forking: a child that ended OpenCV's threads, which it does not have, would wait for them for ever.
    cv2.setNumThreads(1)
    return ProcessPoolExecutor(jobs, context, _start_worker)


def _start_worker() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)  # the processes share the cores
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which lets files be finished
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a broken pool ends its workers so, and must not wait for them


def _end_with_parent() -> None:
    """A killed parent cannot stop its workers, which would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
