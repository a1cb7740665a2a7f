"""Common behaviour of the `rgt prepare` commands."""

import runpy
import sys
from pathlib import Path

import pytest

from rgt_arch.cli import main, prepare

SCRIPTS = Path(__file__).parents[2] / "realesrgan_style_scripts"


@pytest.mark.parametrize("command", [command.name.split()[1] for command in prepare.COMMANDS if command.run])
@pytest.mark.parametrize("jobs", ["0", "two"])
def test_wrong_jobs_are_refused_in_one_line(command, jobs, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["prepare", command, "folder", "--jobs", jobs])
    assert ended.value.code == 2
    assert f"--jobs: '{jobs}' is not a whole number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "command"),
    [
        ("check_dataset", "check"),
        ("create_lmdb", "lmdb"),
        ("extract_subimages", "subimages"),
        ("generate_bicubic_lr", "lr"),
        ("generate_meta_info", "meta"),
    ],
)
def test_realesrgan_style_scripts_run_the_commands(script, command, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: rgt prepare {command} ")
