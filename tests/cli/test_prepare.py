"""What the commands of `rgt prepare` share."""

import pytest

from rgt_arch.cli import main, prepare


@pytest.mark.parametrize("command", [command.name.split()[1] for command in prepare.COMMANDS if command.run])
@pytest.mark.parametrize("jobs", ["0", "two"])
def test_wrong_jobs_are_refused_in_one_line(command, jobs, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["prepare", command, "folder", "--jobs", jobs])
    assert ended.value.code == 2
    assert f"--jobs: '{jobs}' is not a whole number from 1 on" in capsys.readouterr().err
