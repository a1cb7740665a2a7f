"""Files are written completely or not at all, whatever stops the writing."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from rgt_arch.errors import UsageError, UserError
from rgt_arch.files import check_output, check_place, file_digest, written_whole
from rgt_arch.torch_files import save_whole


def _bytes(path: Path) -> None:
    with written_whole(path) as beside:
        assert beside.suffix == path.suffix
        beside.write_bytes(bytes(100_000))


def _torch(path: Path) -> None:
    save_whole({"weights": torch.zeros(100_000)}, path)


@pytest.mark.parametrize("write", [_bytes, _torch])
def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(b"old")
    # a real failure half-way: for a moment, the system limits files of this process to 4096 bytes
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(UserError) as caught:
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value) == f"{path}: cannot be written: File too large; nothing was changed"
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["net.pth"]


def test_other_failures_leave_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError), written_whole(tmp_path / "a.png") as beside:
        assert beside.write_bytes(b"half") / 0
    monkeypatch.setattr("os.replace", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(UserError, match="Permission denied; nothing was changed"):
        _bytes(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ä b.png", "n" * 251 + ".png", "ä" * 125 + ".png"])
def test_every_name_that_the_disk_allows_is_accepted(tmp_path: Path, name: str) -> None:
    check_place(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    _bytes(tmp_path / name)
    assert [(file.name, file.stat().st_size) for file in tmp_path.iterdir()] == [(name, 100_000)]


def test_check_of_a_path_changes_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    check_place(tmp_path / "a.png")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.png", b"old")]
    for name, reason in (("n" * 252 + ".png", "name too long"), ("gone/a.png", "No such file"), (".", "is a folder")):
        with pytest.raises(UserError, match=reason):
            check_place(tmp_path / name)


def test_digest_is_cached_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = file_digest(path)
    assert first == hashlib.sha256(b"one").hexdigest()
    with monkeypatch.context() as unreadable:
        unreadable.setattr(Path, "open", lambda *_: pytest.fail("read again"))
        assert file_digest(path) == first
    stamp = path.stat().st_mtime_ns
    path.write_bytes(b"two")
    os.utime(path, ns=(stamp, stamp))  # copying tools restore mtime like this; ctime stays new
    assert file_digest(path) == hashlib.sha256(b"two").hexdigest()
    with pytest.raises(UsageError, match="gone: cannot be read: No such file"):
        file_digest(tmp_path / "gone")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        file_digest(tmp_path)


@pytest.mark.parametrize(
    ("place", "overwrite", "words"),
    [
        ("there/new.md", False, None),
        ("there/old.md", True, None),
        ("there/old.md", False, "exists; --overwrite replaces it"),
        ("there/input.md", True, "is one of the inputs"),
        ("there/link.md", True, "is one of the inputs"),
        ("there", True, "is a folder; name a file"),
        ("nowhere/new.md", True, "there is no folder"),
        ("/dev/null", True, "is not a regular file; name a file"),
        (f"there/{'long' * 80}.md", False, "File name too long"),
    ],
)
def test_outputs_are_checked_before_work(tmp_path: Path, place: str, overwrite: bool, words: str | None) -> None:
    (tmp_path / "there").mkdir()
    inputs = [tmp_path / "there" / "input.md", tmp_path / "not" / "there.md"]
    for name in ("old.md", "input.md"):
        (tmp_path / "there" / name).write_text("mine")
    (tmp_path / "there" / "link.md").symlink_to("input.md")
    before = sorted((tmp_path / "there").iterdir())
    if words is None:
        check_output("-o", tmp_path / place, inputs, overwrite=overwrite)
    else:
        with pytest.raises((UsageError, UserError), match=words):
            check_output("-o", tmp_path / place, inputs, overwrite=overwrite)
    assert sorted((tmp_path / "there").iterdir()) == before
