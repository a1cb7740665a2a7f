"""torch.distributed under torchrun and Slurm: NCCL on GPUs, gloo on CPUs, from the standard environment variables.

Where: basicsr/utils/dist_util.py:10-57 (used at utils/options.py:104). What goes wrong: NCCL only; `rank %
device_count` divides by zero without a GPU and picks the device by RANK, not LOCAL_RANK; `dist_params` is ignored
under torchrun. Delete it once BasicSR takes the backend from the device and the device from LOCAL_RANK.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from rgt_arch.errors import UsageError, UserError

T = TypeVar("T")

DEFAULT_PORT = 29500  # torch.distributed's own


def init_dist(
    launcher: str, backend: str | None = None, port: int | None = None, timeout: float | None = None, cpu: bool = False
) -> None:
    """Join the process group that `launcher` ("pytorch" for torchrun, "slurm") describes in the environment.

    backend: nccl on GPUs and gloo on CPUs unless given; nccl without a GPU becomes gloo. port: of the first machine,
    for Slurm, unless MASTER_PORT is set. timeout: of collectives, in seconds. cpu: leave the GPUs alone. Does nothing
    in a process that has joined already. Raises UsageError when the environment lacks what the launcher sets, or this
    machine has fewer GPUs than processes.
    """
    if dist.is_initialized():
        return
    if mp.get_start_method(allow_none=True) is None:
        mp.set_start_method("spawn")  # as BasicSR: CUDA and gloo threads do not survive a fork
    if launcher == "slurm":
        _translate_slurm(port)
    elif launcher != "pytorch":
        raise UsageError(f"--launcher {launcher}: no such launcher; take none, pytorch (for torchrun) or slurm")
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UsageError(
            f"--launcher {launcher}: {', '.join(missing)} not set; start the command with torchrun, "
            "or drop --launcher for a single process"
        )
    on_gpu = torch.cuda.is_available() and not cpu
    if on_gpu:
        _take_device(int(os.environ.get("LOCAL_RANK", "0")))
    if backend is None or (backend == "nccl" and not on_gpu):
        backend = "nccl" if on_gpu else "gloo"
    dist.init_process_group(backend=backend, timeout=None if timeout is None else timedelta(seconds=timeout))


def _take_device(local_rank: int) -> None:
    devices = torch.cuda.device_count()
    if local_rank >= devices:
        raise UsageError(
            f"LOCAL_RANK {local_rank}: this machine has {devices} usable GPU(s); start at most {devices} processes "
            "on it, or set num_gpu: 0 for the CPU"
        )
    torch.cuda.set_device(local_rank)


def _translate_slurm(port: int | None) -> None:
    """Set torch.distributed's variables from Slurm's; MASTER_ADDR and MASTER_PORT that are set already stay."""
    try:
        rank, tasks, nodes = (os.environ[name] for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"))
    except KeyError as error:
        raise UsageError(f"--launcher slurm: {error.args[0]} is not set; start the command with srun") from error
    os.environ.update(RANK=rank, WORLD_SIZE=tasks, LOCAL_RANK=os.environ.get("SLURM_LOCALID", "0"))
    if "MASTER_ADDR" not in os.environ:
        os.environ["MASTER_ADDR"] = _first_node(nodes)
    os.environ.setdefault("MASTER_PORT", str(DEFAULT_PORT if port is None else port))


def _first_node(nodes: str) -> str:
    """The first host of a Slurm node list; `scontrol` is asked only for compressed lists such as gpu[03-07]."""
    if not re.search(r"[\[,]", nodes):
        return nodes
    scontrol = shutil.which("scontrol")
    if scontrol is None:
        raise UsageError(f"SLURM_NODELIST {nodes}: scontrol is not on PATH; set MASTER_ADDR to the first host of it")
    listed = subprocess.run([scontrol, "show", "hostnames", nodes], capture_output=True, text=True, check=False).stdout
    if not listed.split():
        raise UsageError(
            f"SLURM_NODELIST {nodes}: scontrol cannot expand it; set MASTER_ADDR to the first of these hosts"
        )
    return listed.split()[0]


def environment_rank() -> int:
    """The rank that torchrun or Slurm gave this process, 0 without either; valid before the process group exists."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def let_rank_zero_speak() -> None:
    """Wait before leaving with an error that rank 0 prints too: torchrun ends all ranks when the first one exits."""
    time.sleep(10)


def on_rank_zero(work: Callable[[], T]) -> T:
    """What `work()` returns on rank 0, on every rank.

    Its UserError is raised on rank 0; the others exit with its code.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return work()
    outcome: list[Any] = [None, 0]
    failure: UserError | None = None
    if dist.get_rank() == 0:
        try:
            outcome[0] = work()
        except UserError as error:
            failure, outcome[1] = error, error.exit_code
    dist.broadcast_object_list(outcome, src=0)
    if failure is not None:
        raise failure
    if outcome[1]:
        let_rank_zero_speak()
        raise SystemExit(outcome[1])
    return outcome[0]
