"""Folders that commands fill: other people's files are safe, runs go on, leftovers vanish."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from rgt_arch.data.output_folders import STAMP, Claim, claim_folders, location, refuse_overlap
from rgt_arch.errors import UsageError, UserError


def claim_folder(folder: Path, settings: dict[str, object], outputs: list[Path], *, overwrite: bool = False) -> None:
    claim_folders([Claim(folder, settings, outputs)], overwrite=overwrite)


def test_equal_settings_go_on_and_keep_the_stamps_age(tmp_path: Path) -> None:
    folder, settings = tmp_path / "new" / "out", {"scale": 4, "list": (1, 2)}
    claim_folder(folder, settings, [folder / "a.png"])
    age = (folder / STAMP).stat().st_mtime_ns
    (folder / "a.png").write_bytes(b"x")
    time.sleep(0.01)
    claim_folder(folder, settings, [folder / "a.png"])
    assert (folder / STAMP).stat().st_mtime_ns == age
    claim_folder(folder, settings, [folder / "a.png"], overwrite=True)
    assert (folder / STAMP).stat().st_mtime_ns > age


def test_other_settings_and_foreign_files_are_refused_before_any_folder_is_touched(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    claim_folder(two, {"scale": 2}, [])
    with pytest.raises(UsageError, match=r"two: was filled with other settings \(scale 2, now 3\)"):
        claim_folders([Claim(one, {"scale": 3}, []), Claim(two, {"scale": 3}, [])])
    assert not one.exists()
    one.mkdir()
    (one / "a.png").symlink_to("nowhere")
    with pytest.raises(UsageError, match=r"a\.png exists and was not made by this command"):
        claim_folder(one, {}, [one / "a.png"])
    claim_folder(one, {}, [one / "b.png"])  # files of other names do not matter
    claim_folder(two, {"scale": 3}, [], overwrite=True)
    (two / STAMP).write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        claim_folder(two, {}, [])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="file/out: cannot be made"):
        claim_folder(tmp_path / "file" / "out", {}, [])


def test_unfinished_files_of_dead_processes_vanish_and_no_others(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has taken its exit status yet
    (tmp_path / "sub").mkdir()
    dead = [tmp_path / f".a.{child.pid}.part.png", tmp_path / "sub" / f".b.c.{child.pid}.part.png"]
    old = tmp_path / f".old.{os.getppid()}.part.png"
    others = [tmp_path / f".now.{os.getppid()}.part.png", tmp_path / "a.part.png", tmp_path / ".notes.png"]
    for path in [*dead, old, *others]:
        path.write_bytes(b"x")
    os.utime(old, (1, 1))  # its process has a later one's number
    claim_folder(tmp_path, {}, [tmp_path / "sub" / "b.c.png"])
    child.wait()
    assert [path for path in [*dead, old, *others] if path.exists()] == others


def test_outputs_that_would_meet_inputs_or_each_other_are_refused(tmp_path: Path) -> None:
    photo = tmp_path / "in" / "link" / "a.png"
    (tmp_path / "far").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "far")
    inputs = {tmp_path / "in": [photo]}
    refuse_overlap(inputs, [tmp_path / "far" / "b.png", tmp_path / "a.png"])
    for outputs, words in (
        ([tmp_path / "in" / "deep" / "b.png"], "inside the input folder"),
        ([tmp_path / "far" / "a.png"], "is an input"),
        ([tmp_path / "b.png", tmp_path / "b.png"], "the output of two images"),
    ):
        with pytest.raises(UsageError, match=words):
            refuse_overlap(inputs, outputs)


def test_location_survives_a_move_of_both(tmp_path: Path) -> None:
    assert location(tmp_path / "HR", tmp_path / "LR" / "X4") == "../../HR"


def test_location_on_another_drive_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def relpath(path: str, start: str) -> str:
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    monkeypatch.setattr(os.path, "relpath", relpath)
    assert location(tmp_path / "HR", tmp_path) == Path(os.path.realpath(tmp_path / "HR")).as_posix()
