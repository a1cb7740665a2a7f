"""Process groups from torchrun's and Slurm's variables, and models on CPUs and GPUs."""

from __future__ import annotations

import os

import pytest
import torch
from basicsr.models.base_model import BaseModel

from rgt_arch.basicsr_compat import devices, distributed
from rgt_arch.config import hardware
from rgt_arch.config.loading import WrittenOptions
from rgt_arch.config.report import Report
from rgt_arch.errors import UsageError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def joined(monkeypatch):
    """Arguments of init_process_group, and the device taken, instead of joining anything."""
    seen = {}
    for name in (*NAMES, "SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST", "SLURM_LOCALID"):
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda **arguments: seen.update(arguments))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: seen.update(device=device))
    monkeypatch.setattr(distributed.mp, "set_start_method", lambda _method: None)
    return seen


def torchrun(monkeypatch, **values):
    environment = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1", **values}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def gpus(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_gloo_without_gpu_even_if_the_options_say_nccl(joined, monkeypatch):
    torchrun(monkeypatch)
    gpus(monkeypatch, 0)
    distributed.init_dist("pytorch", backend="nccl", port=29500, timeout=60)
    assert joined["backend"] == "gloo"
    assert joined["timeout"].total_seconds() == 60
    assert "device" not in joined


def test_nccl_on_the_gpu_of_local_rank(joined, monkeypatch):
    torchrun(monkeypatch)
    gpus(monkeypatch, 2)
    distributed.init_dist("pytorch")
    assert (joined["backend"], joined["device"]) == ("nccl", 1)


def test_gpus_are_left_alone_for_num_gpu_0(joined, monkeypatch):
    torchrun(monkeypatch)
    gpus(monkeypatch, 2)
    distributed.init_dist("pytorch", cpu=True)
    assert joined["backend"] == "gloo"
    assert "device" not in joined


def test_more_processes_than_gpus_is_a_usage_error(joined, monkeypatch):
    torchrun(monkeypatch, LOCAL_RANK="2")
    gpus(monkeypatch, 2)
    with pytest.raises(UsageError, match="LOCAL_RANK 2: this machine has 2 usable GPU"):
        distributed.init_dist("pytorch")


def test_launcher_without_its_environment_is_a_usage_error(joined):
    with pytest.raises(UsageError, match="RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set; start the command with"):
        distributed.init_dist("pytorch")
    with pytest.raises(UsageError, match="SLURM_PROCID is not set"):
        distributed.init_dist("slurm")


def test_slurm_variables_become_those_of_torch(joined, monkeypatch, tmp_path):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\n[ \"$*\" = 'show hostnames gpu[03-04]' ] && printf 'gpu03\\ngpu04\\n'\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, value in {"PROCID": "3", "NTASKS": "4", "NODELIST": "gpu[03-04]", "LOCALID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    gpus(monkeypatch, 0)
    distributed.init_dist("slurm", port=1234)
    assert [os.environ[name] for name in NAMES] == ["3", "4", "1", "gpu03", "1234"]


def test_port_of_the_environment_wins_over_the_option_file(joined, monkeypatch):
    for name, value in {"PROCID": "0", "NTASKS": "1", "NODELIST": "gpu03"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("MASTER_PORT", "4321")
    gpus(monkeypatch, 0)
    distributed.init_dist("slurm", port=1234)
    assert os.environ["MASTER_PORT"] == "4321"


def test_single_slurm_node_needs_no_scontrol(joined, monkeypatch):
    for name, value in {"PROCID": "0", "NTASKS": "1", "NODELIST": "gpu03"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("PATH", "")
    gpus(monkeypatch, 0)
    distributed.init_dist("slurm")
    assert [os.environ[name] for name in NAMES] == ["0", "1", "0", "gpu03", "29500"]


@pytest.mark.parametrize(
    ("wanted", "present", "launcher", "settled"),
    [
        (1, 0, False, 0),
        ("auto", 0, False, 0),
        ("auto", 3, False, 3),
        (2, 4, False, 2),
        (0, 4, False, 0),
        (8, 1, True, 1),
    ],
)
def test_num_gpu_is_what_is_there(monkeypatch, wanted, present, launcher, settled):
    gpus(monkeypatch, present)
    opt = {"num_gpu": wanted, "datasets": {"train": {"prefetch_mode": "cuda", "pin_memory": True}}}
    if launcher:
        devices.one_gpu_each(opt)
    hardware.settle_devices(opt, Report("options.yml", WrittenOptions({}, {}, {})))
    assert opt["num_gpu"] == settled
    on_gpu = settled > 0
    assert opt["datasets"]["train"] == {"prefetch_mode": "cuda" if on_gpu else None, "pin_memory": on_gpu}


def test_several_gpus_make_a_data_parallel_model():
    model = BaseModel({"num_gpu": 0, "is_train": True, "dist": False})
    assert isinstance(model.model_to_device(torch.nn.Linear(1, 1)), torch.nn.Linear)
    model.opt["num_gpu"] = 2
    assert isinstance(model.model_to_device(torch.nn.Linear(1, 1)), torch.nn.DataParallel)


def test_ddp_on_cpus_needs_no_device_and_broadcasts_no_buffers(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = BaseModel({"num_gpu": 0, "is_train": True, "dist": True})
        wrapped = model.model_to_device(torch.nn.BatchNorm1d(2))
        assert wrapped.device_ids is None
        assert not wrapped.will_sync_module_buffers()
        wrapped(torch.randn(4, 2)).sum().backward()
        assert distributed.on_rank_zero(lambda: 7) == 7
    finally:
        torch.distributed.destroy_process_group()
