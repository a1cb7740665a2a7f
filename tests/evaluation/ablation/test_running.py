"""Ablations by real trainings: equal seeds, results kept, goes on where it was, nothing of others is lost."""

from __future__ import annotations

import json

import pytest

from rgt_arch.cli import main
from rgt_arch.config import load_options
from rgt_arch.errors import UserError
from rgt_arch.evaluation.ablation import running

SEED = ["--seeds", "2"]


def test_trained_compared_and_kept(project, monkeypatch, capsys):
    """Two trainings, the second broken off after 2 of its 4 iterations and gone on with."""
    train, started = running.basicsr_train, []

    def breaking_off(option_file, total_iter):
        started.append(option_file.parent.parent.name)
        result = train(option_file, total_iter)
        if started == ["RGT", "no_CPE"]:
            states = option_file.parent / "experiments/no_CPE/training_states"
            (states / "4.state").unlink()
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(running, "basicsr_train", breaking_off)
    assert main(["ablation", "list.yml", *SEED]) == 130
    assert main(["ablation", "list.yml", *SEED, "--report"]) == 1
    captured = capsys.readouterr()
    assert "Not trained yet: no CPE (seed 2)" in captured.out
    assert "1 of 2 trainings are missing" in captured.err

    assert main(["ablation", "list.yml", *SEED, "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert "1 of 2 trainings were finished before" in captured.err
    assert "no CPE, seed 2: 2 of 4 iterations" in captured.err
    assert started == ["RGT", "no_CPE", "no_CPE"]
    content = json.loads(captured.out)
    for run in content["runs"]:
        assert 5 < run["scores"]["Set of one"]["psnr"] < 40
    kept = project / "experiments/ablation/list"
    options = [load_options(kept / name / "seed_2/train.yml") for name in ("RGT", "no_CPE")]
    assert [opt["manual_seed"] for opt in options] == [2, 2]
    assert options[1]["path"]["resume_state"] == "experiments/no_CPE/training_states/2.state"
    assert "Resuming training from epoch" in (kept / "no_CPE/seed_2/train_output.txt").read_text()

    assert main(["ablation", "list.yml", *SEED]) == 0  # nothing is left to do
    assert len(started) == 3
    assert main(["ablation", "list.yml", *SEED, "--force_yml", "train:optim_g:lr=1e-3"]) == 2
    assert "train:optim_g:lr is 0.0002, now it is 0.001; choose another folder" in capsys.readouterr().err


@pytest.fixture
def no_training(monkeypatch):
    """Trainings that only say what they were started with."""
    started = []

    def say(option_file, total_iter):
        started.append((option_file.parent.parent.name, option_file.parent.name))
        (option_file.parent / "train_output.txt").write_text(
            "INFO: Validation Set of one\n\t # psnr: 30.0000\n\t # ssim: 0.9000\n"
        )

    monkeypatch.setattr(running, "basicsr_train", say)
    return started


def test_all_variants_of_a_seed_come_before_the_next_seed(project, no_training):
    assert main(["ablation", "list.yml"]) == 0
    assert no_training == [("RGT", "seed_1"), ("no_CPE", "seed_1"), ("RGT", "seed_2"), ("no_CPE", "seed_2")]


def test_failed_training_is_told_and_the_others_go_on(project, monkeypatch, no_training, capsys):
    say = running.basicsr_train

    def fail_once(option_file, total_iter):
        say(option_file, total_iter)
        if len(no_training) == 1:
            raise UserError("it broke")

    monkeypatch.setattr(running, "basicsr_train", fail_once)
    assert main(["ablation", "list.yml", *SEED]) == 1
    captured = capsys.readouterr()
    assert "- Failed: RGT, seed 2: it broke" in captured.out
    assert len(no_training) == 2
    assert main(["ablation", "list.yml", *SEED]) == 0
    assert no_training[2:] == [("RGT", "seed_2")]


def test_training_without_scores_is_a_failure(project, no_training, monkeypatch, capsys):
    monkeypatch.setattr(running, "last_validation", lambda output, plan: {})
    assert main(["ablation", "list.yml", *SEED]) == 1
    assert "said no psnr of Set of one at its end" in capsys.readouterr().out
    assert not list((project / "experiments").rglob("result.json"))


def test_folder_of_others_is_left_alone(project, no_training, capsys):
    theirs = project / "kept/list/RGT/seed_2/thesis.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    assert main(["ablation", "list.yml", *SEED, "--keep", "kept"]) == 2
    assert "no ablation made it" in capsys.readouterr().err
    assert theirs.read_text() == "mine"
    assert no_training == []


def test_two_at_a_time_are_refused(project, no_training, capsys):
    with running._alone(project / "experiments/ablation/list"):
        assert main(["ablation", "list.yml", *SEED]) == 2
    assert "another `rgt ablation` trains here" in capsys.readouterr().err
    assert no_training == []
