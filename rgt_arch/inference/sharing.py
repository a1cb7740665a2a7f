"""Share numbered work among the processes of torchrun or Slurm, through torch's key-value store.

Each process takes the next number from a counter in the store and puts the result there. A thread in each process shows
that the process lives; that of rank 0 collects the results. There is no process group, in which a death would block the
others. torchrun ends all processes when one dies, and then one of them reports for all.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from rgt_arch.errors import UsageError, UserError
from rgt_arch.launchers import (
    SEPARATELY,
    finding_each_other,
    gpu_here,
    launcher_here,
    meeting,
    processes_here,
    ranks_here,
)
from rgt_arch.machine import cores

_PATIENCE = timedelta(minutes=5)  # until all processes have started
_SECONDS_BETWEEN_LOOKS = 0.3
_LOOKS_OF_A_DEAD_PROCESS = 200  # without a sign of life; not seconds: a scheduler may suspend all processes
_FINISHED, _FAILED = b"\0", b"\xff"  # beside the numbers of signals


class LostContactError(UserError):
    """The process that keeps the store is gone."""


@contextmanager
def joined_crew(on_gpu: bool) -> Iterator[Crew | None]:
    """Yield the crew of this process, None for a single process. Chooses its GPU, or its share of the cores.

    Raises UserError if the processes do not find each other, or rank 0 is gone.
    """
    launcher = launcher_here(srun=True)
    if launcher == "none":
        yield None
        return
    rank, size = ranks_here(launcher)
    if on_gpu and torch.cuda.is_available():
        torch.cuda.set_device(gpu_here(rank, wrapping=launcher == "slurm"))
    if launcher == "pytorch" and os.environ.get("OMP_NUM_THREADS") == "1":  # torchrun's default; Slurm binds to cores
        torch.set_num_threads(max(1, cores() // processes_here()))
    with finding_each_other(size):
        own = meeting(rank, size, _PATIENCE)
        store = own["store"] if own else next(dist.rendezvous("env://", rank, size, timeout=_PATIENCE))[0]
    try:
        yield Crew(store, rank, size, outlives=bool(own))
    except dist.DistError as error:
        raise LostContactError("rank 0 of this run is gone; run the same command again") from error


class Crew:
    """The processes that share the work of a command."""

    def __init__(self, store: dist.Store, rank: int, size: int, outlives: bool) -> None:
        """outlives: whether the store outlives rank 0."""
        self.rank, self.size, self._store, self._outlives = rank, size, store, outlives
        self._reached = self._looks = 0
        self._watched = threading.Event()
        self.is_ended = False
        """Whether a signal or an error has ended the run, so that no further work may begin."""
        self._told: set[int] = set()
        self._signs = {other: ("", 0) for other in range(size) if other != rank}

    def from_rank_zero(self, make: Callable[[], str], call: str) -> str:
        """Return the text that `make` returns on rank 0. If it raises there, the other processes exit.

        call: describes the command. Raises UsageError if it differs from rank 0's: these are separate runs.
        """
        if self.rank == 0:
            answer = {"code": 1, "call": call}
            try:
                answer |= {"text": make(), "code": 0}
            except UserError as error:
                answer["code"] = error.exit_code
                raise
            finally:
                self._store.set("answer", json.dumps(answer))
                looks = 30 * bool(answer["code"])  # the store may end with this process
                while looks and self._store.add("heard", 0) < self.size - 1:
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
                    looks -= 1
            return str(answer["text"])
        while not self._store.check(["answer"]):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        answer = json.loads(self._store.get("answer"))
        self._store.add("heard", 1)
        if answer["call"] != call:
            raise UsageError(
                f"rank {self.rank} has other inputs or flags than rank 0, but the processes of a run share its files; "
                f"{SEPARATELY}"
            )
        if answer["code"]:
            time.sleep(2)  # torchrun ends the others as soon as one has ended; rank 0 has to print its error
            raise SystemExit(answer["code"])
        return str(answer["text"])

    @contextmanager
    def sharing(
        self,
        count: int,
        tell: Callable[[int, Any], None],
        reach: Callable[[int], None],
        end: Callable[[], None],
    ) -> Iterator[Iterator[int]]:
        """Yield an iterator over this process's share of the numbers below `count`. Rank 0 leaves last.

        In a thread: tell(number, result) for each `finish`, and reach(sum of the processes' units) on rank 0; both
        before end(), in one process, if a signal or an error ends the run. An OSError of these functions also ends it.
        """
        self._count, self._tell = count, tell
        receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        before = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(receiver, reach, end)).start()
        try:
            yield self._numbers()
            self._sender.send(_FINISHED)
            self._watched.wait()  # not Thread.join, after which an interrupted thread counts as ended
        except BaseException:
            self._sender.send(_FAILED)
            raise
        finally:
            self._watched.wait()
            signal.set_wakeup_fd(before)
        if self.is_ended:
            raise SystemExit(1)

    def _numbers(self) -> Iterator[int]:
        # checked, because a signal's exception is lost in a callback from C, as of libvips
        while not self.is_ended and (number := self._store.add("taken", 1) - 1) < self._count:
            yield number

    def finish(self, number: int, result: Any) -> None:
        """Hand over the result, which JSON can hold."""
        self._store.set(f"result {number}", json.dumps(result))

    def reach(self, done: int) -> None:
        """Show that this process has done `done` units of work."""
        self._reached = done

    def unfinished(self) -> tuple[list[int], int]:
        """Return the numbers that a process took and did not finish, and how many numbers nobody took."""
        taken = self._collect()
        return sorted({*range(taken)} - self._told), self._count - taken

    def _collect(self) -> int:
        """Tell new results; return how many numbers are taken."""
        taken = min(self._store.add("taken", 0), self._count)
        for number in {*range(taken)} - self._told:
            if self._store.check([f"result {number}"]):
                self._told.add(number)
                self._tell(number, json.loads(self._store.get(f"result {number}")))
        return taken

    def _watch(self, receiver: socket.socket, reach: Callable[[int], None], end: Callable[[], None]) -> None:
        """Until the work or the run ends: show that this process lives; on rank 0, collect what others have done."""
        finished, are_working = False, self.rank == 0
        try:
            while not finished or are_working:
                ready, _, _ = select.select([receiver], [], [], _SECONDS_BETWEEN_LOOKS)
                heard = receiver.recv(64) if ready else b""
                finished = finished or _FINISHED in heard
                self._looks += 1
                self._store.set(f"sign {self.rank}", f"{self._looks} {self._reached}")
                if heard.strip(_FINISHED):
                    self.is_ended = True
                    self._end(end)
                    break
                if self.rank == 0:
                    are_working = self._look_at_others()
                    self._collect()
                    reach(self._reached + sum(int(sign.split()[1]) for sign, _ in self._signs.values() if sign))
            self._store.set(f"left {self.rank}", "")
        except dist.DistError:  # rank 0 is gone; the main thread finds out too
            pass
        except OSError:  # nobody reads what is printed, as with `| head`
            self.is_ended = True
        finally:
            self._watched.set()

    def _look_at_others(self) -> bool:
        """Read the signs of life; return whether another process is still working."""
        are_working = False
        for other, (before, looks) in self._signs.items():
            has_left = self._store.check([f"left {other}"])  # read first: its last sign comes before
            sign = self._store.get(f"sign {other}").decode() if self._store.check([f"sign {other}"]) else ""
            self._signs[other] = sign, looks + 1 if sign == before else 0
            are_working |= not has_left and looks < _LOOKS_OF_A_DEAD_PROCESS
        return are_working

    def _end(self, end: Callable[[], None]) -> None:
        """Call `end` unless another process has called it."""
        if self.rank:
            if not self._outlives:
                return  # rank 0 calls it
            time.sleep(1)  # rank 0 has the bar
        if self._store.add("ended", 1) == 1:
            end()
