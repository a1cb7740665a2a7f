"""Ablations by real trainings: equal seeds, results kept, resumed after an interruption, nothing of others is lost."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from rgt_arch import RGT
from rgt_arch.cli import main
from rgt_arch.config import load_options
from rgt_arch.errors import UserError
from rgt_arch.evaluation.ablation import running
from rgt_arch.evaluation.training_runs import HEADER

SEED = ["--seeds", "2"]


def test_trained_compared_and_kept(project, monkeypatch, capsys):
    """Two trainings, the second broken off after 2 of its 4 iterations and resumed."""
    train, started = running.basicsr_train, []

    def breaking_off(option_file, folder, name, *more):
        started.append(name)
        run = train(option_file, folder, name, *more)
        if started == ["RGT", "no_CPE"]:
            for file in ("training_states/4.state", "models/net_g_4.pth", "models/net_g_latest.pth"):
                (run / file).unlink()
            lines = (run / "metrics.csv").read_text().splitlines(keepends=True)
            (run / "metrics.csv").write_text("".join(line for line in lines if not line.startswith(("3", "4"))))
            raise KeyboardInterrupt
        return run

    monkeypatch.setattr(running, "basicsr_train", breaking_off)
    assert main(["ablation", "list.yml", *SEED]) == 130
    assert main(["ablation", "list.yml", *SEED, "--report"]) == 1
    captured = capsys.readouterr()
    assert "Not trained yet: no CPE (seed 2)" in captured.out
    assert "1 of 2 trainings are missing" in captured.err

    assert main(["ablation", "list.yml", *SEED, "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert "1 of 2 trainings were finished before" in captured.err
    assert started == ["RGT", "no_CPE", "no_CPE"]
    for run in json.loads(captured.out)["runs"]:
        assert 5 < run["scores"]["Set of one"]["psnr"] < 40
    kept = project / "experiments/ablation/list"
    assert "Resuming training from epoch" in (kept / "no_CPE/seed_2/train_output.txt").read_text()
    log = next((kept / "no_CPE/seed_2/experiments/no_CPE").glob("train_*.log")).read_text()
    assert "manual_seed: 2" in log
    assert "cpe: False" in log

    assert main(["ablation", "list.yml", *SEED]) == 0  # nothing is left to do
    assert len(started) == 3
    assert main(["ablation", "list.yml", *SEED, "--force_yml", "train:optim_g:lr=1e-3"]) == 2
    assert "train:optim_g:lr is 0.0002, now it is 0.001; choose another folder" in capsys.readouterr().err


@pytest.fixture
def no_training(monkeypatch):
    """Trainings that only write the scores of their end."""
    started = []

    def write(option_file, folder, name, total_iter, overrides):
        started.append((folder.parent.name, folder.name))
        run = folder / "experiments" / name
        run.mkdir(parents=True)
        rows = [HEADER, ["4", "Set of one", "psnr", "30.0"], ["4", "Set of one", "ssim", "0.9"]]
        (run / "metrics.csv").write_text("".join(",".join(row) + "\n" for row in rows))
        return run

    monkeypatch.setattr(running, "basicsr_train", write)
    return started


def test_all_variants_of_a_seed_come_before_the_next_seed(project, no_training):
    assert main(["ablation", "list.yml"]) == 0
    assert no_training == [("RGT", "seed_1"), ("no_CPE", "seed_1"), ("RGT", "seed_2"), ("no_CPE", "seed_2")]


def test_failed_training_is_reported_and_the_others_go_on(project, monkeypatch, no_training, capsys):
    write = running.basicsr_train

    def fail_once(*arguments):
        run = write(*arguments)
        if len(no_training) == 1:
            shutil.rmtree(run)
            raise UserError("it broke")

    monkeypatch.setattr(running, "basicsr_train", fail_once)
    assert main(["ablation", "list.yml", *SEED]) == 1
    captured = capsys.readouterr()
    assert "- Failed: RGT, seed 2: it broke" in captured.out
    assert len(no_training) == 2
    assert main(["ablation", "list.yml", *SEED]) == 0
    assert no_training[2:] == [("RGT", "seed_2")]


def test_training_without_scores_is_a_failure(project, monkeypatch, capsys):
    monkeypatch.setattr(running, "basicsr_train", lambda *arguments: None)
    assert main(["ablation", "list.yml", *SEED]) == 1
    assert "the training wrote no scores for iteration 4" in capsys.readouterr().out


def test_folder_of_others_is_left_alone(project, no_training, capsys):
    theirs = project / "kept/list/RGT/seed_2/thesis.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    assert main(["ablation", "list.yml", *SEED, "--keep", "kept"]) == 2
    assert "no ablation made it" in capsys.readouterr().err
    assert theirs.read_text() == "mine"
    assert no_training == []


@pytest.mark.parametrize("kept", ["file", "file/list/RGT/seed_2"])
@pytest.mark.parametrize("more", [[], ["--report"]])
def test_file_in_the_way_is_named(project, no_training, capsys, kept, more):
    (project / kept).parent.mkdir(parents=True, exist_ok=True)
    (project / kept).write_text("mine")
    assert main(["ablation", "list.yml", *SEED, "--keep", "file", *more]) == 2
    assert "file/list/RGT/seed_2: cannot be read as a folder" in capsys.readouterr().err
    assert (project / kept).read_text() == "mine"
    assert no_training == []


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("list.yml", "is one of the inputs"),
        ("files/rgt.yml", "is one of the inputs"),
        ("data", "is a folder"),
        ("nowhere/table.md", "there is no folder nowhere"),
        ("notes.md", "exists; --overwrite replaces it"),
    ],
)
def test_output_that_cannot_be_written_is_reported_before_anything_is_trained(
    project, no_training, capsys, output, words
):
    (project / "notes.md").write_text("mine")
    more = [] if output == "notes.md" else ["--overwrite"]
    assert main(["ablation", "list.yml", *SEED, "-o", output, *more]) == 2
    assert words in capsys.readouterr().err
    assert no_training == []
    assert (project / "notes.md").read_text() == "mine"
    assert main(["ablation", "list.yml", *SEED, "-o", "notes.md", "--overwrite"]) == 0
    assert (project / "notes.md").read_text().startswith("| Variant |")


def test_data_that_has_changed_is_not_compared(project, no_training, capsys):
    """The reference alone, then other pixels, then all: a row of before must not stand beside one of after."""
    assert main(["ablation", "list.yml", *SEED, "--only", "RGT"]) == 0
    content = bytearray((project / "data/train/HR/a.png").read_bytes())
    content[len(content) // 2] ^= 1  # the size stays
    (project / "data/train/HR/a.png").write_bytes(content)
    capsys.readouterr()
    assert main(["ablation", "list.yml", *SEED]) == 2
    err = capsys.readouterr().err
    assert "list/RGT/seed_2: datasets:train:dataroot_gt held other files when this was trained" in err
    assert "choose another folder with --keep, or remove that one" in err
    assert len(no_training) == 1
    assert main(["ablation", "list.yml", *SEED, "--keep", "another"]) == 0
    (project / "another/list/no_CPE").rename(project / "experiments/ablation/list/no_CPE")
    assert main(["ablation", "list.yml", *SEED, "--report"]) == 2
    assert "no_CPE/seed_2: datasets:train:dataroot_gt held other files" in capsys.readouterr().err


def test_weights_to_start_from_are_part_of_the_data(project, edit, no_training, capsys):
    edit("files/rgt.yml", "pretrain_network_g: ~, strict_load_g: true", "pretrain_network_g: net.pth, strict_load_g: 0")
    options = load_options(project / "files/rgt.yml")["network_g"]
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = RGT(**{key: value for key, value in options.items() if key != "type"})
        torch.save({"params": network.state_dict()}, "net.pth")
        assert main(["ablation", "list.yml", *SEED]) == (2 if seed else 0)
    assert "path:pretrain_network_g held other files" in capsys.readouterr().err


def test_report_does_without_the_data(project, no_training, capsys):
    assert main(["ablation", "list.yml", *SEED]) == 0
    table = capsys.readouterr().out
    (project / "data").rename("elsewhere")
    assert main(["ablation", "list.yml", *SEED]) == 2
    assert "data/train/HR: cannot be read: No such file or directory; --report does" in capsys.readouterr().err
    assert main(["ablation", "list.yml", *SEED, "--report"]) == 0
    assert capsys.readouterr().out == table


def test_other_software_is_reported_and_accepted(project, no_training, monkeypatch, capsys):
    software = running.software()
    assert main(["ablation", "list.yml", *SEED, "--only", "RGT"]) == 0
    monkeypatch.setattr(running, "software", lambda: {**software, "torch": "99.1"})
    capsys.readouterr()
    assert main(["ablation", "list.yml", *SEED]) == 0
    assert "RGT/seed_2: was trained with other versions than now installed (torch)" in capsys.readouterr().err
    assert len(no_training) == 2


@pytest.mark.parametrize("content", ["", "3", '{"options": 3}'])
@pytest.mark.parametrize("file", ["started_with.json", "experiments/RGT/metrics.csv"])
def test_damaged_files_of_a_training_are_named(project, no_training, capsys, file, content):
    assert main(["ablation", "list.yml", *SEED]) == 0
    damaged = project / "experiments/ablation/list/RGT/seed_2" / file
    damaged.write_text(content)
    capsys.readouterr()
    for more in ([], ["--report"]):
        assert main(["ablation", "list.yml", *SEED, *more]) == 2
        err = capsys.readouterr().err
        assert str(damaged.relative_to(project)) in err
        assert len(err.splitlines()) == 1
        assert damaged.read_text() == content
