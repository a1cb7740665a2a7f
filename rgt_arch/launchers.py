"""Ranks, addresses and GPUs of the processes that torchrun or Slurm started, and values of all of them."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from rgt_arch.errors import UsageError, UserError

T = TypeVar("T")

DEFAULT_PORT = 29500  # torch.distributed's default
SEPARATELY = "for separate runs, unset RANK and SLURM_STEP_ID"
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_FIRST_SPECIAL_STEP = 0xFFFFFFF0  # Slurm's slurm.h: an interactive shell, a batch script and the like


def launcher_here(srun: bool = False) -> str:
    """Return the default launcher: "pytorch" in one of several processes with torchrun's variables, else "none".

    srun: also "slurm" in a step of several processes. A training does not guess it, because the processes of a step can
    be separate runs. Slurm's other variables are also set in an interactive shell and in a batch script; the shell can
    be a step with a special number.
    """
    if os.environ.get("WORLD_SIZE") != "1" and all(name in os.environ for name in _NEEDED):
        return "pytorch"
    in_step = srun and environment_number("SLURM_STEP_ID", _FIRST_SPECIAL_STEP) < _FIRST_SPECIAL_STEP
    in_step &= "WORLD_SIZE" not in os.environ
    return "slurm" if in_step and environment_number("SLURM_NTASKS", 1) > 1 else "none"


def ranks_here(launcher: str, port: int | None = None) -> tuple[int, int]:
    """Return the rank of this process and the number of processes; sets torch.distributed's variables from Slurm's.

    launcher: "pytorch" for torchrun, or "slurm". port: of the first machine, for Slurm without MASTER_PORT. Raises
    UsageError for wrong environment variables.
    """
    if launcher == "slurm":
        _translate_slurm(port)
    elif launcher != "pytorch":
        raise UsageError(f"--launcher {launcher}: no such launcher; take none, pytorch (for torchrun) or slurm")
    if missing := [name for name in _NEEDED if name not in os.environ]:
        raise UsageError(
            f"--launcher {launcher}: {', '.join(missing)} not set; start the command with torchrun, "
            "or drop --launcher for a single process"
        )
    return environment_number("RANK", 0), environment_number("WORLD_SIZE", 1)


@contextmanager
def finding_each_other(world_size: int) -> Iterator[None]:
    """Raise UserError for the errors of torch if the processes do not meet."""
    try:
        yield
    except (ValueError, RuntimeError) as error:  # the store's and the backends' errors are RuntimeErrors
        reason = " ".join(str(error).split("\n")[0].split()).rstrip(".") or type(error).__name__
        raise UserError(
            f"the {world_size} processes did not find each other at MASTER_ADDR {os.environ['MASTER_ADDR']}, "
            f"MASTER_PORT {os.environ['MASTER_PORT']} ({reason}); start all of them with the same address of rank 0 "
            f"and a free port; {SEPARATELY}"
        ) from error


def meeting(rank: int, world_size: int, patience: timedelta | None) -> dict[str, Any]:
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


def processes_here() -> int:
    """Return how many processes torchrun or Slurm started on this machine, 1 without either."""
    of_step = re.findall(r"(?:^|,)(\d+)", os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))  # such as 4(x2),3
    return environment_number("LOCAL_WORLD_SIZE", max([1, *map(int, of_step)]))


def environment_number(name: str, default: int) -> int:
    """An integer from the environment. Raises UsageError for anything else."""
    try:
        return int(os.environ.get(name) or default)
    except ValueError as error:
        raise UsageError(f"{name} in the environment: {error}; unset it, or start with torchrun") from error


def gpu_here(rank: int, *, wrapping: bool) -> int:
    """Return the GPU of this process.

    wrapping: take the index modulo the GPUs, because Slurm may show a process only its own GPU. Raises UsageError for
    an index without a GPU.
    """
    devices = torch.cuda.device_count()
    if "LOCAL_RANK" not in os.environ:
        return rank % devices  # as BasicSR; right if each machine has as many processes as GPUs
    device = environment_number("LOCAL_RANK", 0)
    if wrapping:
        return device % devices
    if device >= devices:
        raise UsageError(
            f"LOCAL_RANK {device}: this machine has {devices} usable GPU(s); start at most {devices} processes "
            "on it, or use the CPU (num_gpu: 0 in an option file, --device cpu)"
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
    return environment_number("RANK", environment_number("SLURM_PROCID", 0))


def are_several() -> bool:
    """Return whether this process has joined a group with other processes."""
    return dist.is_initialized() and dist.get_world_size() > 1


def gathered(value: T, group: dist.ProcessGroup | None = None) -> list[T]:
    """Return the values of all ranks, in rank order; all ranks must call it at the same place.

    group: all ranks, with another timeout.
    """
    if not are_several():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value, group=group)
    return values
