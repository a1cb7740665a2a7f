"""What users get wrong, once each: every documented option key and every kind of file, through the real commands.

Each ends with exit code 1 or 2 and one line that names the file or the key, the value and a remedy. Nothing is written,
nothing of the user's is changed, and nothing that a file holds is executed. Options are broken by rules made from the
tables behind `basicsr options` (bad_options.py, which has wrong flags too), so that no key can be documented and
forgotten here; files are broken as bad_files.py has it.

A process imports for 8 seconds before it reads its first flag. So the commands are called here by the functions that
their console scripts are made of; `test_processes_say_the_same` starts some as processes and compares.

`pytest -s tests/end_to_end/test_bad_input.py` also prints all inputs and messages, as Markdown.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import pytest
import torch
import yaml

from rgt_arch.cli import basicsr_command
from rgt_arch.cli import main as rgt_main
from rgt_arch.config.tables import TABLES, table_title
from rgt_arch.data.option_checks import validate_options

from .bad_files import (
    CANARY,
    FILE_ROWS,
    TEST,
    TRAIN,
    Row,
    change,
    for_a_test,
    legacy_file_that_executes,
    pickle_that_executes,
    tar_that_executes,
    zip_that_executes,
)
from .bad_options import OPTION_ROWS, Mistake, mistakes, mistakes_in_arguments, mistakes_of, training_options
from .conftest import Project


class Outcome(NamedTuple):
    """How a command ended, and what it printed."""

    code: object
    out: str
    err: str


@pytest.fixture(scope="module")
def record() -> Iterator[list[tuple[str, str, str]]]:
    """(input, command, message) of every row; printed at the end."""
    rows: list[tuple[str, str, str]] = []
    yield rows
    print("\n\n| input | command | message |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |")


@pytest.fixture(scope="module")
def shared(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project for mistakes that leave everything as it was, so that all can be made in it."""
    root = tmp_path_factory.mktemp("shared")
    shutil.copytree(photographs, root, dirs_exist_ok=True)
    (root / "names.txt").write_text("".join(f"img{index}.png\n" for index in range(6)))
    return Project(root)


@pytest.fixture(autouse=True)
def apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of the user's, and no launcher's environment."""
    monkeypatch.setenv("RGT_CACHE", str(tmp_path_factory.mktemp("apart") / "cache"))
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"):
        monkeypatch.delenv(name, raising=False)


def contents(root: Path) -> dict[str, str]:
    """What lies in a folder: of files the SHA-256, of folders and links that they are there."""
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


def refusal(outcome: Outcome, code: int) -> str:
    """The one line of the error, without the command's name; what argparse writes above it is left out."""
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.out + outcome.err
    lines = [line for line in outcome.err.splitlines() if not line.startswith(("usage: ", "      "))]
    lines = [line for line in lines if ": warning: " not in line]
    assert len(lines) == 1, outcome.err
    _, error, message = lines[0].partition(": error: ")
    assert error, outcome.err
    assert "problems in" not in message
    assert "--verbose" not in message, "an exception that nobody foresaw"
    return message


def refused(project: Project, command: str, code: int = 2) -> str:
    """The error of a command that must leave everything as it was."""
    before = contents(project.root)
    message = refusal(run(project.root, command), code)
    assert contents(project.root) == before
    return message


# --- options ---


@pytest.mark.parametrize("mistake", [*mistakes(), *mistakes_in_arguments()], ids=lambda m: f"{m.key}={m.value!r:.20}")
def test_wrong_option_is_refused(shared: Project, record: list[tuple[str, str, str]], mistake: Mistake) -> None:
    """Values of wrong types and out of range, names of nothing, and keys that are not there."""
    text = yaml.safe_dump(mistake.spoilt(), sort_keys=False)
    (shared.root / "options.yml").write_text(text)
    command = f"basicsr {mistake.command} -opt options.yml"
    message = refused(shared, command)
    assert message.startswith("options.yml:")
    assert mistake.key in message
    assert mistake.says in message
    assert "..." not in message, "a remedy that leaves the reader to guess"
    if isinstance(mistake.value, (str, int, float, list)):
        assert f"{mistake.key} = {mistake.value!r}" in message
    written = f"`{mistake.key}` " + (f"{mistake.value!r}" if "missing" not in mistake.says else "left out")
    record.append((written, command, message))


def test_options_are_taken_without_the_mistakes(shared: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that each message is about the one mistake."""
    monkeypatch.chdir(shared.root)
    done: list[Any] = []
    for mistake in (*mistakes(), *mistakes_in_arguments()):
        if mistake.options in done:
            continue
        done.append(mistake.options)
        options = yaml.safe_load(yaml.safe_dump(mistake.options))
        validate_options(options, file="options.yml", is_train=mistake.command == "train", root=shared.root)


def test_every_documented_key_is_broken() -> None:
    """Every key that `basicsr options` lists has a wrong value here, made by the rule of its kind."""
    for table in TABLES:
        for name in table.keys:
            assert mistakes_of(table, name), f"{table_title(table)}: {name}"


# --- files and flags ---


ROWS = [*OPTION_ROWS, *FILE_ROWS]


@pytest.fixture
def prepared(project: Project) -> Project:
    """The project with options for the CPU."""
    project.options = training_options()
    return project


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.what}: {row.command}".replace(" -opt options.yml", ""))
def test_bad_file_or_flag_is_refused(prepared: Project, record: list[tuple[str, str, str]], row: Row) -> None:
    row.spoil(prepared)
    message = refused(prepared, row.command, row.code)
    for part in row.says:
        assert part in message
    record.append((row.what, row.command, message.replace(f"{prepared.root}/", "")))


@pytest.mark.parametrize(
    "make", [zip_that_executes, legacy_file_that_executes, tar_that_executes, pickle_that_executes, None]
)
def test_files_that_execute_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object] | None
) -> None:
    """Loaded without care, the files of the rows above do what the rows look for."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pth"
    with contextlib.suppress(Exception):  # what comes after the code may fail
        if make is None:
            yaml.unsafe_load(f"name: !!python/object/apply:os.mkdir [{CANARY}]\n")
        else:
            make(path)
            pickle.loads(path.read_bytes()) if make is pickle_that_executes else torch.load(path, weights_only=False)
    assert (tmp_path / CANARY).is_dir()


# --- images that turn out to be damaged while others are worked on ---


def damage(path: Path) -> None:
    """Change the pixels' data inside a PNG file, whose header and end stay as they are."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)


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
def test_damaged_image_is_named_and_leaves_only_whole_files(
    prepared: Project, record: list[tuple[str, str, str]], command: str
) -> None:
    """Pixels are decoded in the middle of the work: exit code 1, the image's name, and what is there is whole."""
    (for_a_test if command == TEST else change)()(prepared)
    for folder in ("train/hr", "train/lr") if command == TRAIN else ("val/hr", "val/lr"):
        for image in sorted((prepared.root / folder).iterdir())[1:]:
            damage(image)
    before = contents(prepared.root)
    outcome = run(prepared.root, command)
    assert outcome.code == 1, outcome
    assert "Traceback" not in outcome.out + outcome.err
    named = [line for line in f"{outcome.err}\n{outcome.out}".splitlines() if re.search(r"img[1-5]\.png", line)]
    assert named, outcome
    after = contents(prepared.root)
    assert {path: after[path] for path in before} == before
    new = sorted(after.keys() - before.keys())
    assert not [path for path in new if ".part" in path]
    for path in new:
        if path.endswith(".png"):
            assert cv2.imread(str(prepared.root / path)) is not None, path
    record.append(("damaged image", command, named[-1].strip()))


# --- processes ---


@pytest.mark.parametrize(
    ("what", "command"),
    [
        ("launcher without torchrun", f"{TRAIN} --launcher pytorch"),
        ("checkpoint that executes", TRAIN),
        ("web page for a checkpoint", "rgt upscale val/lr -w bad.pth"),
    ],
)
def test_processes_say_the_same(prepared: Project, what: str, command: str) -> None:
    """A process started from a shell ends with the code and the words of the function, and changes nothing."""
    [row] = [row for row in ROWS if (row.what, row.command) == (what, command)]
    row.spoil(prepared)
    here = run(prepared.root, row.command)
    before = contents(prepared.root)
    process = prepared.start(*row.command.split())
    assert (process.returncode, process.stdout) == (here.code, here.out + here.err)
    assert contents(prepared.root) == before
