"""Which runs count as unfinished, and what may be archived or created."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import basicsr.train
import basicsr.utils.misc
import pytest

from rgt_arch.basicsr_compat import resume, run_folders
from rgt_arch.errors import UsageError, UserError


@pytest.fixture
def opt(tmp_path):
    root = tmp_path / "experiments" / "run"
    folders = {"experiments_root": root, "models": root / "models", "training_states": root / "training_states"}
    for folder in folders.values():
        folder.mkdir(parents=True)
    return {
        "name": "run",
        "is_train": True,
        "auto_resume": False,
        "rank": 0,
        "network_g": {},
        "train": {"total_iter": 10},
        "path": {key: str(folder) for key, folder in folders.items()},
    }


def write(opt, key, name, age=0, content=""):
    path = os.path.join(opt["path"][key], name)
    with open(path, "w") as file:
        file.write(content)
    os.utime(path, (1_000_000 - age, 1_000_000 - age))


def test_folder_without_training_in_it_may_be_archived(opt):
    write(opt, "experiments_root", "train_run_1.log", content="INFO: Start training from epoch: 0, iter: 0\n")
    run_folders.refuse_unfinished(opt, 10)


@pytest.mark.parametrize(
    ("key", "name", "content"),
    [
        ("training_states", "4.state", ""),
        ("models", "net_g_4.pth", ""),
        ("experiments_root", "train_run_1.log", "INFO: [run..][epoch:  0, iter:   1,000, lr:(1e-4,)] \n"),
    ],
)
def test_traces_of_training_are_not_archived_unasked(opt, key, name, content):
    write(opt, key, name, content=content)
    with pytest.raises(UsageError, match=r"an unfinished run has this name .*--auto_resume .*--restart"):
        run_folders.refuse_unfinished(opt, 10)


def test_run_is_finished_at_total_iter_or_when_its_last_weights_are_newest(opt):
    write(opt, "training_states", "10.state")
    run_folders.refuse_unfinished(opt, 10)
    with pytest.raises(UsageError):
        run_folders.refuse_unfinished(opt, 20)
    write(opt, "models", "net_g_latest.pth")
    run_folders.refuse_unfinished(opt, 20)
    write(opt, "models", "net_g_latest.pth", age=10)  # resumed with more iterations, and stopped again
    with pytest.raises(UsageError):
        run_folders.refuse_unfinished(opt, 20)


def test_naming_a_state_of_the_run_continues_it(opt):
    write(opt, "training_states", "4.state")
    opt["path"]["resume_state"] = os.path.join(opt["path"]["training_states"], "4.state")
    run_folders.refuse_unfinished(opt, 10)


def test_restart_and_a_state_of_the_same_run_exclude_each_other(opt):
    import torch

    state = {"epoch": 0, "iter": 4, "optimizers": [], "schedulers": []}
    opt["path"]["resume_state"] = os.path.join(opt["path"]["training_states"], "4.state")
    torch.save(state, opt["path"]["resume_state"])
    torch.save({}, os.path.join(opt["path"]["models"], "net_g_4.pth"))
    with pytest.raises(UsageError, match="--restart would archive the run"):
        resume.load_resume_state({**opt, "restart": True})


def test_named_state_that_is_missing_or_foreign_is_an_error(opt):
    opt["path"]["resume_state"] = os.path.join(opt["path"]["training_states"], "4.state")
    with pytest.raises(UsageError, match=r"path:resume_state = .*4.state: no such file"):
        resume.load_resume_state(opt)
    write(opt, "training_states", "4.state", content="text")
    with pytest.raises(UserError, match=r"4.state: is a text file .* no other state beside it"):
        resume.load_resume_state(opt)


def test_nothing_to_resume_begins(opt):
    opt["auto_resume"] = True
    assert resume.load_resume_state(opt) is None
    assert (opt["start_iter"], opt["start_epoch"]) == (0, 0)


def test_two_runs_archived_within_a_second_get_two_names(tmp_path):
    for number in range(3):
        basicsr.utils.misc.mkdir_and_rename(str(tmp_path / "run"))
        (tmp_path / "run" / "kept").write_text(str(number))
    kept = [path.read_text() for path in sorted(tmp_path.glob("run*/kept"))]
    assert sorted(kept) == ["0", "1", "2"]


def test_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/run: cannot be created"):
        run_folders.create({"log": str(tmp_path / "file" / "run")})


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfname: run\r\n", "# ×2\nname: run\n".encode()])
def test_copy_of_the_option_file_is_its_bytes_below_time_and_command(opt, tmp_path, monkeypatch, content):
    source = tmp_path / "options.yml"
    source.write_bytes(content)
    monkeypatch.setattr("sys.argv", ["basicsr train", "-opt", "options.yml", "--force_yml", "name=a\nb: c \udcff"])
    folder = opt["path"]["experiments_root"]
    for file in (source, os.path.join(folder, "options.yml")):  # the second is the copy itself
        basicsr.train.copy_opt_file(str(file), folder)
    with open(os.path.join(folder, "options.yml"), "rb") as file:
        heading, _, rest = file.read().partition(b"\n\n")
    assert heading.startswith(b"# GENERATE TIME: ")
    assert heading.endswith(rb"# CMD:" + b"\n" + rb"# basicsr train -opt options.yml --force_yml name=a b: c \udcff")
    assert rest == content.removeprefix(b"\xef\xbb\xbf")


def test_only_rank_zero_copies_the_option_file(opt, tmp_path, monkeypatch):
    (tmp_path / "options.yml").write_text("name: run")
    monkeypatch.setattr(run_folders.dist, "is_initialized", lambda: True)
    for rank in (1, 0):
        monkeypatch.setattr(run_folders.dist, "get_rank", lambda rank=rank: rank)
        basicsr.train.copy_opt_file(str(tmp_path / "options.yml"), opt["path"]["experiments_root"])
        assert os.path.exists(os.path.join(opt["path"]["experiments_root"], "options.yml")) is (rank == 0)


@pytest.mark.parametrize("name", ["train_run_20260102_030405.log", "train_run_20260102_030405_2.log"])
def test_names_of_logs_say_whether_a_run_was_begun_since(opt, name):
    moment = time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1))
    write(opt, "experiments_root", "train_run_latest.log")
    assert not run_folders.was_begun_since(opt, moment - 1)
    write(opt, "experiments_root", name)
    assert run_folders.was_begun_since(opt, moment - 1)
    assert not run_folders.was_begun_since(opt, moment + 1)


CLAIM = """
import sys
from rgt_arch.basicsr_compat import run_folders
run_folders.claim(sys.argv[1])
print("claimed", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(run_folders.fcntl is None, reason="folders cannot be locked here")
def test_one_process_at_a_time_trains_in_a_folder(opt, monkeypatch):
    monkeypatch.setattr(run_folders, "_WORKERS_LAST", 0.0)
    root = opt["path"]["experiments_root"]
    before = sorted(os.listdir(root))
    command = [sys.executable, "-c", CLAIM, root]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "claimed\n"
        with pytest.raises(UsageError, match=r"run: another process is training this run"):
            run_folders.claim(root)
        os.rename(root, root + "_archived")  # as --restart does
        os.mkdir(root)
        run_folders.claim(root)
        other.kill()
        other.wait()
    run_folders.claim(root + "_archived")  # the dead hold nothing
    assert sorted(os.listdir(root + "_archived")) == before
    run_folders.claim(os.path.join(root, "no such folder"))  # gives up what was claimed
    assert run_folders._claimed is None
