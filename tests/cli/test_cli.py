"""The two console commands: what they list, and how errors end."""

import re
import signal
import subprocess
import sys

import pytest

from rgt_arch.cli import COMMANDS, ending_in_order, main, run_guarded
from rgt_arch.errors import UsageError, UserError
from rgt_arch.version import __version__


def fail(error: BaseException) -> int:
    raise error


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    listed = capsys.readouterr().out
    for name in COMMANDS:
        assert re.search(rf"^    {name}\s", listed, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_a_verbose_flag(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert "--verbose" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["demo", "--iterations", "many"]])
def test_wrong_usage_exits_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: rgt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UserError("broken"), 1, "prog: error: broken\n"),
        (UsageError("a.yml: lr"), 2, "prog: error: a.yml: lr\n"),
        (KeyboardInterrupt(), 130, "prog: interrupted\n"),
    ],
)
def test_errors_of_users_are_one_line_and_an_exit_code(error, code, text, capsys):
    assert run_guarded(lambda: fail(error), "prog") == code
    assert capsys.readouterr().err == text


def test_verbose_lets_the_traceback_through():
    with pytest.raises(UserError):
        run_guarded(lambda: fail(UserError("broken")), "prog", verbose=True)


@pytest.mark.parametrize("arguments", [["--version"], ["train", "--help"]])
def test_the_module_serves_both_commands(arguments):
    command = [sys.executable, "-m", "rgt_arch.cli", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert __version__ in process.stdout or "-opt" in process.stdout


def test_signals_are_the_host_s_again_when_the_work_is_done():
    seen = []
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with ending_in_order():
            seen.append(signal.getsignal(signal.SIGTERM))
        assert callable(seen[0])
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
