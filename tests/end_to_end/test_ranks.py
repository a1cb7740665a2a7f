"""Training by two real processes: as one with twice the batch, through deaths and signals, however they are started."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from rgt_arch.cli.basicsr_command import main
from rgt_arch.models.rgt_model import RGTModel
from rgt_arch.training import loop, ranks

from .comparisons import assert_same_content
from .conftest import Project
from .runs import free_port

HERE = Path(__file__).parent
MODULE = ("-m", "rgt_arch.cli")
SCRIPT = (str(Path(sys.executable).with_name("basicsr")),)
TRAIN = ("train", "-opt", "options.yml", "--import", "watched")
NETWORK = {"type": "RGT", "upscale": 2, "depth": [2], "embed_dim": 96, "num_heads": [6], "mlp_ratio": 1}
METRICS = {
    "psnr": {"type": "calculate_psnr", "crop_border": 2},
    "ssim": {"type": "calculate_ssim", "crop_border": 2},
}


@pytest.fixture
def make(photographs, tmp_path):
    """make(name, batch): a project that trains a small RGT with so many images in a process's batch."""

    def project(name: str, batch: int) -> Project:
        shutil.copytree(photographs, tmp_path / name)
        project = Project(tmp_path / name)
        for images, folder in ((3, "three"), (1, "one")):  # neither can be shared out evenly
            for number in range(images):
                for kind in ("hr", "lr"):
                    (project.root / folder / kind).mkdir(parents=True, exist_ok=True)
                    shutil.copy(project.root / f"train/{kind}/img{number}.png", project.root / folder / kind)
        options = project.options
        options.update(model_type="RGTModel", network_g={**NETWORK, "drop_path_rate": 0.0})
        options["datasets"]["train"].update(batch_size_per_gpu=batch)
        held_out = options["datasets"].pop("val")
        for folder in ("three", "one"):
            where = {"name": folder, "dataroot_gt": f"{folder}/hr", "dataroot_lq": f"{folder}/lr"}
            options["datasets"][f"val_{folder}"] = {**held_out, **where}
        options["train"].update(total_iter=20, ema_decay=0.9, grad_clip=0.5)
        options["logger"].update(print_freq=1, save_checkpoint_freq=5)
        options["val"].update(val_freq=10, save_img=True, metrics=METRICS)
        return project

    return project


@pytest.fixture
def alone(monkeypatch, capfd):
    """alone(project, *arguments, FLOAT64=…): `basicsr` in this process; what it printed, once it came to its end."""

    def call(project: Project, *arguments: str, **variables: str) -> str:
        capfd.readouterr()
        with monkeypatch.context() as context:
            context.chdir(project.root)
            context.setattr(sys, "path", [str(HERE), *sys.path])
            context.delitem(sys.modules, "watched", raising=False)
            context.setattr(loop, "batches", loop.batches)
            for name in ("optimize_parameters", "feed_data"):  # which the import replaces
                context.setattr(RGTModel, name, getattr(RGTModel, name))
            for name, value in variables.items():
                context.setenv(name, value)
            try:
                code = main([*arguments])
            finally:
                torch.set_default_dtype(torch.float32)
        printed = capfd.readouterr()
        assert code == 0, printed.out + printed.err
        return printed.out + printed.err

    return call


def torchrun(*flags: str, module: str = "torch.distributed.run") -> tuple[str, ...]:
    return (sys.executable, "-m", module, "--nproc_per_node=2", f"--master_port={free_port()}", *flags)


def environment(blows: list[dict] | None = None, **more: str) -> dict[str, str]:
    return {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "BLOWS": json.dumps(blows or []), **more}


def blow(number: int, rank: int, iteration: int, before: str, attempt: int = 0, whom: str = "self") -> dict:
    return {
        "signal": number, "rank": rank, "iteration": iteration, "before": before, "attempt": attempt, "whom": whom
    }  # fmt: skip


def start_by_hand(project: Project, *arguments: str, **variables: list[str]) -> list[tuple[int, str]]:
    """Two processes without torchrun, each with its own value of every variable; their exit codes and outputs."""
    processes = []
    for rank in range(2):
        own = {name: values[rank] for name, values in variables.items()}
        processes.append(
            subprocess.Popen(
                [sys.executable, *arguments],
                cwd=project.root,
                env={**os.environ, **environment(), **own},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


def samples(project: Project) -> dict[int, list]:
    """What all ranks together trained on, by iteration."""
    seen: dict[int, list] = {}
    for file in project.root.glob("samples-*.jsonl"):
        for line in file.read_text().splitlines():
            iteration, pairs = json.loads(line)
            seen.setdefault(iteration, []).extend(pairs)
    return {iteration: sorted(pairs) for iteration, pairs in seen.items()}


def weights(project: Project) -> dict[str, torch.Tensor]:
    content = torch.load(project.run_folder / "models/net_g_latest.pth", weights_only=True)
    return {f"{key} {name}": value for key in ("params", "params_ema") for name, value in content[key].items()}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def results(log: str) -> list[str]:
    """The lines with the means of metrics, in order."""
    return re.findall(r"# (?:psnr|ssim): .*", log)


@pytest.mark.parametrize(
    ("kind", "optimizer", "bound"),
    [
        ("float64", {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]}, 1e-10),
        ("float32", {"type": "SGD", "lr": 1e-2}, 1e-6),
    ],
)
def test_two_ranks_equal_one_process_of_twice_the_batch(make, alone, kind, optimizer, bound):
    """After 20 steps, with accumulation on the two ranks, and without --launcher."""
    two, one = make("two", batch=2), make("one", batch=4)
    for project in (two, one):
        project.options["train"]["optim_g"] = optimizer
    two.options["train"]["accumulate"] = 2
    for project in (two, one):
        project.write()
    variables = {"FLOAT64": "1"} if kind == "float64" else {}
    run = two.start(*torchrun(), *MODULE, *TRAIN, **environment(**variables))
    assert run.returncode == 0, run.stdout
    alone(one, *TRAIN, **variables)

    seen = samples(two)
    assert seen == samples(one)
    assert sorted(seen) == list(range(1, 21))
    assert all(len(pairs) == 4 for pairs in seen.values())
    for rank in range(2):  # each iteration's batch is shared, not trained on twice
        assert len((two.root / f"samples-{rank}.jsonl").read_text().splitlines()) == 20
    assert weights(two)["params conv_first.weight"].dtype == getattr(torch, kind)
    assert largest_difference(weights(two), weights(one)) < bound
    assert two.logged_iterations() == list(range(1, 21))
    for folder in (two.run_folder, one.run_folder):
        assert sorted(pictures(folder / "visualization")) == sorted(
            f"img{number}/img{number}_{iteration}.png" for number in range(3) for iteration in (10, 20)
        )


def test_runs_of_two_ranks_that_die_end_as_an_unbroken_one_bit_for_bit(make, alone):
    """Drop path draws on each rank. A rank dies while it trains, is started anew by torchrun, dies while it validates;
    torchrun gets SIGTERM; one of Slurm's processes gets Ctrl-C; and each is started in another way."""
    unbroken, broken = make("unbroken", batch=2), make("broken", batch=2)
    for project in (unbroken, broken):
        project.options["network_g"]["drop_path_rate"] = 0.5
        project.write()
    run = unbroken.start(*torchrun("--no-python"), *SCRIPT, *TRAIN, "--launcher", "pytorch", **environment())
    assert run.returncode == 0, run.stdout

    # SIGKILL of a rank: torchrun's next try goes on without --auto_resume; after the second death it gives up
    deaths = [
        blow(signal.SIGKILL, rank=1, iteration=7, before="optimize_parameters"),
        blow(signal.SIGKILL, rank=0, iteration=10, before="test", attempt=1),
    ]
    run = broken.start(*torchrun("--max-restarts=1"), *MODULE, *TRAIN, **environment(deaths))
    assert run.returncode == 1, run.stdout
    assert "torchrun started this run again; it goes on from its last checkpoint" in run.stdout
    assert "Resuming training from epoch: 2, iter: 5" in run.stdout
    assert re.search(r"exitcode *: -9 .*Signal 9 \(SIGKILL\) received by PID", run.stdout, re.DOTALL)
    # both who were left say so, unless torchrun is quicker to end one of them
    assert re.search(r"error: .*another process of this run is gone .*--auto_resume goes on", run.stdout)
    assert broken.logged_iterations()[-1] == 10

    # SIGTERM to torchrun, which passes it on
    told = [blow(signal.SIGTERM, rank=0, iteration=13, before="optimize_parameters", whom="parent")]
    run = broken.start(*torchrun(), *SCRIPT, *TRAIN, "--auto_resume", **environment(told))
    assert run.returncode == 1, run.stdout  # torchrun's own
    assert "the run ends after iteration 13, which is saved; --auto_resume goes on" in run.stdout
    assert (broken.run_folder / "training_states/13.state").is_file()

    # Ctrl-C to one of two processes that srun started
    told = [blow(signal.SIGINT, rank=1, iteration=16, before="optimize_parameters")]
    slurm = {"SLURM_PROCID": ["0", "1"], "SLURM_LOCALID": ["0", "1"], "SLURM_NTASKS": ["2", "2"]}
    slurm |= {
        "SLURM_NODELIST": ["localhost"] * 2,
        "MASTER_PORT": [str(free_port())] * 2,
        "BLOWS": [json.dumps(told)] * 2,
    }
    ends = start_by_hand(broken, *MODULE, *TRAIN, "--auto_resume", "--launcher", "slurm", **slurm)
    assert [code for code, _ in ends] == [130, 130], ends
    assert "the run ends after iteration 16, which is saved; --auto_resume goes on" in ends[0][1]

    single = Project(shutil.copytree(broken.root, broken.root.with_name("single")))

    # to the end, as old scripts start it: with --local-rank before everything else
    run = broken.start(*torchrun(module="torch.distributed.launch"), *SCRIPT, *TRAIN, "--auto_resume", **environment())
    assert run.returncode == 0, run.stdout
    for name in ("models/net_g_latest.pth", "models/net_g_20.pth", "training_states/20.state"):
        assert_same_content(broken.run_folder / name, unbroken.run_folder / name)
    assert samples(broken).keys() == samples(unbroken).keys()

    # another number of processes goes on too, and says what is different
    printed = alone(single, *TRAIN, "--auto_resume")
    assert "Saved by 2 processes: drop path draws other numbers from here on" in printed
    assert "Saved with 4 images an iteration, goes on with 2" in printed


def test_two_ranks_share_a_test_out_and_find_the_means_of_one(make, alone):
    """Started by hand with the standard variables, as on two machines: three images, and one."""
    project = make("test", batch=1)
    datasets = project.options["datasets"]
    del datasets["train"]
    project.options["datasets"] = {"test_3": datasets["val_three"], "test_1": datasets["val_one"]}
    test = ("test", "-opt", project.write())
    printed = alone(project, *test)
    drawn = pictures(project.root / "results")
    assert len(drawn) == 4
    shutil.rmtree(project.root / "results")

    both = {"RANK": ["0", "1"], "WORLD_SIZE": ["2"] * 2, "MASTER_ADDR": ["localhost"] * 2}
    ends = start_by_hand(project, *MODULE, *test, **both, MASTER_PORT=[str(free_port())] * 2)
    assert [code for code, _ in ends] == [0, 0], ends
    assert len(results(printed)) == 4
    assert results(ends[0][1]) == results(printed)
    assert results(ends[1][1]) == []
    assert pictures(project.root / "results") == drawn


def test_second_try_of_torchrun_goes_on_only_with_what_the_first_began(project, monkeypatch, capfd):
    """Not with the unfinished run of another day, which the first try refused, or was to archive but died before."""
    monkeypatch.chdir(project.root)
    monkeypatch.setattr("sys.path", [*sys.path])

    def train(*arguments: str, total_iter: int) -> int:
        project.options["train"]["total_iter"] = total_iter
        return main(["train", "-opt", project.write(), *arguments])

    assert train(total_iter=3) == 0
    (project.run_folder / "models/net_g_latest.pth").unlink()  # as if it had been killed
    monkeypatch.setattr(ranks, "trying_since", lambda: time.time() + 1)
    assert train(total_iter=5) == 2
    assert "an unfinished run has this name" in capfd.readouterr().err
    monkeypatch.setattr(ranks, "trying_since", lambda: time.time() - 3600)
    assert train("--restart", total_iter=5) == 0
    assert project.logged_iterations() == [4, 5]
    assert not list(project.root.glob("experiments/*_archived_*"))
    monkeypatch.setattr(ranks, "trying_since", lambda: time.time() + 1)
    assert train("--restart", total_iter=6) == 0
    assert project.logged_iterations() == [1, 2, 3, 4, 5, 6]
    assert len(list(project.root.glob("experiments/*_archived_*"))) == 1
