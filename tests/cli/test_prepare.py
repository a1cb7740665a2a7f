"""What the commands of `rgt prepare` share."""

import pytest

from rgt_arch.cli import main
from rgt_arch.cli.prepare import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("jobs", ["0", "two"])
def test_wrong_jobs_are_said_in_words(command, jobs, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["prepare", command, "folder", "--jobs", jobs])
    assert ended.value.code == 2
    assert f"--jobs: '{jobs}' is no whole number from 1 on" in capsys.readouterr().err
