"""A mistake is a one-line error with position and remedy, changes no file, and executes no code."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import pytest
import torch
import yaml

from rgt_arch.cli import basicsr_command
from rgt_arch.cli import main as rgt_main

from .bad_input import (
    CANARY,
    ROWS,
    TEST,
    TRAIN,
    Row,
    for_a_test,
    good,
    legacy_file_that_executes,
    pickle_that_executes,
    tar_that_executes,
    zip_that_executes,
)
from .conftest import Project


class Outcome(NamedTuple):
    """How a command ended, and what it printed."""

    code: object
    out: str
    err: str


@pytest.fixture(autouse=True)
def apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the user's weights and the variables of launchers."""
    monkeypatch.setenv("RGT_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a module of --import would be compiled beside it
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def prepared(project: Project) -> Project:
    """The project with options for the CPU."""
    project.options.update(model_type="RGTModel", num_gpu=0)
    return project


def contents(root: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, and the names of folders and links."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        for path in sorted(root.rglob("*"))
    }


def run(root: Path, command: str) -> Outcome:
    """Run a command in `root`, in this process."""
    name, *arguments = command.split()
    main = {"basicsr": basicsr_command.main, "rgt": rgt_main}[name]
    out, err, before = io.StringIO(), io.StringIO(), os.getcwd()
    os.chdir(root)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code: object = main(arguments)
    except SystemExit as leaving:  # argparse, and runs that have nothing to do
        code = leaving.code
    finally:
        os.chdir(before)
    return Outcome(code, out.getvalue(), err.getvalue())


def refused(project: Project, command: str, code: int = 2) -> str:
    """The error line of a command that must change no file, without the command's name.

    The usage lines of argparse are skipped.
    """
    before = contents(project.root)
    outcome = run(project.root, command)
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.out + outcome.err
    lines = [line for line in outcome.err.splitlines() if not line.startswith(("usage: ", "      "))]
    lines = [line for line in lines if ": warning: " not in line]
    assert len(lines) == 1, outcome.err
    _, error, message = lines[0].partition(": error: ")
    assert error, outcome.err
    assert "problems in" not in message
    assert "--verbose" not in message, "an exception that nobody foresaw"
    assert contents(project.root) == before
    return message


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.what}: {row.command}".replace(" -opt options.yml", ""))
def test_bad_file_or_flag_is_refused(prepared: Project, row: Row) -> None:
    row.spoil(prepared)
    message = refused(prepared, row.command, row.code)
    for part in row.says:
        assert part in message


@pytest.mark.parametrize(
    "make", [zip_that_executes, legacy_file_that_executes, tar_that_executes, pickle_that_executes, None]
)
def test_unsafe_loading_executes_these_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object] | None
) -> None:
    """Proves that the rows above would detect execution."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pth"
    with contextlib.suppress(Exception):  # loading may fail after the execution
        if make is None:
            yaml.unsafe_load(f"name: !!python/object/apply:os.mkdir [{CANARY}]\n")
        else:
            make(path)
            pickle.loads(path.read_bytes()) if make is pickle_that_executes else torch.load(path, weights_only=False)
    assert (tmp_path / CANARY).is_dir()


@pytest.mark.parametrize(
    "command",
    [
        TRAIN,
        TEST,
        "rgt upscale val/lr -o out -w RGT_T_x2",
        "rgt prepare lr val/hr --scale 2 -o out",
        "rgt prepare subimages val/hr -o out --size 16 --step 16",
        "rgt prepare meta val/hr -o out.txt",
        "rgt prepare lmdb val/hr -o out.lmdb",
        "rgt prepare check val/hr",
    ],
)
def test_damaged_image_is_named_and_leaves_only_whole_files(prepared: Project, command: str) -> None:
    """Pixels are decoded while results are written: exit code 1, the image's name, and no partial file."""
    (for_a_test if command == TEST else good)(prepared)
    for folder in ("train/hr", "train/lr") if command == TRAIN else ("val/hr", "val/lr"):
        for image in sorted((prepared.root / folder).iterdir())[1:]:
            content = bytearray(image.read_bytes())  # header and end of the file stay as they are
            content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
            image.write_bytes(content)
    before = contents(prepared.root)
    outcome = run(prepared.root, command)
    assert outcome.code == 1, outcome
    assert "Traceback" not in outcome.out + outcome.err
    assert re.search(r"img[1-5]\.png", outcome.err + outcome.out), outcome
    after = contents(prepared.root)
    assert {path: after[path] for path in before} == before
    new = sorted(after.keys() - before.keys())
    assert not [path for path in new if ".part" in path]
    for path in new:
        if path.endswith(".png"):
            assert cv2.imread(str(prepared.root / path)) is not None, path


@pytest.mark.parametrize(
    ("what", "command"),
    [("checkpoint that executes", TRAIN), ("web page for a checkpoint", "rgt upscale val/lr -w bad.pth")],
)
def test_console_scripts_print_the_same(prepared: Project, what: str, command: str) -> None:
    """A process started from a shell returns the code and prints the text of the function, and changes no file."""
    [row] = [row for row in ROWS if (row.what, row.command) == (what, command)]
    row.spoil(prepared)
    here = run(prepared.root, row.command)
    before = contents(prepared.root)
    assert prepared.start_from_shell(*row.command.split(), code=here.code) == here.out + here.err
    assert contents(prepared.root) == before
