"""`basicsr`: the reference of option-file keys, and readers that leave early."""

from __future__ import annotations

import subprocess
import sys

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
