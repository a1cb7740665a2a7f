"""Measurements in fresh processes: what they measure, and how they end where the memory does not suffice."""

from __future__ import annotations

import dataclasses

import psutil
import pytest
import torch

from rgt_arch.errors import UserError
from rgt_arch.evaluation.speed import apart, child, peak
from rgt_arch.evaluation.speed.apart import Outcome, Task, run_apart
from rgt_arch.evaluation.speed.networks import build, least_peer_memory
from rgt_arch.evaluation.speed.peak import PeakMemory
from rgt_arch.evaluation.speed.settings import Size

MB = 1 << 20


def measuring() -> list[psutil.Process]:
    """Our children that measure; multiprocessing may have one of its own."""
    return [child for child in psutil.Process().children() if "rgt_arch.evaluation.speed.child" in child.cmdline()]


@pytest.fixture
def task(tiny):
    return Task("forward", "ours", tiny.config(), (256, 256), threads=1)


def test_peak_of_an_image_holds_its_features_and_its_time(task):
    outcome = run_apart(task)
    features = 4 * 96 * 256 * 256
    assert outcome.memory is not None
    assert features < outcome.memory < 20 * features
    assert outcome.seconds is not None
    assert outcome.seconds > 0
    assert outcome.needed is None


def test_training_holds_gradients_and_both_moments_of_adam(task):
    task = dataclasses.replace(task, kind="train", size=(16, 16), rounds=2)
    network = build("ours", task.config, 0, torch.device("cpu"))
    parameters = 4 * sum(parameter.numel() for parameter in network.parameters())
    outcome = run_apart(task)
    assert outcome.memory is not None
    assert outcome.memory > 3 * parameters
    child._measure(task, network, torch.device("cpu"))
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_child_that_runs_out_of_its_limit_is_told_and_not_raised(task):
    outcome = run_apart(dataclasses.replace(task, allowed=30 * MB))
    assert outcome == Outcome(needed=30 * MB)
    assert outcome.shortage == "out of memory (needed > 0.03 GB)"


def test_child_is_killed_when_the_machine_runs_out(task, monkeypatch):
    free = iter([10**10])
    monkeypatch.setattr(apart, "free_memory", lambda device: next(free, 0))
    outcome = run_apart(task)
    assert outcome.memory is None
    assert outcome.needed is not None
    assert not measuring()


def test_interrupt_leaves_no_child(task, monkeypatch):
    def interrupted(process):
        assert measuring()
        raise KeyboardInterrupt

    monkeypatch.setattr(apart, "_watch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_apart(task)
    assert not measuring()


def test_child_that_fails_ends_in_its_last_line(task):
    with pytest.raises(UserError, match=r"^the measuring process failed: .*no RGT has these arguments.*$"):
        run_apart(dataclasses.replace(task, config={**task.config, "upscale": 5}))


def test_peer_that_is_known_to_need_more_is_not_begun(task, monkeypatch):
    monkeypatch.setattr(apart, "_converse", lambda task: pytest.fail("was begun"))
    large = dataclasses.replace(task, maker="official", size=(3000, 4000), allowed=10**9)
    scores = 4 * 3000 * 4000 * (3000 // 64) * (4000 // 64) * 4
    assert run_apart(large) == Outcome(needed=2 * scores)


def test_the_peers_least_memory_is_that_of_facts(tiny):
    """750×1000 asks for one tensor of 51 GB, and holds two."""
    config = {"depth": [6], "num_heads": [6]}
    assert least_peer_memory(config, Size(750, 1000), "fp32") == pytest.approx(2 * 51.3e9, rel=0.01)
    assert least_peer_memory({"depth": [1], "num_heads": [6]}, Size(750, 1000), "fp32") == 0


def test_nothing_free_is_an_error(task, monkeypatch):
    monkeypatch.setattr(apart, "free_memory", lambda device: apart.RESERVE)
    with pytest.raises(UserError, match="less than 1 GB of memory is free"):
        run_apart(task)


@pytest.mark.parametrize("by_kernel", [True, False])
def test_peak_counts_what_was_let_go_and_nothing_from_before(by_kernel, monkeypatch):
    if not by_kernel:
        monkeypatch.setattr(peak, "_reset_kernel_peak", lambda: False)
    elif not peak._reset_kernel_peak():
        pytest.skip("this system keeps no peak that can be reset")
    del_before = torch.ones(64 * MB)
    del del_before
    with PeakMemory(torch.device("cpu")) as measured:
        for _ in range(10):
            block = torch.ones(32 * MB)  # more than the allocator may have kept from other tests
            del block
    assert 120 * MB < measured.bytes < 240 * MB
