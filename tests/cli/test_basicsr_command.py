"""`basicsr`: the reference of option-file keys, and readers that leave early."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rgt_arch.cli.basicsr_command import main
from rgt_arch.config import describe_options


def test_reference_is_printed_and_help_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["options"]) == 0
    assert capsys.readouterr().out == f"{describe_options()}\n"
    with pytest.raises(SystemExit) as leaving:
        main(["--help"])
    assert leaving.value.code == 0
    assert "basicsr options" in capsys.readouterr().out


def test_reader_may_leave_early() -> None:
    command = [sys.executable, "-m", "rgt_arch.cli", "options"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert "BrokenPipe" not in process.communicate()[1]
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_full_disk_behind_stdout_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "rgt_arch.cli", "options"]
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert process.stderr == "basicsr options: error: stdout: No space left on device\n"
    assert process.returncode == 1
