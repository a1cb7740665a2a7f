"""The lines of `Progress` without a terminal."""

import pytest

from rgt_arch.progress import Progress


@pytest.mark.parametrize("shown", [True, False])
def test_progress_that_another_process_shows_prints_only_notes(capsys, shown):
    with Progress(3, "upscaling", "px", shown=shown) as progress:
        progress.reach(2)
        progress.leave_out(1)
        progress.reach(1)
        progress.note("a note")
        progress.reach(2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "a note"
    assert [line[:15] for line in lines[1:]] == ["upscaling: 100%"] * shown
