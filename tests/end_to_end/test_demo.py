"""`rgt demo` as a newcomer runs it, with few iterations."""

import re
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from rgt_arch import RGT, rgt_t
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.demo import TEST, TRAINING, VALIDATION, run_demo
from rgt_arch.evaluation.training_runs import read_metrics

from .. import warm

ITERATIONS = 5


def run(tmp_path_factory, *flags):
    folder = tmp_path_factory.mktemp("demo") / "rgt_demo"
    process = warm.run("-m", "rgt_arch.cli", "demo", "-o", folder, "--iterations", ITERATIONS, *flags)
    assert process.returncode == 0, process.stdout + process.stderr
    return folder, process


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(tmp_path_factory)


@pytest.fixture(scope="module")
def from_scratch(tmp_path_factory):
    return run(tmp_path_factory, "--from-scratch")


def table_of(demo):
    """The table as printed, after a check that its last columns are what `basicsr test` measured."""
    folder, process = demo
    table = {
        words[0]: [float(word) for word in words[1:]]
        for words in (line.split() for line in process.stdout.splitlines())
        if words and words[0] in {*TEST, "mean"} and len(words) > 4
    }
    assert set(table) == {*TEST, "mean"}
    assert table["chelsea"][:2] == [35.25, 0.9158]
    np.testing.assert_allclose(table["mean"], (np.array(table["chelsea"]) + table["coffee"]) / 2, atol=0.006)
    output = (folder / "test_output.txt").read_text()
    for column, metric in ((-2, "psnr"), (-1, "ssim")):
        measured = float(re.search(rf"# {metric}: ([\d.]+)", output)[1])
        assert table["mean"][column] == pytest.approx(measured, abs=0.006)
    return table


def test_it_starts_from_the_weights_that_ship_and_is_as_far_ahead_of_bicubic(finished):
    bicubic, _, shipped, _, trained, _ = table_of(finished)["mean"]
    assert shipped > bicubic + 1.5
    assert trained == pytest.approx(shipped, abs=0.1)
    ahead = float(re.search(r"trained from RGT_T_x2, is (\d+\.\d\d) dB ahead", finished[1].stdout)[1])
    assert ahead == pytest.approx(trained - bicubic, abs=0.011)
    assert re.search(rf"training: 100%.*{ITERATIONS}/{ITERATIONS}", finished[1].stderr)


def test_from_scratch_the_last_validation_is_a_decibel_above_the_first(from_scratch):
    folder, process = from_scratch
    scores = list(read_metrics(folder / "experiments/demo_RGT_T_x2/metrics.csv")["psnr", "validation"].values())
    assert len(scores) >= 2
    assert scores[-1] >= scores[0] + 1
    bicubic, _, trained, _ = table_of(from_scratch)["mean"]
    assert trained < bicubic
    assert re.search(r"trained from scratch, is \d+\.\d\d dB behind bicubic", process.stdout)
    command = re.search(r"basicsr (train -opt train\.yml --force_yml .*?)  ", process.stdout)[1]
    assert "pretrain_network_g=~" in command


def test_pictures_are_whole_and_show_the_test_photographs(finished):
    folder, _ = finished
    for name in TEST:
        picture = np.asarray(Image.open(folder / f"comparison_{name}.png"))
        assert picture.ndim == 3
        assert picture.std() > 20
    assert not list(folder.glob("*.partial"))


def test_option_files_train_rgt_t_on_a_folder_without_the_test_photographs(finished):
    folder, _ = finished
    train, test = (yaml.safe_load((folder / f"{name}.yml").read_text()) for name in ("train", "test"))
    assert {file.stem for file in (folder / "data/train").iterdir()} == set(TRAINING)
    assert train["datasets"]["train"]["dataroot_gt"] == "data/train"
    assert {file.stem for file in (folder / "data/test/HR").iterdir()} == set(TEST)
    assert not set(TRAINING) & {*TEST, VALIDATION}
    network = RGT(**{key: value for key, value in train["network_g"].items() if key != "type"})
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (network, rgt_t(upscale=2))]
    assert shapes[0] == shapes[1]
    assert test["network_g"] == train["network_g"]


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


def test_other_folders_a_file_and_too_few_iterations_are_usage_errors(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("mine")
    for folder, iterations, message in (
        ("", 12, "is not empty and no earlier demo made it"),
        ("data/file", 12, "file: cannot be used"),
        ("new", 1, "--iterations is 1"),
    ):
        with pytest.raises(UsageError, match=message):
            run_demo(tmp_path / folder, iterations)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["data", "data/file"]
    assert (tmp_path / "data/file").read_text() == "mine"
