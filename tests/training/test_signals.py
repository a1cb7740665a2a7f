"""Signals end a training between two iterations; if a signal kills its data workers, the training ends at once."""

from __future__ import annotations

import logging
import os
import signal
import types

import pytest
import torch
from torch.utils.data import DataLoader

from rgt_arch.training import ranks
from rgt_arch.training.loaders import batches
from rgt_arch.training.loop import _Run
from rgt_arch.training.signals import StopRequest, ignore_in_worker

OPT = {"datasets": {"train": {}}, "world_size": 1, "rank": 0}


@pytest.fixture
def stop():
    with StopRequest() as request:
        yield request


class Loader:
    """Yields one batch, then fails: a signal to the whole process group has killed the worker."""

    def __init__(self, number=None):
        self.number = number

    def __iter__(self):
        yield {}
        if self.number is not None:
            signal.raise_signal(self.number)
        raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly")


def test_workers_killed_by_a_signal_end_the_batches_and_other_deaths_raise(stop):
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(batches(Loader(), OPT, stop))
    assert list(batches(Loader(signal.SIGTERM), OPT, stop)) == [{}]
    assert (stop.signal, stop.exit_code) == (signal.SIGTERM, 143)


@pytest.fixture
def run(stop, monkeypatch):
    """A run whose iteration 3 is saved, and the list of its later actions."""
    done = []
    checkpoints = types.SimpleNamespace(saved=3)

    def save(_epoch, iteration, *, owes_validation):
        done.append(("save", iteration, owes_validation))
        checkpoints.saved = iteration

    checkpoints.save = save
    monkeypatch.setattr(ranks.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(ranks.dist, "barrier", lambda: done.append("barrier"))
    monkeypatch.setattr("rgt_arch.training.ranks.leave", lambda: done.append("leave"))
    numbers = types.SimpleNamespace(flush=lambda: done.append("flush"))
    unreadable = types.SimpleNamespace(waiting=[], report=lambda: done.append("report"))
    model = types.SimpleNamespace(device=torch.device("cpu"))
    return _Run(OPT, model, checkpoints, numbers, stop, unreadable, logging.getLogger("test")), done


def test_dead_workers_end_a_rank_without_asking_the_others(run, caplog):
    """Other ranks may be in the middle of a step: a collective call here would meet one of another kind there."""
    run, done = run
    run.stop.signal = signal.SIGINT
    with pytest.raises(SystemExit) as left:
        run.leave(0, 4, together=False)
    assert (left.value.code, done) == (130, [])
    assert caplog.messages == ["Ctrl-C: the run ends after iteration 4, which is not saved"]


def test_a_signal_ends_all_ranks_together_after_numbers_and_state_are_saved(run, monkeypatch, caplog):
    run, done = run
    monkeypatch.setattr(ranks, "greatest", lambda values, _device: [signal.SIGTERM, 2])  # the signal of another rank
    with pytest.raises(SystemExit) as left:
        run.leave_if_asked(0, 4, owes_validation=True)
    assert (left.value.code, done) == (143, ["report", "flush", ("save", 4, True), "barrier", "leave"])
    assert caplog.messages == ["SIGTERM: the run ends after iteration 4, which is saved; --auto_resume goes on"]


class Pids:
    def __len__(self):
        return 40

    def __getitem__(self, _index):
        return os.getpid()


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="SIGTERM is obeyed elsewhere")
def test_a_data_worker_outlives_signals_to_the_group_and_obeys_its_parent():
    loader = DataLoader(
        Pids(),
        batch_size=None,
        num_workers=1,
        multiprocessing_context="fork",
        worker_init_fn=lambda _: ignore_in_worker(),
    )
    iterator = iter(loader)
    worker = int(next(iterator))
    assert worker != os.getpid()
    stranger = os.fork()  # sends signals like a terminal, torchrun or Slurm
    if not stranger:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker, number)
        os._exit(0)
    os.waitpid(stranger, 0)
    assert {int(pid) for pid in iterator} == {worker}
    iterator = iter(loader)
    next(iterator)  # the worker now ignores signals of other processes
    [process] = iterator._workers
    os.kill(process.pid, signal.SIGTERM)
    process.join(20)
    assert process.exitcode == 0
