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
import psutil
from tqdm import tqdm

from rgt_arch.errors import UsageError, UserError, printable
from rgt_arch.progress import Progress


class Task(Protocol):
    """Something to do with one file."""

    @property
    def source(self) -> Path:
        """The file, for messages."""


T = TypeVar("T", bound=Task)
R = TypeVar("R")

_MOST_PROCESSES_ON_WINDOWS = 61  # it waits for no more of them at once
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

    @property
    def exit_code(self) -> int:
        """1 if a file failed, else 0."""
        return int(bool(self.failures))

    def fail(self, problem: str) -> None:
        """Count a file as failed, and tell why on stderr in one line."""
        line = printable(problem)
        self.failures.append(line)
        tqdm.write(line, file=sys.stderr)  # does not tear a bar

    def line(self, unit: str = "image") -> str:
        """Counts, time and rate in one line; `unit` in singular."""
        parts = [f"{self.made} made", f"{self.kept} already there", f"{len(self.failures)} failed"]
        rate = (self.made + self.kept) / self.seconds if self.seconds else 0.0
        return f"{unit}s: {', '.join(parts)} ({self.seconds:.1f} s, {rate:.1f} {unit}s/s)"


def default_jobs() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_running(process: int) -> bool:
    """Whether another process with this id runs here; an earlier run in a container may have had our own id."""
    try:
        return process != os.getpid() and psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


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

    work: a function of a module, called with one task; what it raises becomes a line on stderr and in
    `summary.failures`, and never stops the others, nor does a worker that dies. With jobs 1, or for one task, it runs
    in this process, unless `isolate` says that what it reads could kill that.
    Raises UsageError for jobs < 1.
    """
    if jobs < 1:
        raise UsageError(f"--jobs is {jobs}; it must be at least 1")
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
    waiting, pending = deque(tasks), deque[tuple[T, Future[R | UserError]]]()
    pool = _pool(min(jobs, len(tasks)))
    try:
        while waiting or pending:
            try:
                while waiting and len(pending) < jobs * _TASKS_AHEAD:
                    pending.append((waiting[0], pool.submit(_attempt, work, waiting[0])))
                    waiting.popleft()
                result = pending[0][1].result()
            except BrokenProcessPool:
                # One of the pending tasks killed its worker and with it the pool: tried one by one, it shows itself.
                pool.shutdown()
                for task, future in pending:
                    done = future.done() and future.exception() is None
                    yield task, future.result() if done else _alone(work, task)
                pending.clear()
                pool = _pool(min(jobs, len(tasks)))
            else:
                yield pending.popleft()[0], result
    finally:
        pool.shutdown(cancel_futures=True)


def _alone(work: Callable[[T], R], task: T) -> R | UserError:
    with _pool(1) as pool:
        try:
            return pool.submit(_attempt, work, task).result()
        except BrokenProcessPool:
            return UserError(
                f"{task.source}: the process that read it died: the file is damaged, or too large for the memory"
            )


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
    # Forked workers need no second import of torch. Elsewhere forking is unsafe or impossible.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    # Before forking: a child that ended OpenCV's threads, which it does not have, would wait for them for ever.
    _one_opencv_thread()
    most = _MOST_PROCESSES_ON_WINDOWS if sys.platform == "win32" else jobs
    return ProcessPoolExecutor(min(jobs, most), context, _start_worker)


def _one_opencv_thread() -> None:
    """The processes share the cores."""
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)


def _start_worker() -> None:
    _one_opencv_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which lets files be finished
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a broken pool ends its workers so, and must not wait for them
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot stop its workers, which would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
