"""Each patch of BasicSR repairs broken or unsafe behaviour and changes nothing else."""

from __future__ import annotations

import os
import sys
from unittest.mock import Mock

import basicsr.train
import pytest
import torch
import yaml
from basicsr.models import base_model
from basicsr.models.base_model import BaseModel
from basicsr.utils import FileClient
from basicsr.utils import options as basicsr_options
from basicsr.utils.registry import Registry

from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.basicsr_compat import PATCHES
from rgt_arch.basicsr_compat.mended import keep_first
from rgt_arch.data.lmdb_reader import SharedLmdbBackend
from rgt_arch.errors import UserError
from rgt_arch.torch_files import load_data_only

from ..conftest import MakesFolder

TINY = {"depth": [1], "embed_dim": 12, "num_heads": [2], "split_size": [8, 8], "mlp_ratio": 1, "upscale": 2}
OPTIONS = """
name: run
manual_seed: 5
num_gpu: 1
model_type: SRModel
datasets:
  train: {type: PairedImageDataset, dataroot_gt: ~/gt, prefetch_mode: cuda, pin_memory: true}
  val_1: {type: PairedImageDataset, dataroot_lq: lq}
scale: 2
path: {pretrain_network_g: ~/net.pth}
train: {optim_g: {lr: 1.0e-4, betas: [0.9, 0.99]}, milestones: [1, 2], on: yes, none: ~}
logger: {print_freq: 100}
"""


def load(text):
    return yaml.load(text, Loader=basicsr_options.ordered_yaml()[0])


def test_option_files_run_no_code_and_differ_only_in_reading_2e_4_as_a_number(tmp_path):
    with pytest.raises(yaml.YAMLError):
        load(f"evil: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]")
    assert not (tmp_path / "made").exists()
    assert load("a: 2e-4\nb: 1E3\nc: -.5e-6\nd: 2e") == {"a": 2e-4, "b": 1e3, "c": -0.5e-6, "d": "2e"}
    read, plain = load(OPTIONS), yaml.load(OPTIONS, Loader=yaml.SafeLoader)
    assert read == plain
    assert list(read) == list(plain)
    dumped = yaml.dump(read, Dumper=basicsr_options.ordered_yaml()[1])
    assert load(dumped) == plain


@pytest.mark.parametrize("has_gpu", [True, False])
def test_parsed_options_request_a_gpu_only_if_one_exists(monkeypatch, tmp_path, has_gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(has_gpu))
    (tmp_path / "options.yml").write_text(OPTIONS)
    monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(tmp_path / "options.yml")])
    opt, arguments = basicsr.train.parse_options(str(tmp_path), is_train=True)
    assert opt["num_gpu"] == int(has_gpu)
    train = opt["datasets"]["train"]
    assert (train["prefetch_mode"], train["pin_memory"]) == (("cuda", True) if has_gpu else (None, False))
    assert (train["phase"], train["scale"], opt["is_train"], opt["auto_resume"]) == ("train", 2, True, False)
    assert opt["path"]["models"] == str(tmp_path / "experiments/run/models")
    assert arguments.opt == str(tmp_path / "options.yml")


def test_lmdb_backend_is_ours_and_other_backends_are_basicsrs():
    assert FileClient._backends["lmdb"] is SharedLmdbBackend
    others = {name: backend.__module__ for name, backend in FileClient._backends.items() if name != "lmdb"}
    assert others == dict.fromkeys(("disk", "memcached"), "basicsr.utils.file_client")


@pytest.mark.parametrize("forced", ["0", "1"])
def test_weights_and_states_run_no_code_even_when_the_environment_asks_for_it(tmp_path, monkeypatch, forced):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    file = tmp_path / "5.state"
    torch.save({"params": MakesFolder(tmp_path / "executed")}, file)
    model = BaseModel({"num_gpu": 0, "is_train": False})
    loads = [
        lambda: model.load_network(torch.nn.Linear(1, 1), str(file)),
        lambda: basicsr.train.load_resume_state({"auto_resume": False, "path": {"resume_state": str(file)}}),
    ]
    for attempt in loads:
        with pytest.raises(UserError, match=r"5.state: refused, because loading it would run code \(posix.mkdir\)"):
            attempt()
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "param_key"),
    [
        (lambda own, other: {"params-ema": own, "params": other}, "params_ema"),
        (lambda own, other: {"params": {f"net_g.{key}": value for key, value in own.items()}}, "params"),
        (lambda own, other: {"state_dict": {f"model.{key}": value for key, value in own.items()}}, "state_dict"),
        (lambda own, other: {f"net_g.{key}": value for key, value in own.items()}, None),
        (lambda own, other: {"nets": {"ema-g": own, "g": other}}, "nets.ema_g"),
    ],
)
def test_models_load_an_rgt_under_the_names_that_checks_offer(tmp_path, content, param_key):
    own, other = RGT(**TINY).state_dict(), RGT(**TINY).state_dict()
    torch.save(content(own, other), tmp_path / "file.pth")
    network = RGT(**TINY)
    BaseModel({"num_gpu": 0, "is_train": False}).load_network(network, str(tmp_path / "file.pth"), True, param_key)
    assert all(torch.equal(value, own[key]) for key, value in network.state_dict().items())


def test_other_networks_are_loaded_as_they_are(tmp_path):
    """Their modules may have names that `read_checkpoint` takes for a wrapper's."""
    network = torch.nn.Module()
    network.body = torch.nn.Module()
    network.body.module = torch.nn.Linear(2, 2)
    torch.save({"params": network.state_dict()}, tmp_path / "file.pth")
    assert base_model.torch.load(tmp_path / "file.pth")["params"].keys() == {"body.module.weight", "body.module.bias"}


def test_failed_save_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    path = tmp_path / "net.pth"
    base_model.torch.save({"weight": torch.ones(2)}, str(path))
    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        base_model.torch.save({}, str(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.pth"]
    assert load_data_only(path)["weight"].tolist() == [1, 1]
    assert base_model.torch.optim.Adam is torch.optim.Adam  # only `save` is replaced


def test_models_go_to_the_cpu_and_to_several_gpus():
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
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("auto_resume", "named", "iteration"),
    [(True, None, 10), (True, "8.state", 10), (False, "8.state", 8), (False, None, None)],
)
def test_host_resumes_from_the_state_that_basicsr_chooses(monkeypatch, tmp_path, auto_resume, named, iteration):
    """The state with the highest number or the named one, and the weights of its iteration."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "experiments/run/training_states"
    folder.mkdir(parents=True)
    for number in (8, 9, 10):
        torch.save({"iter": number, "epoch": 0}, folder / f"{number}.state")
    (folder / "mine.state").write_text("none of the run's")
    paths = {"resume_state": named and str(folder / named), "models": "models", "pretrain_network_g": None}
    opt = {"auto_resume": auto_resume, "name": "run", "path": paths, "network_g": {}}
    state = basicsr.train.load_resume_state(opt)
    assert (state and state["iter"]) == iteration
    assert paths["pretrain_network_g"] == (iteration and f"models/net_g_{iteration}.pth")
    assert basicsr.train.load_resume_state({"auto_resume": True, "name": "new", "path": {}}) is None


def test_name_clash_with_our_class_keeps_the_first_and_is_logged(caplog):
    registry = Registry("test")
    theirs = type("RGT", (), {"__module__": "fork.archs"})
    ours = type("RGT", (), {"__module__": "rgt_arch.archs.rgt_arch"})
    for first, second in ((theirs, ours), (ours, theirs)):
        caplog.clear()
        registry._obj_map.clear()
        registry.register(first)
        registry.register(second)
        assert registry.get("RGT") is first
        assert caplog.messages == [
            f"RGT is registered by {first.__module__}; the one of {second.__module__} is not used"
        ]
    registry._obj_map.clear()
    registry.register(theirs)
    with pytest.raises(AssertionError):
        registry.register(type("RGT", (), {"__module__": "other.fork"}))
    registry.register(theirs, suffix="fork")
    assert "RGT_fork" in registry


def test_registry_of_basicsr_1_3_gets_no_suffix():
    """BasicSR 1.3.4.9, which HAT requires, calls and defines it without one."""
    entered = []
    keep_first(lambda _registry, name, _obj: entered.append(name))(Registry("test"), "RGT", object)
    assert entered == ["RGT"]


def test_basicsrs_pipelines_are_not_replaced():
    """Loops, loggers, folders and signals of a host are unchanged."""
    assert basicsr.train.train_pipeline.__module__ == "basicsr.train"
    homes = {name: getattr(value, "__module__", type(value).__module__) for name, value in vars(basicsr.train).items()}
    ours = {name for name, home in homes.items() if home and home.startswith("rgt_arch")}
    assert ours == {"load_resume_state", "parse_options"} <= {patch.name for patch in PATCHES}
