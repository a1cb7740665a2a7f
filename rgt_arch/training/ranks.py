"""Distributed runs under torchrun and Slurm, set up from the environment: NCCL on GPUs, gloo on CPUs.

BasicSR's code (utils/dist_util.py) supports NCCL only, divides by the number of GPUs, and takes the device from RANK.
"""

from __future__ import annotations

import gc
import importlib
import os
import re
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import psutil
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from rgt_arch.errors import UsageError, UserError
from rgt_arch.training.signals import StopRequest

T = TypeVar("T")

DEFAULT_PORT = 29500  # torch.distributed's default
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Errors of gloo, NCCL and the store when another process is gone, or does not answer in time.
_LOST = re.compile(
    r"Connection (closed|reset|refused)|Broken pipe|pair closure|remote process exit|NCCL communicator was aborted|"
    r"Timed out waiting \d+ ?ms|Socket Timeout|wait timeout|operation timeout",
    re.IGNORECASE,
)


def launcher_here() -> str:
    """Return the default launcher: "pytorch" in one of several processes with torchrun's variables, else "none".

    Slurm is not guessed: its variables are also set in an interactive shell, and in a step of separate runs.
    """
    several = os.environ.get("WORLD_SIZE") != "1" and all(name in os.environ for name in _NEEDED)
    return "pytorch" if several else "none"


def init_dist(
    launcher: str,
    backend: str | None = None,
    port: int | None = None,
    timeout: float | None = None,
    cpu: bool = False,
    local_rank: int | None = None,
) -> None:
    """Join the process group that the variables of `launcher` ("pytorch" for torchrun, "slurm") describe.

    backend: default nccl on GPUs and gloo on CPUs; nccl without a GPU becomes gloo. port: of the first machine, for
    Slurm without MASTER_PORT. timeout: of collectives, in seconds. cpu: do not use GPUs. local_rank: from an old
    launcher that does not set LOCAL_RANK. Raises UsageError for wrong environment variables, and UserError if the
    processes do not find each other.
    """
    if dist.is_initialized():
        return  # an earlier run in this process
    if mp.get_start_method(allow_none=True) is None:
        mp.set_start_method("spawn")  # as BasicSR: CUDA and gloo threads do not survive a fork
    if launcher == "slurm":
        _translate_slurm(port)
    elif launcher != "pytorch":
        raise UsageError(f"--launcher {launcher}: no such launcher; take none, pytorch (for torchrun) or slurm")
    if missing := [name for name in _NEEDED if name not in os.environ]:
        raise UsageError(
            f"--launcher {launcher}: {', '.join(missing)} not set; start the command with torchrun, "
            "or drop --launcher for a single process"
        )
    rank, world_size = _number("RANK", 0), _number("WORLD_SIZE", 1)
    on_gpu = torch.cuda.is_available() and not cpu
    if on_gpu:
        torch.cuda.set_device(_device(rank, local_rank, wrapping=launcher == "slurm"))
    if backend is None or (backend == "nccl" and not on_gpu):
        backend = "nccl" if on_gpu else "gloo"
    patience = None if timeout is None else timedelta(seconds=timeout)
    # Before the group exists: DistributedDataParallel imports it, and its default arguments would keep the group alive.
    importlib.import_module("torch.distributed.nn")
    try:
        dist.init_process_group(backend=backend, timeout=patience, **_meeting(rank, world_size, patience))
    except (ValueError, RuntimeError) as error:  # the store's and the backends' errors are RuntimeErrors
        reason = " ".join(str(error).split("\n")[0].split()).rstrip(".") or type(error).__name__
        raise UserError(
            f"the {world_size} processes did not find each other at MASTER_ADDR {os.environ['MASTER_ADDR']}, "
            f"MASTER_PORT {os.environ['MASTER_PORT']} ({reason}); start all of them with the same address of rank 0 "
            "and a free port"
        ) from error


def _meeting(rank: int, world_size: int, patience: timedelta | None) -> dict[str, Any]:
    """Arguments of init_process_group for the place where processes meet; none if the environment is enough.

    When torchrun starts processes again (`--max-restarts`), its store still has the addresses of the dead ones. So the
    new processes agree on a new prefix in the store: each rank asks under a new key and waits for rank 0's answer.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        return {}
    wait = {} if patience is None else {"timeout": patience}
    store, _, _ = next(dist.rendezvous("env://", rank, world_size, **wait))
    own = uuid.uuid4().hex
    if rank == 0:
        part, absent, limit = own, set(range(1, world_size)), time.monotonic() + store.timeout.total_seconds()
        while absent:
            for other in absent:
                if store.check([f"asked {other}"]):
                    store.set(f"answer {store.get(f'asked {other}').decode()}", part)
            absent = {other for other in absent if not store.check([f"{part} {other}"])}
            if absent and time.monotonic() > limit:
                raise dist.DistStoreError(f"no answer from rank {', '.join(map(str, sorted(absent)))}")
            time.sleep(0.05)
    else:
        store.set(f"asked {rank}", own)
        part = store.get(f"answer {own}").decode()
        store.set(f"{part} {rank}", "")
    return {"store": dist.PrefixStore(part, store), "rank": rank, "world_size": world_size}


def leave() -> None:
    """Leave the process group, if there is one, and end its threads.

    A gloo thread that frees a tensor while the interpreter shuts down would abort the process after its work.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()  # networks in DistributedDataParallel hold the group, in cycles


def _number(name: str, default: int) -> int:
    """An integer from the environment. Raises UsageError for anything else."""
    try:
        return int(os.environ.get(name) or default)
    except ValueError as error:
        raise UsageError(f"{name} in the environment: {error}; unset it, or start with torchrun") from error


def _device(rank: int, local_rank: int | None, wrapping: bool) -> int:
    """The GPU of this process. wrapping: take the index modulo the GPUs; Slurm may show a process only its own GPU."""
    devices = torch.cuda.device_count()
    if "LOCAL_RANK" not in os.environ and local_rank is None:
        return rank % devices  # as BasicSR; right if each machine has as many processes as GPUs
    device = _number("LOCAL_RANK", local_rank or 0)
    if wrapping:
        return device % devices
    if device >= devices:
        raise UsageError(
            f"LOCAL_RANK {device}: this machine has {devices} usable GPU(s); start at most {devices} processes "
            "on it, or set num_gpu: 0 for the CPU"
        )
    return device


def _translate_slurm(port: int | None) -> None:
    """Set torch.distributed's variables from Slurm's; an existing MASTER_ADDR or MASTER_PORT stays."""
    try:
        rank, tasks, job_nodes = (os.environ[name] for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"))
    except KeyError as error:
        raise UsageError(f"--launcher slurm: {error.args[0]} is not set; start the command with srun") from error
    os.environ.update(RANK=rank, WORLD_SIZE=tasks, LOCAL_RANK=os.environ.get("SLURM_LOCALID", "0"))
    # a step may use only some of the job's machines
    os.environ.setdefault("MASTER_ADDR", _first_node(os.environ.get("SLURM_STEP_NODELIST") or job_nodes))
    os.environ.setdefault("MASTER_PORT", str(DEFAULT_PORT if port is None else port))


def _first_node(nodes: str) -> str:
    """The first host of a Slurm node list, gpu03 of gpu[03-07,12],cpu1; containers have no `scontrol`."""
    first = re.match(r"(?:[^\[,]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first[0] if first else "")


def environment_rank() -> int:
    """Return the rank from torchrun or Slurm, 0 without either; valid before the process group exists."""
    return _number("RANK", _number("SLURM_PROCID", 0))


def trying_since() -> float | None:
    """Return the start time of torchrun (seconds since the epoch) if it may start this process again, else None.

    TORCHELASTIC_RESTART_COUNT counts on one machine only. torchrun (`--max-restarts`) is the nearest ancestor without
    the variables that it sets for its processes; a script may be in between. None if ancestors cannot be inspected.
    """
    if not _number("TORCHELASTIC_MAX_RESTARTS", 0):
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
    return _are_several() and isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None


def _are_several() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


def let_others_speak(stop: StopRequest | None = None) -> None:
    """Wait before exiting for another rank's error: torchrun reports the rank that exits first, and ends the others.

    Does not wait if torchrun has already sent this process a signal (`stop`).
    """
    limit = time.monotonic() + 10
    while not (stop and stop.signal) and time.monotonic() < limit:
        time.sleep(0.1)


def greatest(values: list[int], device: torch.device) -> list[int]:
    """Return the maximum of each value over all ranks; all ranks must call it at the same place."""
    if not _are_several():
        return values
    shared = torch.tensor(values, device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return [int(value) for value in shared.tolist()]


def gathered(value: T) -> list[T]:
    """Return the values of all ranks, in rank order; all ranks must call it at the same place."""
    if not _are_several():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def on_rank_zero(work: Callable[[], T], group: dist.ProcessGroup | None = None) -> T:
    """Run `work` on rank 0 and return its result on every rank; all ranks must call it at the same place.

    group: all ranks, with another timeout. A UserError is raised on rank 0; the other ranks exit with its code.
    """
    if not _are_several():
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
