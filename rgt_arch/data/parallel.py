"""Process many files in worker processes, with a progress bar, one line for each failed file, and a summary."""

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
from typing import Generic, Protocol, TypeVar

import cv2
from tqdm import tqdm

from rgt_arch.data.images import passed_over_by_suffix
from rgt_arch.errors import UserError, printable
from rgt_arch.progress import Progress


class Sourced(Protocol):
    """Work on one file."""

    @property
    def source(self) -> Path:
        """The file, for messages."""


N = TypeVar("N")
R = TypeVar("R")
T = TypeVar("T", bound=Sourced)

_MOST_WORKERS = 61  # Windows cannot wait for more processes at once
_TASKS_AHEAD = 4  # per worker: bounds the results in memory while one large image is processed


@dataclass(frozen=True)
class Task(Generic[N]):
    """Work on an image file, or on files that belong together."""

    sources: tuple[Path, ...]
    """Messages name the first one."""
    name: N
    """Name of the result: a path, an LMDB key, the names in a list."""

    @property
    def source(self) -> Path:
        """The file, for messages."""
        return self.sources[0]


@dataclass
class Summary:
    """Counts, failures and notes of one command."""

    made: int = 0
    kept: int = 0
    """Complete outputs that existed before."""
    failures: list[str] = field(default_factory=list)
    """One line for each file that failed."""
    passed_over: list[Path] = field(default_factory=list)
    """Files of the input folders that are not named like images."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    """Lines to print after the counts."""

    def fail(self, problem: str) -> None:
        """Count a file as failed and print the reason on stderr in one line."""
        line = printable(problem)
        self.failures.append(line)
        tqdm.write(line, file=sys.stderr)  # does not tear a bar

    def text(self) -> str:
        """Counts, time and rate in one line, then the files passed over, by suffix, and the notes."""
        rate = (self.made + self.kept) / self.seconds if self.seconds else 0.0
        counts = f"{self.made} made, {self.kept} already there, {len(self.failures)} failed"
        lines = [f"images: {counts} ({self.seconds:.1f} s, {rate:.1f} images/s)"]
        return "\n".join([*lines, *filter(None, [passed_over_by_suffix(self.passed_over)]), *self.notes])


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
    """Call `work` on all tasks in `jobs` processes; yield (task, result) of the successful ones, in order.

    work: a module-level function of one task. Its exceptions become lines on stderr and in `summary.failures`. Neither
    an exception nor a dead worker stops the other tasks. With jobs 1, or for one task, `work` runs in this process,
    unless `isolate` is set because the data could kill the process.
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
            except BrokenProcessPool:  # a pending task killed its worker: run them one by one to find it
                pool.shutdown()
                for task, _ in pending:
                    if len(tasks) == 1:
                        reason = "its worker process died: it is damaged, or needs too much memory"
                        yield task, UserError(f"{task.source}: {reason}")
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
    except Exception as error:  # an error in one file must not stop the others
        return UserError(f"{task.source}: {type(error).__name__}: {' '.join(str(error).split())}")


def _pool(jobs: int) -> ProcessPoolExecutor:
    # Forked workers need no second import. Elsewhere forking is unsafe or impossible.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    # Before forking: a child has no copies of OpenCV's threads, and would wait for ever when it ended them.
    cv2.setNumThreads(1)
    return ProcessPoolExecutor(jobs, context, _start_worker)


def _start_worker() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)  # the processes share the cores
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and lets workers finish their files
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a broken pool sends it to its workers and must not wait for them


def _end_with_parent() -> None:
    """End this worker with its parent. A killed parent cannot stop its workers, which would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
