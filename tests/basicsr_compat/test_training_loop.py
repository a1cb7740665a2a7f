"""How a training ends between two iterations, and where it cannot wait for that."""

from __future__ import annotations

import signal
import types

import pytest
import torch

from rgt_arch.basicsr_compat import stopping, training_loop


class Loader:
    """Batches of which the second needs a worker that a signal to the whole group has killed."""

    def __iter__(self):
        yield {}
        stopping._note(signal.SIGINT, None)
        raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly")


@pytest.fixture
def loader(monkeypatch):
    monkeypatch.setattr(stopping, "_asked", 0)
    loader = training_loop.TrainingLoader(Loader(), {"train": {"total_iter": 5}, "rank": 0}, [])
    loader.model = types.SimpleNamespace(device=torch.device("cpu"))
    yield loader
    stopping.stop_listening()


def test_dead_workers_end_a_rank_without_asking_the_others(loader, monkeypatch):
    """Theirs may live, and they be in the middle of a step: a collective call of another kind would meet theirs."""
    asked = []
    monkeypatch.setattr(stopping, "greatest", lambda values, _device: asked.append(values) or values)
    for name, value in {"is_initialized": True, "get_world_size": 2, "get_rank": 1}.items():
        monkeypatch.setattr(training_loop.dist, name, lambda value=value: value)
    with pytest.raises(SystemExit) as left:
        list(loader)
    assert left.value.code == 130
    assert asked == [[0, 0], [0, 0]]  # before each batch


def test_dead_workers_of_a_single_process_end_it_as_a_signal_does_everywhere(loader):
    saved = []
    loader.model.save = lambda _epoch, iteration: saved.append(iteration)
    loader.iteration = 1
    with pytest.raises(SystemExit) as left:
        list(loader)
    assert (left.value.code, saved) == (130, [1])


def test_dead_workers_are_an_error_where_no_signal_came(loader, monkeypatch):
    monkeypatch.setattr(stopping, "_note", lambda *_arguments: None)
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(loader)
