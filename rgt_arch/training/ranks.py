"""Distributed runs under torchrun and Slurm, set up from the environment: NCCL on GPUs, gloo on CPUs.

BasicSR's code (utils/dist_util.py) supports NCCL only, divides by the number of GPUs, and takes the device from RANK.
"""

from __future__ import annotations

import gc
import importlib
import os
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import psutil
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from rgt_arch.errors import UserError
from rgt_arch.launchers import are_several, environment_number, finding_each_other, gpu_here, meeting, ranks_here
from rgt_arch.training.signals import StopRequest

T = TypeVar("T")

# Errors of gloo, NCCL and the store when another process is gone, or does not answer in time.
_LOST = re.compile(
    r"Connection (closed|reset|refused)|Broken pipe|pair closure|remote process exit|NCCL communicator was aborted|"
    r"Timed out waiting \d+ ?ms|Socket Timeout|wait timeout|operation timeout",
    re.IGNORECASE,
)


def init_dist(
    launcher: str,
    backend: str | None = None,
    port: int | None = None,
    timeout: float | None = None,
    cpu: bool = False,
) -> None:
    """Join the process group that the variables of `launcher` ("pytorch" for torchrun, "slurm") describe.

    backend: default nccl on GPUs and gloo on CPUs; nccl without a GPU becomes gloo. port: of the first machine, for
    Slurm without MASTER_PORT. timeout: of collectives, in seconds. cpu: do not use GPUs. Raises UsageError for wrong
    environment variables, and UserError if the processes do not find each other.
    """
    if dist.is_initialized():
        return  # an earlier run in this process
    if mp.get_start_method(allow_none=True) is None:
        mp.set_start_method("spawn")  # as BasicSR: CUDA and gloo threads do not survive a fork
    rank, world_size = ranks_here(launcher, port)
    on_gpu = torch.cuda.is_available() and not cpu
    if on_gpu:
        torch.cuda.set_device(gpu_here(rank, wrapping=launcher == "slurm"))
    if backend is None or (backend == "nccl" and not on_gpu):
        backend = "nccl" if on_gpu else "gloo"
    patience = None if timeout is None else timedelta(seconds=timeout)
    # Before the group exists: DistributedDataParallel imports it, and its default arguments would keep the group alive.
    importlib.import_module("torch.distributed.nn")
    with finding_each_other(world_size):
        dist.init_process_group(backend=backend, timeout=patience, **meeting(rank, world_size, patience))


def leave() -> None:
    """Leave the process group, if there is one, and end its threads.

    A gloo thread that frees a tensor while the interpreter shuts down would abort the process after its work.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()  # networks in DistributedDataParallel hold the group, in cycles


def trying_since() -> float | None:
    """Return the start time of torchrun (seconds since the epoch) if it may start this process again, else None.

    TORCHELASTIC_RESTART_COUNT counts on one machine only. torchrun (`--max-restarts`) is the nearest ancestor without
    the variables that it sets for its processes; a script may be in between. None if ancestors cannot be inspected.
    """
    if not environment_number("TORCHELASTIC_MAX_RESTARTS", 0):
        return None
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    try:
        for ancestor in psutil.Process().parents():
            if ancestor.environ().get("TORCHELASTIC_RUN_ID") != run:
                return ancestor.create_time()
    except psutil.Error:  # the ancestor has ended, or is another user's
        pass
    return None


def lost_contact(error: BaseException) -> bool:
    """Return whether an error of a distributed run means that another process is gone."""
    return are_several() and isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None


def let_others_speak(stop: StopRequest | None = None) -> None:
    """Wait before exiting for another rank's error: torchrun reports the rank that exits first, and ends the others.

    Does not wait if torchrun has already sent this process a signal (`stop`).
    """
    limit = time.monotonic() + 10
    while not (stop and stop.signal) and time.monotonic() < limit:
        time.sleep(0.1)


def greatest(values: list[int], device: torch.device) -> list[int]:
    """Return the maximum of each value over all ranks; all ranks must call it at the same place."""
    if not are_several():
        return values
    shared = torch.tensor(values, device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return [int(value) for value in shared.tolist()]


def on_rank_zero(work: Callable[[], T], group: dist.ProcessGroup | None = None) -> T:
    """Run `work` on rank 0 and return its result on every rank; all ranks must call it at the same place.

    group: all ranks, with another timeout. A UserError is raised on rank 0; the other ranks exit with its code.
    """
    if not are_several():
        return work()
    outcome: list[Any] = [None, 0]
    failure: UserError | None = None
    if dist.get_rank() == 0:
        try:
            outcome[0] = work()
        except UserError as error:
            failure, outcome[1] = error, error.exit_code
    dist.broadcast_object_list(outcome, src=0, group=group)
    if failure is not None:
        raise failure
    if outcome[1]:
        let_others_speak()
        raise SystemExit(outcome[1])
    return outcome[0]
