"""What the variables of torchrun and Slurm mean, and the meeting of restarted processes."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch

from rgt_arch import launchers

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
BATCH = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0", "SLURM_NODELIST": "a"}
STEP = {**BATCH, "SLURM_STEP_ID": "0"}


@pytest.mark.parametrize(
    ("variables", "launcher", "with_srun"),
    [
        ({}, "none", "none"),
        ({**TORCHRUN, "WORLD_SIZE": "1"}, "none", "none"),
        (TORCHRUN, "pytorch", "pytorch"),
        ({name: value for name, value in TORCHRUN.items() if name != "MASTER_ADDR"}, "none", "none"),
        (BATCH, "none", "none"),
        (STEP, "none", "slurm"),
        ({**STEP, "SLURM_NTASKS": "1"}, "none", "none"),
        ({**STEP, "SLURM_STEP_ID": "4294967290"}, "none", "none"),  # the shell of salloc with use_interactive_step
        ({**STEP, **TORCHRUN}, "pytorch", "pytorch"),  # srun starts one torchrun on each machine
        ({**STEP, **TORCHRUN, "WORLD_SIZE": "1"}, "none", "none"),
    ],
)
def test_launcher_is_detected_if_it_started_several_processes(monkeypatch, variables, launcher, with_srun):
    for name in {*TORCHRUN, *STEP} - {*variables}:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (launchers.launcher_here(), launchers.launcher_here(srun=True)) == (launcher, with_srun)


@pytest.mark.parametrize(
    ("variables", "number"),
    [
        ({}, 1),
        ({"LOCAL_WORLD_SIZE": "3"}, 3),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x12),2"}, 4),
        ({"SLURM_STEP_TASKS_PER_NODE": "1", "LOCAL_WORLD_SIZE": "2"}, 2),
    ],
)
def test_processes_on_this_machine_are_counted(monkeypatch, variables, number):
    for name in ("LOCAL_WORLD_SIZE", "SLURM_STEP_TASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launchers.processes_here() == number


def test_restarted_processes_meet_apart_from_dead_ones(monkeypatch):
    """Two tries of three ranks in one store, as torchrun keeps it; higher ranks arrive later."""
    store = torch.distributed.HashStore()
    monkeypatch.setattr(launchers.dist, "rendezvous", lambda *_arguments, **_keywords: iter([(store, 0, 3)]))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")

    def meet(rank):
        time.sleep(0.3 * rank)
        return launchers.meeting(rank, 3, None)["store"]

    for _try in range(2):
        with ThreadPoolExecutor(3) as threads:
            parts = list(threads.map(meet, range(3)))
        assert not parts[2].check(["address"])
        parts[0].set("address", "0")
        assert [part.get("address") for part in parts] == [b"0"] * 3

    store.set_timeout(timedelta(seconds=1))
    with pytest.raises(torch.distributed.DistStoreError, match="no answer from rank 1, 2"):
        launchers.meeting(0, 3, None)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE")
    assert launchers.meeting(0, 3, None) == {}
