"""Process groups from the variables of torchrun and Slurm; restarted and lost processes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import psutil
import pytest
import torch

from rgt_arch.errors import UsageError, UserError
from rgt_arch.training import failures, ranks

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST", "SLURM_STEP_NODELIST", "SLURM_LOCALID")
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


@pytest.fixture
def join(monkeypatch):
    """join(launcher, variables, gpus, …): the process group that `init_dist` would join, and its device."""
    for name in (*NAMES, *SLURM):
        monkeypatch.setenv(name, "to be restored")
    monkeypatch.setattr(ranks.mp, "set_start_method", lambda _method: None)

    def make(launcher, variables, gpus=0, **arguments):
        seen = {}
        for name in (*NAMES, *SLURM):
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in variables.items() if value is not None})
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: seen.update(device=device))
        monkeypatch.setattr(ranks.dist, "init_process_group", lambda **given: seen.update(given))
        ranks.init_dist(launcher, **arguments)
        return seen

    return make


def test_gpu_and_backend_follow_the_machine_and_the_options(join):
    joined = join("pytorch", TORCHRUN, 0, backend="nccl", port=29500, timeout=60)
    assert (joined["backend"], joined["timeout"].total_seconds()) == ("gloo", 60)
    for variables, gpus, arguments, backend, device in (
        (TORCHRUN, 0, {"backend": "nccl"}, "gloo", None),
        (TORCHRUN, 2, {}, "nccl", 1),
        (TORCHRUN, 2, {"cpu": True}, "gloo", None),
        ({**TORCHRUN, "LOCAL_RANK": None, "RANK": "7"}, 4, {}, "nccl", 3),
    ):
        joined = join("pytorch", variables, gpus, **arguments)
        assert (joined["backend"], joined.get("device")) == (backend, device)


@pytest.mark.parametrize(
    ("launcher", "variables", "message"),
    [
        ("pytorch", {**TORCHRUN, "LOCAL_RANK": "2"}, "LOCAL_RANK 2: this machine has 2 usable GPU"),
        ("pytorch", {}, "RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set; start the command with"),
        ("pytorch", {**TORCHRUN, "RANK": "first"}, "RANK in the environment: invalid literal .* 'first'; unset it"),
        ("slurm", {}, "SLURM_PROCID is not set"),
    ],
)
def test_invalid_environment_is_a_usage_error(join, launcher, variables, message):
    with pytest.raises(UsageError, match=message):
        join(launcher, variables, gpus=2)


def test_processes_that_do_not_meet_are_told_the_address_and_how_to_run_alone(join, monkeypatch):
    def fail(_device):
        raise torch.distributed.DistNetworkError("timed out\nafter 5 s")

    monkeypatch.setattr(ranks, "meeting", lambda *_arguments: fail(0))
    words = r"the 8 processes .* MASTER_ADDR a, MASTER_PORT 1 \(timed out\); start all .* unset RANK and SLURM_STEP_ID$"
    with pytest.raises(UserError, match=words):
        join("pytorch", TORCHRUN)


def test_process_that_torchrun_may_restart_knows_when_torchrun_started(monkeypatch):
    for variable, value in (("MAX_RESTARTS", "0"), ("MAX_RESTARTS", "3"), ("RUN_ID", "none")):
        assert ranks.trying_since() is None  # torchrun also sets RUN_ID
        monkeypatch.setenv(f"TORCHELASTIC_{variable}", value)
    assert ranks.trying_since() == psutil.Process(os.getppid()).create_time()

    # this process takes the place of torchrun, with two shells between it and the process that it starts
    code = "from rgt_arch.training import ranks; print(ranks.trying_since())"
    inner = shlex.join([sys.executable, "-c", code]) + "; true"  # a shell with another command left does not exec
    outer = shlex.join(["sh", "-c", inner]) + "; true"
    printed = subprocess.run(["sh", "-c", outer], capture_output=True, text=True, check=True).stdout
    assert float(printed) == psutil.Process().create_time()


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1234"), True),
        (RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 60000ms for recv operation"), True),
        (torch.distributed.DistBackendError("NCCL error: remote process exited or there was a network error"), True),
        (RuntimeError("DataLoader timed out after 60 seconds"), False),
        (RuntimeError("shape '[2]' is invalid for input of size 3"), False),
        (UserError("datasets: Connection reset by peer"), False),
    ],
)
def test_errors_of_a_lost_process_are_recognised(monkeypatch, error, lost):
    monkeypatch.setattr(ranks.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(ranks.dist, "get_world_size", lambda: 2)
    assert ranks.lost_contact(error) is lost
    assert ("another process of this run is gone" in str(failures.as_user_error(error))) is lost
    monkeypatch.setattr(ranks.dist, "get_world_size", lambda: 1)
    assert not ranks.lost_contact(error)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu03", "gpu03"),
        ("gpu[03-07,12],cpu1", "gpu03"),
        ("a1,a2", "a1"),
        ("rack[2,4]n[08-11]-ib,x", "rack2n08-ib"),
        ("gpu[7],gpu[1-3]", "gpu7"),
    ],
)
def test_first_host_of_a_slurm_list_is_the_master(join, nodes, first):
    job = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_NODELIST": nodes, "SLURM_LOCALID": "1"}
    assert join("slurm", job, 1, port=1234)["device"] == 0  # Slurm shows the process only this one
    assert [os.environ[name] for name in NAMES] == ["3", "4", "1", first, "1234"]
    join("slurm", {**job, "SLURM_STEP_NODELIST": "gpu[05-06]", "MASTER_PORT": "4321"}, port=1234)
    assert [os.environ[name] for name in NAMES] == ["3", "4", "1", "gpu05", "4321"]
