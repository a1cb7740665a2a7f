"""Options of a run, read from the flags of the command."""

from __future__ import annotations

import pytest
import torch
import yaml

from rgt_arch.cli.basicsr_command import COMMANDS, MAIN
from rgt_arch.cli.commands import build_parser
from rgt_arch.training import options, ranks
from rgt_arch.training.options import Flags, read_options


@pytest.fixture
def read(monkeypatch, tmp_path):
    """read({section: values}, flag=value, …): the options of a run, without the checks of its file."""
    monkeypatch.setattr(options, "validate_options", lambda *_arguments, **_keywords: [])
    monkeypatch.setattr(ranks, "init_dist", lambda *_arguments, **_keywords: None)

    def make(changes=None, is_train=True, **flags):
        opt = {
            "name": "run",
            "model_type": "SRModel",
            "scale": 2,
            "num_gpu": 0,
            "datasets": {"train": {"dataroot_gt": "~/gt", "num_worker_per_gpu": 1}, "val_1": {}},
            "path": {"pretrain_network_g": "~/net.pth"},
            "val": {"val_freq": 500},
            "logger": {"print_freq": 100, "save_checkpoint_freq": 1000},
        }
        (tmp_path / "options.yml").write_text(yaml.safe_dump({**opt, **(changes or {})}))
        flags = {"opt": str(tmp_path / "options.yml"), **flags}
        return read_options(Flags(**flags), str(tmp_path), [], is_train=is_train)

    return make


def test_options_are_completed_as_in_basicsr(read, monkeypatch, tmp_path):
    import basicsr.train

    monkeypatch.setenv("HOME", "/home/somebody")
    ours = read({"manual_seed": 3})
    monkeypatch.setattr("sys.argv", ["train.py", "-opt", str(tmp_path / "options.yml")])
    theirs, _ = basicsr.train.parse_options(str(tmp_path), is_train=True)
    assert ours["datasets"]["train"]["dataroot_gt"] == "/home/somebody/gt"
    assert ours["path"]["pretrain_network_g"] == "/home/somebody/net.pth"
    for dataset in theirs["datasets"].values():
        dataset.pop("pin_memory")  # the patch sets it for this machine
    assert {key: value for key, value in ours.items() if key not in ("seed_is_drawn", "root_path")} == theirs


def test_missing_seed_is_drawn_and_the_seed_sets_the_generators(read):
    opt = read()
    assert 1 <= opt["manual_seed"] <= 10000
    assert opt["seed_is_drawn"]
    numbers = []
    for changes in ({"manual_seed": 5}, {"manual_seed": 5}, {"manual_seed": 6}):
        assert not read(changes)["seed_is_drawn"]
        numbers.append(torch.rand(1).item())
    assert numbers[0] == numbers[1] != numbers[2]


@pytest.mark.parametrize(("launcher", "expected"), [("pytorch", 1), ("none", 8)])
def test_each_process_of_several_takes_one_gpu(read, monkeypatch, launcher, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("basicsr.utils.set_random_seed", lambda _seed: None)
    assert read({"num_gpu": 8}, launcher=launcher)["num_gpu"] == expected


def test_debug_runs_are_named_and_save_often_and_tests_have_no_checkpoints(read):
    opt = read(debug=True)
    assert (opt["name"], opt["val"]["val_freq"]) == ("debug_run", 8)
    assert opt["logger"] == {"print_freq": 1, "save_checkpoint_freq": 8}
    assert opt["path"]["models"].endswith("experiments/debug_run/models")
    paths = read(is_train=False)["path"]
    assert paths["results_root"].endswith("results/run")
    assert "models" not in paths
    assert read(force_yml=["logger:print_freq=7", "manual_seed=9"])["logger"]["print_freq"] == 7


def test_folder_of_a_run_can_be_given_as_in_basicsrs_newest_version(read, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    for folder, is_train in (("experiments_root", True), ("results_root", False)):
        paths = read({"path": {folder: "~/runs/1"}}, is_train=is_train)["path"]
        assert (paths[folder], paths["log"]) == ("/home/somebody/runs/1",) * 2
    assert read({"path": {"experiments_root": "~/runs/1"}})["path"]["models"] == "/home/somebody/runs/1/models"


def test_home_in_the_name_of_the_option_file_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    for arguments in (["-opt", "~/x.yml"], ["--opt=~/x.yml"]):
        assert build_parser(MAIN, COMMANDS).parse_args(["train", *arguments]).opt == "/home/somebody/x.yml"
