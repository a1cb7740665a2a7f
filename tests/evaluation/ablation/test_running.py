"""Ablations by real trainings: equal seeds, results kept, goes on where it was, nothing of others is lost."""

from __future__ import annotations

import json
import os

import pytest
import torch
from PIL import Image, ImageChops

from rgt_arch import RGT
from rgt_arch.basicsr_compat import run_folders
from rgt_arch.cli import main
from rgt_arch.config import load_options
from rgt_arch.data.lmdb import create_lmdb_of_folder
from rgt_arch.errors import UserError
from rgt_arch.evaluation.ablation import kept, running
from rgt_arch.evaluation.tables.store import software

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


def test_training_that_outlived_its_ablation_keeps_its_folder(project, no_training, monkeypatch, capsys):
    """Killed before the first checkpoint, the ablation would clear the folder that its `basicsr train` trains in."""
    fcntl = pytest.importorskip("fcntl")
    assert main(["ablation", "list.yml", *SEED]) == 0
    place = project / "experiments/ablation/list/RGT/seed_2"
    (place / "result.json").unlink()
    (place / "experiments/RGT").mkdir(parents=True)
    (place / "experiments/RGT/train_RGT.log").write_text("on its way")
    monkeypatch.setattr(run_folders, "_WORKERS_LAST", 0.0)
    folder = os.open(place / "experiments/RGT", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert main(["ablation", "list.yml", *SEED]) == 1
    assert "another process is training this run" in capsys.readouterr().out
    assert (place / "experiments/RGT/train_RGT.log").is_file()
    assert len(no_training) == 2
    os.close(folder)
    assert main(["ablation", "list.yml", *SEED]) == 0
    assert not (place / "experiments").exists()
    assert no_training[2:] == [("RGT", "seed_2")]


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


@pytest.mark.parametrize("kept", ["file", "file/list", "file/list/RGT", "file/list/RGT/seed_2"])
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
        ("files/no_cpe.yml", "is one of the inputs"),
        ("data", "is a folder"),
        ("nowhere/table.md", "there is no folder nowhere"),
        ("notes.md", "exists; --overwrite replaces it"),
    ],
)
def test_output_that_cannot_be_written_is_told_before_anything_is_trained(project, no_training, capsys, output, words):
    (project / "notes.md").write_text("mine")
    more = [] if output == "notes.md" else ["--overwrite"]
    assert main(["ablation", "list.yml", *SEED, "-o", output, *more]) == 2
    assert words in capsys.readouterr().err
    assert no_training == []
    assert (project / "notes.md").read_text() == "mine"
    assert main(["ablation", "list.yml", *SEED, "-o", "notes.md", "--overwrite"]) == 0
    assert (project / "notes.md").read_text().startswith("| Variant |")


def test_two_at_a_time_are_refused(project, no_training, capsys):
    with running._alone(project / "experiments/ablation/list"):
        assert main(["ablation", "list.yml", *SEED]) == 2
    assert "another `rgt ablation` trains here" in capsys.readouterr().err
    assert no_training == []


def invert(image):
    with Image.open(image) as opened:
        inverted = ImageChops.invert(opened)
    inverted.save(image)


def into_lmdbs(project, edit):
    """The training's images as LMDBs."""
    for kind in ("HR", "LR"):
        create_lmdb_of_folder(
            project / "data/train" / kind, project / f"data/{kind}.lmdb", ending="x2" * (kind == "LR")
        )
        for file in ("files/rgt.yml", "files/no_cpe.yml"):
            edit(file, f"data/train/{kind}", f"data/{kind}.lmdb")
    for file in ("files/rgt.yml", "files/no_cpe.yml"):
        edit(file, "io_backend: {type: disk}\n    gt_size", "io_backend: {type: lmdb}\n    gt_size")


def test_training_on_data_that_has_changed_since_is_not_compared(project, no_training, capsys):
    """The reference alone, then other pixels, then all: a row of before must not stand beside one of after."""
    assert main(["ablation", "list.yml", *SEED, "--only", "RGT"]) == 0
    invert(project / "data/train/HR/a.png")
    for _ in range(2):
        assert main(["ablation", "list.yml", *SEED]) == 2
        err = capsys.readouterr().err
        assert "list/RGT/seed_2: datasets:train:dataroot_gt held other files when this was trained" in err
        assert "choose another folder with --keep, or remove that one" in err
        assert len(no_training) == 1
        assert (project / "experiments/ablation/list/RGT/seed_2/result.json").is_file()
    assert main(["ablation", "list.yml", *SEED, "--keep", "another"]) == 0
    assert main(["ablation", "list.yml", *SEED, "--report"]) == 1  # what is there was trained on one content


def test_training_does_not_go_on_with_other_data(project, no_training, monkeypatch, capsys):
    def break_off(option_file, total_iter):
        (option_file.parent / "experiments/RGT/training_states").mkdir(parents=True)
        (option_file.parent / "experiments/RGT/training_states/2.state").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "basicsr_train", break_off)
        assert main(["ablation", "list.yml", *SEED]) == 130
    for kind, ending in (("HR", ""), ("LR", "x2")):
        folder = project / "data/val" / kind
        (folder / f"b{ending}.png").write_bytes((folder / f"a{ending}.png").read_bytes())
    capsys.readouterr()
    assert main(["ablation", "list.yml", *SEED]) == 2
    err = capsys.readouterr().err
    assert "datasets:val:dataroot_gt held other files when this was trained (1 file of" in err
    assert "; now 2 files of" in err
    assert no_training == []


def test_weights_to_start_from_are_part_of_the_data(project, edit, no_training, capsys):
    for file in ("files/rgt.yml", "files/no_cpe.yml"):
        edit(file, "pretrain_network_g: ~, strict_load_g: true", "pretrain_network_g: net.pth, strict_load_g: false")
    options = load_options(project / "files/rgt.yml")["network_g"]
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = RGT(**{key: value for key, value in options.items() if key != "type"})
        torch.save({"params": network.state_dict()}, "net.pth")
        assert main(["ablation", "list.yml", *SEED]) == (2 if seed else 0)
    assert "path:pretrain_network_g held other files" in capsys.readouterr().err


def test_data_of_an_lmdb_is_that_of_its_file(project, edit, no_training, capsys):
    into_lmdbs(project, edit)
    assert main(["ablation", "list.yml", *SEED]) == 0
    (project / "data/HR.lmdb/lock.mdb").write_bytes(b"a reader was here")
    assert main(["ablation", "list.yml", *SEED]) == 0
    content = bytearray((project / "data/HR.lmdb/data.mdb").read_bytes())
    content[-1] ^= 255
    (project / "data/HR.lmdb/data.mdb").write_bytes(content)
    assert main(["ablation", "list.yml", *SEED]) == 2
    assert "dataroot_gt held other files when this was trained" in capsys.readouterr().err


def test_copied_data_is_the_same_data(project, no_training, capsys):
    """Another time of the files: their content counts."""
    assert main(["ablation", "list.yml", *SEED, "--only", "RGT"]) == 0
    for file in (project / "data").rglob("*.png"):
        os.utime(file, (1, 1))
    capsys.readouterr()
    assert main(["ablation", "list.yml", *SEED]) == 0
    assert "1 of 2 trainings were finished before" in capsys.readouterr().err


def test_data_that_changes_between_two_trainings_is_a_failure(project, no_training, monkeypatch, capsys):
    say = running.basicsr_train

    def change(option_file, total_iter):
        say(option_file, total_iter)
        invert(project / "data/train/LR/ax2.png")

    monkeypatch.setattr(running, "basicsr_train", change)
    assert main(["ablation", "list.yml", *SEED]) == 1
    assert "Failed: no CPE, seed 2: datasets:train:dataroot_lq: the files changed" in capsys.readouterr().out


def test_trainings_of_other_data_are_not_reported_together(project, no_training, capsys):
    assert main(["ablation", "list.yml", *SEED, "--only", "RGT"]) == 0
    invert(project / "data/train/HR/a.png")
    assert main(["ablation", "list.yml", *SEED, "--keep", "another"]) == 0
    kept = project / "experiments/ablation/list/no_CPE"
    (project / "another/list/no_CPE").rename(kept)
    assert main(["ablation", "list.yml", *SEED, "--report"]) == 2
    assert "no_CPE/seed_2: datasets:train:dataroot_gt held other files" in capsys.readouterr().err


def test_report_does_without_the_data(project, no_training, capsys):
    assert main(["ablation", "list.yml", *SEED]) == 0
    table = capsys.readouterr().out
    (project / "data").rename("elsewhere")
    assert main(["ablation", "list.yml", *SEED]) == 2
    assert "data/train/HR: cannot be read: No such file or directory; --report does" in capsys.readouterr().err
    assert main(["ablation", "list.yml", *SEED, "--report"]) == 0
    assert capsys.readouterr().out == table


def test_what_earlier_versions_kept_is_taken_with_a_notice(project, no_training, capsys):
    """They recorded no data: nobody knows, and hours of training are not thrown away for that."""
    assert main(["ablation", "list.yml", *SEED, "--only", "RGT"]) == 0
    (project / "experiments/ablation/list/RGT/seed_2/inputs.json").unlink()
    capsys.readouterr()
    for _ in range(2):
        assert main(["ablation", "list.yml", *SEED]) == 0
        captured = capsys.readouterr()
        assert captured.err.count("no record of the data") == 1
        assert "Whether the data was the same is not on record for RGT (seed 2)." in captured.out
    assert len(no_training) == 2


def test_other_software_is_told_and_taken(project, no_training, monkeypatch, capsys):
    assert main(["ablation", "list.yml", *SEED, "--only", "RGT"]) == 0
    for module in (running, kept):
        monkeypatch.setattr(module, "software", lambda: {**software(), "torch": "99.1", "code": "other"})
    capsys.readouterr()
    assert main(["ablation", "list.yml", *SEED]) == 0
    err = capsys.readouterr().err
    assert f"1 of 1 kept trainings: made with other software (torch {torch.__version__}, now 99.1, other" in err
    assert len(no_training) == 2


@pytest.mark.parametrize("file", ["inputs.json", "result.json", "train.yml"])
@pytest.mark.parametrize(
    "content", ["", "3", '{"scores": 3, "contents": 3}', '{"scores": {"Set of one": {"psnr": 1}}}']
)
def test_damaged_files_of_a_training_are_named(project, no_training, capsys, file, content):
    assert main(["ablation", "list.yml", *SEED]) == 0
    damaged = project / "experiments/ablation/list/RGT/seed_2" / file
    damaged.write_text(content)
    capsys.readouterr()
    for more in ([], ["--report"]):
        assert main(["ablation", "list.yml", *SEED, *more]) == 2
        err = capsys.readouterr().err
        assert str(damaged.parent.relative_to(project)) in err
        assert len(err.splitlines()) == 1
        assert damaged.read_text() == content
