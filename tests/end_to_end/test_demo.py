"""`rgt demo` as a newcomer runs it, with few iterations."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from rgt_arch import RGT, rgt_t
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.demo import TEST, TRAINING, VALIDATION, run_demo
from rgt_arch.evaluation.training_runs import read_metrics


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rgt_arch.cli", "demo", "-o", str(folder), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "rgt_demo"
    process = demo(folder, "--iterations", "12")
    assert process.returncode == 0, process.stdout + process.stderr
    return folder, process


def test_the_last_validation_is_a_decibel_above_the_first(finished):
    folder, _ = finished
    metrics = read_metrics(folder / "experiments/demo_RGT_T_x2/metrics.csv")
    scores = list(metrics["psnr", "validation"].values())
    assert len(scores) >= 2
    assert scores[-1] >= scores[0] + 1


def test_the_table_holds_what_basicsr_test_measured_and_bicubics_known_scores(finished):
    folder, process = finished
    table = {
        words[0]: [float(word) for word in words[1:]]
        for words in (line.split() for line in process.stdout.splitlines())
        if words and words[0] in {*TEST, "mean"} and len(words) == 5
    }
    assert set(table) == {*TEST, "mean"}
    assert table["chelsea"][:2] == [35.25, 0.9158]
    np.testing.assert_allclose(table["mean"], (np.array(table["chelsea"]) + table["coffee"]) / 2, atol=0.006)
    output = (folder / "test_output.txt").read_text()
    for column, metric in ((2, "psnr"), (3, "ssim")):
        measured = float(re.search(rf"# {metric}: ([\d.]+)", output)[1])
        assert table["mean"][column] == pytest.approx(measured, abs=0.006)


def test_a_network_behind_bicubic_is_called_so(finished):
    _, process = finished
    assert re.search(r"RGT-T is \d+\.\d\d dB behind bicubic", process.stdout)


def test_pictures_are_whole_and_show_the_test_photographs(finished):
    folder, _ = finished
    for name in TEST:
        picture = np.asarray(Image.open(folder / f"comparison_{name}.png"))
        assert picture.ndim == 3
        assert picture.std() > 20
    assert not list(folder.glob("*.partial"))


def test_option_files_train_rgt_t_through_lmdb_on_other_photographs_than_the_test(finished):
    folder, _ = finished
    train, test = (yaml.safe_load((folder / f"{name}.yml").read_text()) for name in ("train", "test"))
    assert train["datasets"]["train"]["io_backend"]["type"] == "lmdb"
    assert {file.stem for file in (folder / "data/test/HR").iterdir()} == set(TEST)
    assert not set(TRAINING) & {*TEST, VALIDATION}
    network = RGT(**{key: value for key, value in train["network_g"].items() if key != "type"})
    expected = rgt_t(upscale=2).state_dict()
    assert {key: value.shape for key, value in network.state_dict().items()} == {
        key: value.shape for key, value in expected.items()
    }
    assert test["network_g"] == train["network_g"]


def test_progress_is_shown_without_a_terminal(finished):
    _, process = finished
    assert re.search(r"training: 100%.*12/12", process.stderr)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/precious.txt").write_text("mine")
    process = demo(tmp_path)
    assert process.returncode == 2
    assert re.fullmatch(r"rgt demo: error: .* is not empty and no earlier demo made it; .*\n", process.stderr)
    assert (tmp_path / "data/precious.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_second_demo_replaces_its_own_files_only(finished, tmp_path, monkeypatch):
    folder = shutil.copytree(finished[0], tmp_path / "copy")
    (folder / "notes.txt").write_text("mine")
    before = (folder / "train.yml").read_text()

    def stop(*_: object) -> None:
        raise UserError("stop here")

    monkeypatch.setattr("rgt_arch.evaluation.demo.basicsr_train", stop)
    with pytest.raises(UserError, match="stop here"):
        run_demo(folder, 12)
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "train.yml").read_text() == before
    assert not (folder / "experiments").exists()


def test_a_file_as_folder_and_too_few_iterations_are_usage_errors(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file: cannot be used"):
        run_demo(tmp_path / "file")
    with pytest.raises(UsageError, match="--iterations is 1"):
        run_demo(tmp_path / "new", iterations=1)
    assert not (tmp_path / "new").exists()
