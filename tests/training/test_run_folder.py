"""Run directories: unfinished runs, archiving, creation and locking."""

from __future__ import annotations

import os
import time

import pytest

from rgt_arch.errors import UsageError
from rgt_arch.training import run_folder


@pytest.fixture
def opt(tmp_path):
    root = tmp_path / "experiments" / "run"
    folders = {"experiments_root": root, "models": root / "models", "training_states": root / "training_states"}
    for folder in folders.values():
        folder.mkdir(parents=True)
    return {
        "name": "run",
        "root_path": str(tmp_path),
        "logger": {"use_tb_logger": True},
        "train": {"total_iter": 10},
        "path": {key: str(folder) for key, folder in folders.items()},
    }


def write(opt, key, name, age=0, content=""):
    path = os.path.join(opt["path"][key], name)
    with open(path, "w") as file:
        file.write(content)
    os.utime(path, (1_000_000 - age, 1_000_000 - age))


def test_a_run_is_unfinished_from_its_first_checkpoint_to_its_last_weights(opt):
    write(opt, "experiments_root", "train_run_1.log", content="INFO: Start training from epoch: 0, iter: 0\n")
    run_folder.refuse_unfinished(opt)
    for key, name, age, total_iter, is_unfinished in (
        ("models", "net_g_10.pth", 0, 10, True),
        ("training_states", "10.state", 0, 10, False),
        ("training_states", "10.state", 0, 20, True),
        ("models", "net_g_latest.pth", 0, 20, False),
        ("models", "net_g_latest.pth", 10, 20, True),  # resumed with more iterations, and stopped again
    ):
        write(opt, key, name, age)
        opt["train"]["total_iter"] = total_iter
        if not is_unfinished:
            run_folder.refuse_unfinished(opt)
            continue
        ways = (
            "--auto_resume .*--restart" if run_folder.saved_iterations(opt["path"]["training_states"]) else "--restart"
        )
        with pytest.raises(UsageError, match=rf"an unfinished run has this name \(it .*\); pass {ways}"):
            run_folder.refuse_unfinished(opt)


def test_naming_a_state_of_the_run_continues_it(opt):
    write(opt, "training_states", "4.state")
    opt["path"]["resume_state"] = os.path.join(opt["path"]["training_states"], "4.state")
    run_folder.refuse_unfinished(opt)


def test_runs_archived_within_a_second_get_different_names(opt, tmp_path):
    curves = tmp_path / "tb_logger/run"
    for number in range(3):
        run_folder.prepare_run(opt, goes_on=False)
        (tmp_path / "experiments/run/kept").write_text(str(number))
        curves.mkdir(parents=True)
        (curves / "kept").write_text(str(number))
    for folder in ("experiments", "tb_logger"):
        assert sorted(path.read_text() for path in tmp_path.glob(f"{folder}/run*/kept")) == ["0", "1", "2"]


def test_resumed_run_keeps_its_folder_except_for_partial_files(opt, tmp_path):
    run = tmp_path / "experiments/run"
    (run / "visualization/img").mkdir(parents=True)
    half = [run / "models/.net_g_6.4711.part.pth", run / "training_states/.6.4711.part.state"]
    half += [run / ".metrics.4711.part.csv", run / ".options.4711.part.yml", run / ".options.4711.part"]
    half += [run / "visualization/img/.img_6.4711.part.png"]
    mine = [run / "models/.mine.part.pth", run / "models/.net_g_6.pth", run / "models/net_g_6.part.pth"]
    for path in (*half, *mine):
        path.write_bytes(b"half")
    run_folder.prepare_run(opt, goes_on=True)
    assert not any(path.exists() for path in half)
    assert all(path.exists() for path in mine)
    assert not list(tmp_path.glob("experiments/run_archived_*"))


def test_failed_folder_is_named_and_unknown_path_keys_create_no_folder(opt, tmp_path):
    """BasicSR creates a directory for every key of `path`."""
    opt["path"]["elsewhere"] = str(tmp_path / "made_by_mistake")
    run_folder.prepare_run(opt, goes_on=True)
    assert not (tmp_path / "made_by_mistake").exists()
    (tmp_path / "file").write_text("")
    opt["path"]["log"] = str(tmp_path / "file" / "run")
    with pytest.raises(UsageError, match="file/run: cannot be created"):
        run_folder.prepare_run(opt, goes_on=True)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfname: run\r\n", "# ×2\nname: run\n".encode()])
def test_copied_option_file_has_equal_bytes_below_time_and_command(opt, tmp_path, monkeypatch, content):
    source = tmp_path / "options.yml"
    source.write_bytes(content)
    monkeypatch.setattr("sys.argv", ["basicsr train", "-opt", "options.yml", "--force_yml", "name=a\nb: c \udcff"])
    folder = opt["path"]["experiments_root"]
    for file in (source, os.path.join(folder, "options.yml")):  # the second is the copy itself
        run_folder.copy_option_file(str(file), folder)
    with open(os.path.join(folder, "options.yml"), "rb") as file:
        heading, _, rest = file.read().partition(b"\n\n")
    assert heading.startswith(b"# GENERATE TIME: ")
    assert heading.endswith(rb"# CMD:" + b"\n" + rb"# basicsr train -opt options.yml --force_yml name=a b: c \udcff")
    assert rest == content.removeprefix(b"\xef\xbb\xbf")


def test_names_of_logs_show_whether_a_run_began_since(opt):
    moment = time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1))
    write(opt, "experiments_root", "train_run_latest.log")
    assert not run_folder.begun_since(opt, moment - 1)
    write(opt, "experiments_root", "train_run_20260102_030405_2.log")
    assert run_folder.begun_since(opt, moment - 1)
    assert not run_folder.begun_since(opt, moment + 1)


@pytest.mark.skipif(run_folder.fcntl is None, reason="folders cannot be locked here")
def test_one_process_at_a_time_trains_in_a_folder(opt, monkeypatch):
    """Two locks exclude each other within one process as between two."""
    monkeypatch.setattr(run_folder, "_WORKERS_LAST", 0.0)
    root = opt["path"]["experiments_root"]
    before = sorted(os.listdir(root))
    other, lock, old = (run_folder.FolderLock(path) for path in (root, root, root + "_archived"))
    other.take()
    with pytest.raises(UsageError, match=r"run: another process is training this run"):
        lock.take()
    os.rename(root, root + "_archived")  # as --restart does
    os.mkdir(root)
    lock.take()
    lock.take()  # a process may take its own lock again
    with pytest.raises(UsageError, match=r"run_archived: another process"):
        old.take()
    other.close()
    old.take()
    assert sorted(os.listdir(root + "_archived")) == before
    run_folder.FolderLock(os.path.join(root, "no such folder")).take()  # a missing folder needs no lock


@pytest.mark.skipif(run_folder.fcntl is None, reason="folders cannot be locked here")
def test_a_forked_data_worker_leaves_the_lock_to_its_parent(opt, monkeypatch):
    monkeypatch.setattr(run_folder, "_WORKERS_LAST", 0.0)
    lock = run_folder.FolderLock(opt["path"]["experiments_root"])
    lock.take()
    ready, stay = os.pipe(), os.pipe()
    worker = os.fork()
    if not worker:
        lock.leave_to_parent()
        os.write(ready[1], b"!")
        os.read(stay[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    lock.close()  # as when the parent is killed
    again = run_folder.FolderLock(opt["path"]["experiments_root"])
    again.take()
    again.close()
    os.write(stay[1], b"!")
    assert os.waitpid(worker, 0)[1] == 0


@pytest.mark.parametrize("earlier", [False, True])
def test_testing_keeps_earlier_results_and_names_them(opt, tmp_path, earlier):
    opt["path"] = {"results_root": str(tmp_path / "results/run"), "log": str(tmp_path / "results/run")}
    opt["path"]["visualization"] = str(tmp_path / "results/run/visualization")
    picture = tmp_path / "results/run/visualization/Set5/baby.png"
    if earlier:
        picture.parent.mkdir(parents=True)
        picture.write_bytes(b"an earlier one")
    notices: list[str] = []
    run_folder.prepare_results(opt, notices)
    assert picture.exists() is earlier
    assert [folder.name for folder in (tmp_path / "results").iterdir()] == ["run"]
    assert len(notices) == earlier
    assert all("holds the pictures of an earlier test" in notice for notice in notices)
