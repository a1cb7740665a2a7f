"""Processes of torchrun and Slurm share the files of a folder; what a dead process leaves is named and made later."""

import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.cli import main
from rgt_arch.errors import UsageError
from rgt_arch.inference import memory, sharing

from .. import warm

WATCHED = Path(__file__).with_name("watched_upscale.py")
SIDES = (20, 100, 32, 90, 24, 80, 40, 70)
NAMES = [f"{side}.png" for side in SIDES]
LARGEST_FIRST = ["broken.png", *sorted(NAMES, key=lambda name: -int(name.partition(".")[0]))]
COMMAND = ("upscale", "photos", "-o", "out", "-w", "net.pth", "--device", "cpu")
BROKEN = "photos/broken.png: is truncated, damaged or of an unknown kind"
UNFINISHED = "not finished; run the same command again"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The current folder: pictures of several sizes and a broken one in photos/ and photos/sub/, and small weights."""
    monkeypatch.chdir(tmp_path)
    Path("photos/sub").mkdir(parents=True)
    for number, side in enumerate(SIDES):
        noise = np.random.default_rng(side).integers(0, 255, (side, side, 3), dtype=np.uint8)
        Image.fromarray(noise).save(f"photos/{'sub/' * (number % 2)}{side}.png")
    Path("photos/broken.png").write_bytes(Path("photos/sub/100.png").read_bytes()[:3000])
    network = RGT(upscale=2, depth=[2], embed_dim=32, num_heads=[2], mlp_ratio=1)
    torch.save({"params": network.state_dict()}, "net.pth")
    return tmp_path


def watch(root, name, **settings):
    """The variable WATCH; `shares` reads the records of `name`."""
    (root / name).mkdir()
    return json.dumps({"log": name, **settings})


def shares(root, name):
    """The files that each process began, in order, and those of all, sorted; checks that no file was begun twice."""
    begun = {int(log.name): log.read_text().splitlines() for log in (root / name).iterdir()}
    every = sorted(name for names in begun.values() for name in names)
    assert len(set(every)) == len(every), begun
    return begun, every


def slurm(root, processes, *arguments, **environment):
    """Start the command as srun does."""
    step = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": str(processes), "SLURM_NODELIST": "localhost"}
    step |= {"MASTER_PORT": str(warm.free_port()), "SLURM_STEP_TASKS_PER_NODE": str(processes), **environment}
    return [
        warm.start(WATCHED, *arguments, cwd=root, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), **step)
        for rank in range(processes)
    ]


def results(folder):
    return {file.name.replace("_x2", ""): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def named(text):
    """The files that a text names as not finished."""
    lines = [line for line in text.splitlines() if line.endswith(UNFINISHED)]
    return {Path(line.partition(":")[0]).name for line in lines}


def test_a_killed_process_leaves_its_file_named_and_the_next_run_makes_only_what_is_missing(root):
    launch = ("-m", "torch.distributed.run", "--nproc_per_node=3", f"--master_port={warm.free_port()}")
    blow = watch(root, "first", blow=[1, 2, signal.SIGKILL])
    done = warm.run(*launch, WATCHED, *COMMAND, cwd=root, WATCH=blow)
    assert done.returncode == 1
    begun, every = shares(root, "first")
    made = {*results(root / "out")}
    lost = {*every} - made - {"broken.png"}
    assert begun[1][1] in lost
    assert all(names == [name for name in LARGEST_FIRST if name in names] for names in begun.values())
    assert lost <= named(done.stderr) <= {names[-1] for names in begun.values()}  # torchrun ended the others at work
    assert named(done.stdout) == named(done.stderr)
    [summary] = re.findall(r"(\d+) made, 0 already there, (\d+) failed(?:, (\d+) not begun)?: ", done.stdout)
    assert [int(number or 0) for number in summary] == [
        len(every) - 1 - len(named(done.stdout)),
        len(named(done.stdout)) + 1,
        len(NAMES) + 1 - len(every),
    ]

    again = slurm(root, 2, *COMMAND, WATCH=watch(root, "second"))
    assert [process.wait() for process in again] == [1, 0]
    assert shares(root, "second")[1] == sorted({*NAMES, "broken.png"} - made)
    assert f"{len(NAMES) - len(made)} made, {len(made)} already there, 1 failed" in again[0].stdout
    assert again[0].stderr.count(BROKEN) == again[0].stderr.count("upscaling (2 processes): 100%") == 1
    assert (again[1].stdout, again[1].stderr) == ("", "")
    assert main(["upscale", "photos", "-o", "alone", "-w", "net.pth", "--device", "cpu"]) == 1
    assert results(root / "out") == results(root / "alone")


def test_without_torchrun_the_others_go_on_when_a_process_dies(root):
    first, second = slurm(root, 2, *COMMAND, WATCH=watch(root, "log", blow=[1, 2, signal.SIGKILL], patience=5))
    assert (first.wait(), second.wait()) == (1, -signal.SIGKILL)
    begun, every = shares(root, "log")
    assert every == sorted([*NAMES, "broken.png"])
    assert named(first.stderr) == named(first.stdout) == {begun[1][1]}
    assert {*results(root / "out")} == {*NAMES} - {begun[1][1]}
    assert f"{len(NAMES) - 1} made, 0 already there, 2 failed: " in first.stdout


def test_without_torchrun_the_death_of_rank_zero_is_reported_by_the_others(root):
    first, second = slurm(root, 2, *COMMAND, WATCH=watch(root, "log", blow=[0, 2, signal.SIGKILL]))
    assert (first.wait(), second.wait()) == (-signal.SIGKILL, 1)
    missing = {*NAMES, "broken.png"} - {*results(root / "out")}
    [text] = re.findall("rank 0 of this run is gone; run the same command again; not made so far: (.*)", second.stderr)
    assert {Path(name).name for name in text.partition(" and ")[0].split(", ")} <= missing


def test_a_signal_to_the_run_names_the_files_in_work(root):
    first, second = slurm(root, 2, *COMMAND, WATCH=watch(root, "log", blow=[0, 2, signal.SIGTERM], patience=5))
    assert (first.wait(), second.wait()) == (143, 1)
    begun, _ = shares(root, "log")
    assert begun[0][1] in named(first.stdout)
    assert re.search(r"\d made, 0 already there, \d failed, \d not begun", first.stdout)


def test_a_run_that_cannot_print_ends():
    def tell(_number, _result):
        raise BrokenPipeError

    def work():
        with crew.sharing(500, tell, lambda _: None, lambda: None) as numbers:
            for number in numbers:
                crew.finish(number, "")
                time.sleep(0.01)

    crew = sharing.Crew(torch.distributed.HashStore(), 0, 1, outlives=False)
    with pytest.raises(SystemExit):
        work()


def test_a_wrong_command_is_reported_once(root):
    first, second = slurm(root, 2, "upscale", "no such folder", WATCH=watch(root, "log"))
    assert (first.wait(), second.wait()) == (2, 2)
    assert "no such folder: no such file or folder" in first.stderr
    assert (second.stdout, second.stderr) == ("", "")


def test_processes_with_different_commands_do_not_share(root, monkeypatch):
    start, ranks = warm.start, iter(range(2))
    monkeypatch.setattr(warm, "start", lambda *words, **given: start(*words, "--crf", next(ranks), **given))
    first, second = slurm(root, 2, *COMMAND, WATCH=watch(root, "log", patience=5))
    assert (first.wait(), second.wait()) == (1, 2)
    assert "rank 1 has other inputs or flags than rank 0" in second.stderr


def test_each_process_has_its_gpu_and_its_share_of_cores_and_memory(monkeypatch):
    chosen = {}
    for name, value in {
        **{"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "OMP_NUM_THREADS": "1"},
        **{"MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sharing, "meeting", lambda *_arguments: {"store": torch.distributed.HashStore()})
    monkeypatch.setattr(sharing, "cores", lambda: 13)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.update(gpu=device))
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: chosen.update(threads=threads))
    monkeypatch.setattr(memory, "_free_in_groups", lambda: [1000])
    with sharing.joined_crew(on_gpu=False) as crew:
        assert (crew.rank, crew.size, chosen.pop("threads")) == (5, 8, 3)
        assert memory.free_memory(torch.device("cpu")) == 250
    assert not chosen
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with sharing.joined_crew(on_gpu=True):
        assert chosen == {"gpu": 1}
    monkeypatch.setenv("LOCAL_RANK", "4")
    too_many = pytest.raises(UsageError, match=r"LOCAL_RANK 4: this machine has 4 usable GPU.* --device cpu")
    with too_many, sharing.joined_crew(on_gpu=True):
        pass
