"""`basicsr train` as a process: one-line failures, and no process left after an interruption."""

from __future__ import annotations

import psutil
import pytest

from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation import training_runs
from rgt_arch.evaluation.training_runs import HEADER, basicsr_train, read_metrics


def test_error_message_of_a_failed_training_is_reported(tmp_path):
    (tmp_path / "train.yml").write_text("name: x\nmodel_type: NoSuchModel\n")
    message = r"(?s)basicsr train ended with exit code 2: .+ \(whole output: .*train_output\.txt\)"
    with pytest.raises(UserError, match=message):
        basicsr_train(tmp_path / "train.yml", tmp_path, "x", 1, [])


def test_an_interruption_ends_the_training(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        assert [child for child in psutil.Process().children() if "rgt_arch.cli" in child.cmdline()]
        raise KeyboardInterrupt

    (tmp_path / "train.yml").touch()
    monkeypatch.setattr(training_runs, "read_metrics", interrupt)
    with pytest.raises(KeyboardInterrupt):
        basicsr_train(tmp_path / "train.yml", tmp_path, "x", 1, [])
    assert not [child for child in psutil.Process().children() if "rgt_arch.cli" in child.cmdline()]


def test_metrics_are_read_by_name_and_data_set(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text(",".join(HEADER) + "\n1,,l_pix,0.5\n2,,l_pix,nan\n2,Set5,psnr,30.5\n3,,l_p")
    series = read_metrics(file)
    assert series["psnr", "Set5"] == {2: 30.5}
    assert list(series["l_pix", ""]) == [1, 2]
    for content in ("", "1,,l_pix,0.5\n", ",".join(HEADER) + "\n1,l_pix\n", ",".join(HEADER) + "\nx,,l_pix,1\n"):
        file.write_text(content)
        with pytest.raises(UsageError, match=r"metrics\.csv"):
            read_metrics(file)
