"""Folders that commands fill: other people's files are safe, runs go on, leftovers vanish."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from rgt_arch.data.outputs import STAMP, Claim, Output, Task, location, make_all, refuse_overlap
from rgt_arch.data.parallel import Summary
from rgt_arch.errors import UsageError, UserError


@dataclass(frozen=True)
class Copy(Task):
    """The top left pixel of an image."""

    path: Path

    def plan(self, sizes: list[tuple[int, int]]) -> list[Output]:
        return [Output(self.path, self.path.parent, 0, (0, 0, 1, 1))]

    def stale(self, plan: list[Output]) -> list[Path]:
        return [] if plan else [self.path]


def make(folder: Path, settings: dict[str, object], name: str = "a.png", *, overwrite: bool = False) -> Summary:
    """Fill `folder` from an image beside it."""
    source, summary = folder.parent / "source.png", Summary()
    if not source.exists():
        cv2.imwrite(str(source), np.zeros((2, 2, 3), np.uint8))
    claims = [Claim(folder, settings, [folder / name])]
    task = Copy((source,), overwrite, folder / name)
    list(make_all([task], claims, {}, summary, jobs=1, overwrite=overwrite, title="t"))
    return summary


def test_equal_settings_go_on_and_keep_the_stamps_age(tmp_path: Path) -> None:
    folder, settings = tmp_path / "out", {"scale": 4, "list": (1, 2)}
    assert make(folder, settings).made == 1
    age = (folder / STAMP).stat().st_mtime_ns
    time.sleep(0.01)
    assert make(folder, settings).kept == 1
    assert (folder / STAMP).stat().st_mtime_ns == age
    assert make(folder, settings, overwrite=True).made == 1
    assert (folder / STAMP).stat().st_mtime_ns > age


def test_other_settings_and_foreign_files_are_refused_before_any_folder_is_touched(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    make(two, {"scale": 2})
    claims = [Claim(one, {"scale": 3}, []), Claim(two, {"scale": 3}, [])]
    with pytest.raises(UsageError, match=r"two: was filled with other settings \(scale 2, now 3\)"):
        list(make_all([], claims, {}, Summary(), jobs=1, overwrite=False, title="t"))
    assert not one.exists()
    one.mkdir()
    (one / "a.png").symlink_to("nowhere")
    with pytest.raises(UsageError, match=r"a\.png exists and was not made by this command"):
        make(one, {})
    make(one, {}, "b.png")  # files of other names do not matter
    make(two, {"scale": 3}, overwrite=True)
    (two / STAMP).write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        make(two, {})


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="file/out: cannot be made"):
        list(
            make_all([], [Claim(tmp_path / "file" / "out", {}, [])], {}, Summary(), jobs=1, overwrite=False, title="t")
        )


def test_unfinished_files_of_dead_processes_vanish_and_no_others(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, {})
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has taken its exit status yet
    dead = [out / f".a.{child.pid}.part.png", out / f".b.c.{os.getpid()}.part.png"]
    others = [out / f".now.{os.getppid()}.part.png", out / "a.part.png", out / ".notes.png"]
    for path in [*dead, *others]:
        path.write_bytes(b"x")
    make(out, {})
    child.wait()
    assert [path for path in [*dead, *others] if path.exists()] == others


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
