"""Process groups from torchrun's and Slurm's variables, and what ranks tell each other."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import torch

from rgt_arch.cli import basicsr_command
from rgt_arch.cli.commands import build_parser
from rgt_arch.errors import UsageError, UserError
from rgt_arch.training import failures, ranks
from rgt_arch.training.signals import StopRequest

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def joined(monkeypatch):
    """Arguments of init_process_group, and the device taken, instead of joining anything."""
    seen = {}
    for name in (*NAMES, *(f"SLURM_{name}" for name in ("PROCID", "NTASKS", "NODELIST", "STEP_NODELIST", "LOCALID"))):
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    monkeypatch.setattr(ranks.dist, "init_process_group", lambda **arguments: seen.update(arguments))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: seen.update(device=device))
    monkeypatch.setattr(ranks.mp, "set_start_method", lambda _method: None)
    return seen


def torchrun(monkeypatch, **values):
    environment = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1", **values}
    for name, value in environment.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


def slurm(monkeypatch, **values):
    for name, value in values.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


def gpus(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_gloo_without_gpu_even_if_the_options_say_nccl(joined, monkeypatch):
    torchrun(monkeypatch)
    gpus(monkeypatch, 0)
    ranks.init_dist("pytorch", backend="nccl", port=29500, timeout=60)
    assert joined["backend"] == "gloo"
    assert joined["timeout"].total_seconds() == 60
    assert "device" not in joined


def test_nccl_on_the_gpu_of_local_rank(joined, monkeypatch):
    torchrun(monkeypatch)
    gpus(monkeypatch, 2)
    ranks.init_dist("pytorch")
    assert (joined["backend"], joined["device"]) == ("nccl", 1)


def test_gpus_are_left_alone_for_num_gpu_0(joined, monkeypatch):
    torchrun(monkeypatch)
    gpus(monkeypatch, 2)
    ranks.init_dist("pytorch", cpu=True)
    assert joined["backend"] == "gloo"
    assert "device" not in joined


def test_more_processes_than_gpus_is_a_usage_error(joined, monkeypatch):
    torchrun(monkeypatch, LOCAL_RANK="2")
    gpus(monkeypatch, 2)
    with pytest.raises(UsageError, match="LOCAL_RANK 2: this machine has 2 usable GPU"):
        ranks.init_dist("pytorch")


@pytest.mark.parametrize(
    ("values", "flag", "device"),
    [({"LOCAL_RANK": "3"}, 1, 3), ({"LOCAL_RANK": None}, 1, 1), ({"LOCAL_RANK": None}, None, 2)],
)
def test_gpu_is_that_of_the_variable_then_of_the_old_flag_then_of_the_rank(joined, monkeypatch, values, flag, device):
    torchrun(monkeypatch, RANK="6", **values)
    gpus(monkeypatch, 4)
    ranks.init_dist("pytorch", local_rank=flag)
    assert joined["device"] == device


def test_launcher_without_its_environment_is_a_usage_error(joined):
    with pytest.raises(UsageError, match="RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set; start the command with"):
        ranks.init_dist("pytorch")
    with pytest.raises(UsageError, match="SLURM_PROCID is not set"):
        ranks.init_dist("slurm")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"RANK": "first"}, "RANK is 'first' in the environment; it must be a whole number from 0 up"),
        ({"RANK": "8"}, "RANK 8: there are only ranks 0 to 7 where WORLD_SIZE is 8"),
    ],
)
def test_variables_that_cannot_be_are_a_usage_error(joined, monkeypatch, values, message):
    torchrun(monkeypatch, **values)
    gpus(monkeypatch, 0)
    with pytest.raises(UsageError, match=message):
        ranks.init_dist("pytorch")


def test_processes_that_do_not_meet_are_an_error_with_the_address(joined, monkeypatch):
    torchrun(monkeypatch, MASTER_ADDR="localhost", MASTER_PORT="1", RANK="1", WORLD_SIZE="2")
    gpus(monkeypatch, 0)

    def fail(**_arguments):
        raise torch.distributed.DistNetworkError("timed out\nafter 5 s")

    monkeypatch.setattr(ranks.dist, "init_process_group", fail)
    with pytest.raises(
        UserError, match=r"the 2 processes .* MASTER_ADDR localhost, MASTER_PORT 1 \(timed out\); start all"
    ):
        ranks.init_dist("pytorch")


def test_launcher_is_known_where_torchrun_started_several_processes(joined, monkeypatch):
    assert ranks.launcher_here() == "none"
    torchrun(monkeypatch, WORLD_SIZE="1")
    assert ranks.launcher_here() == "none"
    torchrun(monkeypatch)
    assert ranks.launcher_here() == "pytorch"
    monkeypatch.delenv("MASTER_ADDR")
    assert ranks.launcher_here() == "none"


@pytest.mark.parametrize("written", ["--local-rank=1", "--local_rank=1"])
def test_rank_that_an_old_launcher_writes_before_the_command_stays_a_flag_of_it(written):
    arguments = basicsr_command.command_first([written, "train", "-opt", "options.yml"])
    assert arguments == ["train", written, "-opt", "options.yml"]
    parser = build_parser(basicsr_command.MAIN, basicsr_command.COMMANDS)
    assert parser.parse_args(arguments).local_rank == 1
    assert basicsr_command.command_first(["train", "-opt", "options.yml"])[0] == "train"


def test_process_that_torchrun_may_start_anew_knows_when_torchrun_began(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_MAX_RESTARTS", raising=False)
    assert ranks.trying_since() is None
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "0")
    assert ranks.trying_since() is None
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    assert ranks.trying_since() is None  # torchrun sets a run's name too
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert ranks.trying_since() == psutil.Process(os.getppid()).create_time()

    # this process in the place of torchrun, with two shells between it and the one that it starts
    code = "from rgt_arch.training import ranks; print(ranks.trying_since())"
    inner = shlex.join([sys.executable, "-c", code]) + "; true"  # with something to do after it, a shell stays
    outer = shlex.join(["sh", "-c", inner]) + "; true"
    printed = subprocess.run(["sh", "-c", outer], capture_output=True, text=True, check=True).stdout
    assert float(printed) == psutil.Process().create_time()

    def refuse(process):
        raise psutil.NoSuchProcess(process.pid)

    monkeypatch.setattr(psutil.Process, "environ", refuse)
    assert ranks.trying_since() is None


def test_process_that_was_told_to_end_does_not_wait_to_be_told(monkeypatch):
    """SIGTERM of torchrun comes while a rank still trains, and its error of the lost contact after that."""
    now = [0.0]
    monkeypatch.setattr(ranks.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ranks.time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    for signals in (0, 1):
        with StopRequest() as stop:
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGTERM)
        now[0] = 0.0
        ranks.let_others_speak(stop)
        assert now[0] == (0.0 if signals else pytest.approx(10, abs=0.2))


def test_processes_started_anew_meet_apart_from_those_that_died(monkeypatch):
    """In one store, as torchrun keeps it: two tries of three ranks, the later ranks of the second coming late."""
    store = torch.distributed.HashStore()
    monkeypatch.setattr(ranks.dist, "rendezvous", lambda *_arguments, **_keywords: iter([(store, 0, 3)]))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")

    def meet(rank):
        time.sleep(0.3 * rank)
        return ranks._meeting(rank, 3, None)["store"]

    for _try in range(2):
        with ThreadPoolExecutor(3) as threads:
            parts = list(threads.map(meet, range(3)))
        assert not parts[2].check(["address"])
        parts[0].set("address", "0")
        assert [part.get("address") for part in parts] == [b"0"] * 3

    store.set_timeout(timedelta(seconds=1))
    with pytest.raises(torch.distributed.DistStoreError, match="no sign of rank 1, 2"):
        ranks._meeting(0, 3, None)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE")
    assert ranks._meeting(0, 3, None) == {}


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
def test_error_of_a_process_that_lost_another_is_told_from_others(monkeypatch, error, lost):
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
def test_first_host_of_a_slurm_list_is_the_master(joined, monkeypatch, nodes, first):
    slurm(monkeypatch, PROCID="3", NTASKS="4", NODELIST=nodes, LOCALID="1")
    gpus(monkeypatch, 0)
    ranks.init_dist("slurm", port=1234)
    assert [os.environ[name] for name in NAMES] == ["3", "4", "1", first, "1234"]


def test_slurm_step_on_some_of_the_machines_meets_on_its_own_first(joined, monkeypatch):
    slurm(monkeypatch, PROCID="0", NTASKS="2", NODELIST="gpu[03-07]", STEP_NODELIST="gpu[05-06]")
    gpus(monkeypatch, 0)
    ranks.init_dist("slurm")
    assert [os.environ[name] for name in NAMES] == ["0", "2", "0", "gpu05", "29500"]


def test_slurm_process_that_sees_its_own_gpu_only_takes_that(joined, monkeypatch):
    slurm(monkeypatch, PROCID="3", NTASKS="4", NODELIST="gpu03", LOCALID="3")
    gpus(monkeypatch, 1)
    ranks.init_dist("slurm")
    assert joined["device"] == 0


def test_port_of_the_environment_wins_over_the_option_file(joined, monkeypatch):
    slurm(monkeypatch, PROCID="0", NTASKS="1", NODELIST="gpu03")
    monkeypatch.setenv("MASTER_PORT", "4321")
    gpus(monkeypatch, 0)
    ranks.init_dist("slurm", port=1234)
    assert os.environ["MASTER_PORT"] == "4321"


@pytest.mark.parametrize(
    ("outcome", "code"), [(7, None), (UserError("one line"), 1), (UsageError("one line"), 2)], ids=str
)
def test_what_rank_zero_finds_is_known_to_all(monkeypatch, outcome, code):
    """Its error is raised on rank 0 alone; the others leave with its code."""
    sent = []

    def broadcast(objects, src, group):
        if ranks.dist.get_rank() == src:
            sent[:] = objects
        objects[:] = sent

    def work():
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(ranks.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(ranks.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(ranks.dist, "broadcast_object_list", broadcast)
    monkeypatch.setattr(ranks, "let_others_speak", lambda: None)
    for rank, error in enumerate((UserError, SystemExit)):
        monkeypatch.setattr(ranks.dist, "get_rank", lambda rank=rank: rank)
        if code is None:
            assert ranks.on_rank_zero(work if rank == 0 else pytest.fail) == outcome
            continue
        with pytest.raises(error) as caught:
            ranks.on_rank_zero(work if rank == 0 else pytest.fail)
        assert caught.value is outcome if rank == 0 else caught.value.code == code


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="names of threads need Linux's /proc")
def test_threads_of_gloo_end_with_the_group(tmp_path):
    """One that lets go of a tensor while the interpreter ends would abort the process."""
    script = tmp_path / "rank.py"
    script.write_text(
        "from pathlib import Path\n"
        "import torch\n"
        "from rgt_arch.training.ranks import init_dist, leave\n"
        "def threads():\n"
        "    return sum('gloo' in name.read_text() for name in Path('/proc/self/task').glob('*/comm'))\n"
        "def step():\n"
        "    network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))\n"
        "    network(torch.ones(1, 1)).sum().backward()\n"
        "    return threads()\n"
        "init_dist('pytorch', cpu=True)\n"
        "during = step()\n"
        "leave()\n"
        "print(f'threads of gloo: {during > 0} {threads()}\\n', end='')\n"  # in one piece, beside the other rank's
    )
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script))
    run = subprocess.run(launch, capture_output=True, text=True, timeout=300)
    assert run.stdout.count("threads of gloo: True 0\n") == 2, run.stdout + run.stderr
