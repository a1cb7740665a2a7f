"""Training by two processes: equal to one with twice the batch, exact after kills and signals, with every launcher."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from rgt_arch.training import ranks

from .. import warm
from .comparisons import assert_same_content
from .conftest import HERE, TRAIN, Project

NETWORK = {"type": "RGT", "upscale": 2, "depth": [2], "embed_dim": 96, "num_heads": [6], "mlp_ratio": 1}
METRICS = {name: {"type": f"calculate_{name}", "crop_border": 2} for name in ("psnr", "ssim")}


@pytest.fixture
def make(photographs, tmp_path):
    """make(name, batch): a project that trains a small RGT with `batch` images per process."""

    def project(name: str, batch: int) -> Project:
        shutil.copytree(photographs, tmp_path / name)
        project = Project(tmp_path / name)
        for images, folder in ((3, "three"), (1, "one")):  # neither divides by two
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
        options["train"].update(total_iter=12, ema_decay=0.9, grad_clip=0.5)
        options["logger"].update(print_freq=1, save_checkpoint_freq=3)
        options["val"].update(val_freq=6, save_img=True, metrics=METRICS)
        return project

    return project


def samples(project: Project) -> dict[int, list]:
    """Samples of all ranks by iteration."""
    seen: dict[int, list] = {}
    for file in project.root.glob("samples-*.jsonl"):
        for line in file.read_text().splitlines():
            iteration, pairs = json.loads(line)
            seen.setdefault(iteration, []).extend(pairs)
    return {iteration: sorted(pairs) for iteration, pairs in seen.items()}


def weights(project: Project) -> dict[str, torch.Tensor]:
    content = torch.load(project.run_folder / "models/net_g_latest.pth", weights_only=True)
    return {f"{key} {name}": value for key in ("params", "params_ema") for name, value in content[key].items()}


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def outputs(project: Project, *arguments: str, code: int = 0, **variables: str | list[str]) -> list[str]:
    """Outputs of the processes of a command, which must all return `code`."""
    processes = project.begin(*arguments, **variables)
    assert [process.wait() for process in processes] == [code] * len(processes), [each.stdout for each in processes]
    return [process.stdout for process in processes]


@pytest.mark.parametrize(
    ("kind", "optimizer", "bound"),
    [
        ("float64", {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]}, 1e-10),
        ("float32", {"type": "SGD", "lr": 1e-2}, 1e-5),
    ],
)
def test_two_ranks_equal_one_process_of_twice_the_batch(make, kind, optimizer, bound):
    """After 12 steps, with accumulation on the two ranks, and without --launcher."""
    two, one = make("two", batch=2), make("one", batch=4)
    two.options["train"]["accumulate"] = 2
    for project, variables in ((two, warm.two_ranks()), (one, {})):
        project.options["train"]["optim_g"] = optimizer
        project.write()
        outputs(project, *TRAIN, FLOAT64="1" if kind == "float64" else "", **variables)

    seen = samples(two)
    assert seen == samples(one)
    assert sorted(seen) == list(range(1, 13))
    assert all(len(pairs) == 4 for pairs in seen.values())
    for rank in range(2):  # each iteration's batch is shared, not trained on twice
        assert len((two.root / f"samples-{rank}.jsonl").read_text().splitlines()) == 12
    mine, theirs = weights(two), weights(one)
    assert mine["params conv_first.weight"].dtype == getattr(torch, kind)
    assert mine.keys() == theirs.keys()
    assert max((mine[name] - theirs[name]).abs().max().item() for name in mine) < bound
    assert two.logged_iterations() == list(range(1, 13))
    for folder in (two.run_folder, one.run_folder):
        assert sorted(pictures(folder / "visualization")) == sorted(
            f"{name}/img{number}/img{number}_{iteration}.png"
            for name, images in (("three", 3), ("one", 1))
            for number in range(images)
            for iteration in (6, 12)
        )


def test_interrupted_runs_of_two_ranks_end_as_an_uninterrupted_one_bit_for_bit(make):
    """Each rank draws its own drop path. torchrun restarts a rank killed in training; a rank is killed in validation;
    torchrun gets SIGTERM; one of Slurm's processes gets Ctrl-C. Each part uses another launcher, and all use one
    LMDB for training and validation."""
    unbroken, broken = make("unbroken", batch=2), make("broken", batch=2)
    for project in (unbroken, broken):
        project.options["network_g"]["drop_path_rate"] = 0.5
        project.use_lmdb()
        project.write()
    outputs(unbroken, *TRAIN, "--launcher", "pytorch", **warm.two_ranks())

    def torchrun(*arguments: str, blows: list[dict]) -> str:
        launch = ("-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={warm.free_port()}")
        variables = {"PYTHONPATH": HERE, "BLOWS": json.dumps(blows)}
        run = warm.run(*launch, *arguments, cwd=broken.root, merged=True, **variables)  # its ranks start from a shell
        assert run.returncode == 1, run.stdout  # torchrun's own exit code
        return run.stdout

    # SIGKILL of a rank: torchrun's restart resumes without --auto_resume; after the second kill torchrun gives up
    kill = {"signal": signal.SIGKILL}
    deaths = [
        {**kill, "rank": 1, "iteration": 4, "before": "optimize_parameters"},
        {**kill, "rank": 0, "iteration": 6, "before": "test", "attempt": 1},
    ]
    printed = torchrun("--max-restarts=1", "-m", "rgt_arch.cli", *TRAIN, blows=deaths)
    assert "torchrun started this run again; it goes on from its last checkpoint" in printed
    assert "Resuming training from epoch: 1, iter: 3" in printed
    assert re.search(r"exitcode *: -9 .*Signal 9 \(SIGKILL\) received by PID", printed, re.DOTALL)
    # each surviving rank reports it, unless torchrun ends that rank first
    assert re.search(r"error: .*another process of this run is gone .*--auto_resume goes on", printed)
    assert broken.logged_iterations()[-1] == 6

    # SIGTERM to torchrun, which forwards it; with spawned data workers, and the console script
    term = {"signal": signal.SIGTERM, "iteration": 8, "before": "optimize_parameters", "whom": "parent"}
    workers = ("--force_yml", "datasets:train:num_worker_per_gpu=1")
    script = str(Path(sys.executable).with_name("basicsr"))
    printed = torchrun("--no-python", script, *TRAIN, "--auto_resume", *workers, blows=[term])
    assert "the run ends after iteration 8, which is saved; --auto_resume goes on" in printed, printed
    assert (broken.run_folder / "training_states/8.state").is_file()

    # Ctrl-C to one of two processes that srun started
    blow = {"signal": signal.SIGINT, "rank": 1, "iteration": 10, "before": "optimize_parameters"}
    slurm = {name: ["0", "1"] for name in ("SLURM_PROCID", "SLURM_LOCALID")}
    step = {"SLURM_NTASKS": "2", "SLURM_NODELIST": "localhost", "MASTER_PORT": str(warm.free_port())}
    slurm |= {name: [value] * 2 for name, value in step.items()}
    arguments = (*TRAIN, "--auto_resume", "--launcher", "slurm")
    printed, _ = outputs(broken, *arguments, code=130, BLOWS=json.dumps([blow]), **slurm)
    assert "the run ends after iteration 10, which is saved; --auto_resume goes on" in printed

    single = Project(shutil.copytree(broken.root, broken.root.with_name("single")))

    # to the end, started as by torch.distributed.launch: --local-rank before everything else
    outputs(broken, "--local-rank=0", *TRAIN, "--auto_resume", **warm.two_ranks())
    for name in ("models/net_g_latest.pth", "models/net_g_12.pth", "training_states/12.state"):
        assert_same_content(broken.run_folder / name, unbroken.run_folder / name)
    assert samples(broken).keys() == samples(unbroken).keys()

    # another number of processes resumes too, and reports the differences
    [printed] = outputs(single, *TRAIN, "--auto_resume")
    assert "Saved by 2 processes: drop path and degradations draw other numbers from here on" in printed
    assert "Saved with 4 images an iteration, continues with 2" in printed


def test_killed_ranks_of_a_model_for_real_pictures_resume_each_with_its_own_pool_bit_for_bit(make):
    unbroken, broken = make("unbroken", batch=1), make("broken", batch=1)
    for project in (unbroken, broken):
        judge = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4}
        project.options.update(model_type="RealRGTGANModel", degradation="photo", queue_size=2, network_d=judge)
        project.options["train"].update(
            total_iter=6,
            accumulate=1,
            optim_d={"type": "Adam", "lr": 1e-3},
            gan_opt={"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
        )
        project.write()
    outputs(unbroken, *TRAIN, **warm.two_ranks())
    death = {"signal": signal.SIGKILL, "rank": 1, "iteration": 5, "before": "optimize_parameters"}
    assert all(process.wait() for process in broken.begin(*TRAIN, BLOWS=json.dumps([death]), **warm.two_ranks()))
    printed, _ = outputs(broken, *TRAIN, "--auto_resume", **warm.two_ranks())
    assert re.search(r"Resuming training from epoch: \d, iter: 3\.", printed)
    for name in ("models/net_g_6.pth", "models/net_d_6.pth", "training_states/6.state"):
        assert_same_content(broken.run_folder / name, unbroken.run_folder / name)
    one, other = torch.load(broken.run_folder / "training_states/6.state", weights_only=True)["pools"]
    assert one["queue_lr"].shape == (2, 3, 16, 16)
    assert not torch.equal(one["queue_lr"], other["queue_lr"])


def test_two_ranks_divide_a_test_and_get_the_means_of_one_process(make):
    """Started by hand with the standard variables, as on two machines. One data set has three images, the other one."""
    project = make("test", batch=1)
    datasets = project.options["datasets"]
    project.options["datasets"] = {"test_3": datasets["val_three"], "test_1": datasets["val_one"]}
    test, found = ("test", "-opt", project.write()), []
    for variables in ({}, warm.two_ranks()):
        printed = outputs(project, *test, **variables)
        means = [re.findall(r"# (?:psnr|ssim): .*", text) for text in printed]
        found.append((means[0], pictures(project.root / "results")))
        assert means[1:] in ([], [[]])
        shutil.rmtree(project.root / "results")
    assert found[0] == found[1]
    assert [len(part) for part in found[0]] == [4, 4]


def test_restart_by_torchrun_resumes_only_a_run_begun_by_its_first_attempt(project, basicsr_command, monkeypatch):
    """Not an older unfinished run, which the first attempt refused, or should have archived before it died."""

    def train(*arguments: str, total_iter: int, code: int = 0) -> str:
        project.options["train"]["total_iter"] = total_iter
        return basicsr_command(*arguments, code=code)

    train(total_iter=3)
    (project.run_folder / "models/net_g_latest.pth").unlink()  # as if it had been killed
    monkeypatch.setattr(ranks, "trying_since", lambda: time.time() + 1)
    assert "an unfinished run has this name" in train(total_iter=5, code=2)
    monkeypatch.setattr(ranks, "trying_since", lambda: time.time() - 3600)
    train("--restart", total_iter=5)
    assert project.logged_iterations() == [4, 5]
    assert not list(project.root.glob("experiments/*_archived_*"))
    monkeypatch.setattr(ranks, "trying_since", lambda: time.time() + 1)
    train("--restart", total_iter=6)
    assert project.logged_iterations() == [1, 2, 3, 4, 5, 6]
    assert len(list(project.root.glob("experiments/*_archived_*"))) == 1
