"""What users get wrong, once each: every documented option key and every kind of file, through the real commands.

Each ends with exit code 1 or 2 and one line that names the file or the key, the value and a remedy. Nothing is written,
nothing of the user's is changed, and nothing that a file holds is executed. Options are broken by rules made from the
tables behind `basicsr options` (bad_options.py), so that no key can be documented and forgotten here.

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
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from rgt_arch.cli import basicsr_command
from rgt_arch.cli import main as rgt_main
from rgt_arch.config import validate_options
from rgt_arch.config.describe import documented_tables

from .bad_options import Mistake, mistakes, mistakes_in_arguments, mistakes_of, training_options
from .conftest import Project

TRAIN, TEST = "basicsr train -opt options.yml", "basicsr test -opt options.yml"
CANARY = "executed"
"""What code in a file would leave in the current directory."""


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
    """No weights of the user's, no launcher's environment, and a client for memcached."""
    folder = tmp_path_factory.mktemp("apart")
    (folder / "mc.py").touch()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("RGT_CACHE", str(folder / "cache"))
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
    for table in documented_tables():
        for name in table.keys:
            assert mistakes_of(table, name), f"{table.title}: {name}"


# --- files and flags ---


@dataclass(frozen=True)
class Row:
    """One thing that a user gets wrong: what it is, what makes it so, and what must be said."""

    what: str
    command: str
    spoil: Callable[[Project], object]
    says: tuple[str, ...]
    code: int = 2


def write(name: str, content: str | bytes) -> Callable[[Project], object]:
    """Make a file of the project, and its options unless they are that file."""

    def spoil(project: Project) -> None:
        if name != "options.yml":
            project.write()
        path = project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def change(**sections: Any) -> Callable[[Project], object]:
    """Change options: sections are merged, `data` into the training set."""

    def spoil(project: Project) -> None:
        for name, value in sections.items():
            if isinstance(value, dict):
                options = project.options["datasets"]["train"] if name == "data" else project.options[name]
                options.update(value)
            else:
                project.options[name] = value
        project.write()

    return spoil


def then(*steps: Callable[[Project], object]) -> Callable[[Project], object]:
    """One after the other."""

    def spoil(project: Project) -> None:
        for step in steps:
            step(project)

    return spoil


def at(name: str, do: Callable[[Path], object]) -> Callable[[Project], object]:
    """Do something to a path of the project."""
    return lambda project: do(project.root / name)


def nothing(_project: Project) -> None:
    """The command alone is wrong."""


def good(project: Project) -> None:
    project.write()


class Execute:
    """Unpickled, it makes a folder called CANARY."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (CANARY,)


def zip_that_executes(path: Path) -> None:
    torch.save({"params": {"weight": Execute()}}, path)


def legacy_file_that_executes(path: Path) -> None:
    torch.save({"params": Execute()}, path, _use_new_zipfile_serialization=False)


def pickle_that_executes(path: Path) -> None:
    path.write_bytes(pickle.dumps(Execute()))


def tar_that_executes(path: Path) -> None:
    """The layout of PyTorch before 0.1.10, whose storages are pickled."""
    with tarfile.open(path, "w") as archive:
        content = pickle.dumps(Execute())
        member = tarfile.TarInfo("storages")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def script(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)


def weights(path: Path, features: int = 8, key: str = "params") -> None:
    """Weights of an EDSR, those that the options ask for with 8 features."""
    from basicsr.archs.edsr_arch import EDSR

    state = EDSR(3, 3, num_feat=features, num_block=1, upscale=2).state_dict()
    torch.save({key: state} if key else state, path)


def state_of(iteration: int, optimizers: int = 1) -> Callable[[Path], object]:
    """A training state, and the network of it in the models folder beside its own."""

    def save(path: Path) -> None:
        models = path.parent.parent / "models"
        for folder in (path.parent, models):
            folder.mkdir(parents=True, exist_ok=True)
        torch.save({"epoch": 0, "iter": iteration, "optimizers": [{}] * optimizers, "schedulers": [{}]}, path)
        weights(models / f"net_g_{iteration}.pth")

    return save


def in_folder(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """`make` after the folder that the file lies in."""

    def do(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)

    return do


def cut(path: Path, keep: float = 0.5) -> None:
    """Leave the first half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def picture(path: Path, height: int, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def empty_folder(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)


def use_lmdb(project: Project) -> None:
    """Train from LMDBs."""
    change(data={f"dataroot_{k}": f"train/{n}.lmdb" for k, n in (("gt", "hr"), ("lq", "lr"))})(project)
    change(data={"io_backend": {"type": "lmdb"}})(project)


def start_from(name: str, make: Callable[[Path], object]) -> Callable[[Project], object]:
    return then(change(path={"pretrain_network_g": name}), at(name, make))


def resume_from(name: str, make: Callable[[Path], object]) -> Callable[[Project], object]:
    return then(change(path={"resume_state": name}), at(name, make))


def testing(**data: Any) -> Callable[[Project], object]:
    """Options of a test of single images."""

    def spoil(project: Project) -> None:
        data_set = {
            "name": "one",
            "type": "SingleImageDataset",
            "dataroot_lq": "val/lr",
            "io_backend": {"type": "disk"},
        }
        project.options["datasets"] = {"test_1": {**data_set, **data}}
        project.options["val"] = {"save_img": True}
        project.write()

    return spoil


def _text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


HTML = "<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title></html>"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcde", "bcdef", strict=True)
)
YAML_ROWS = [
    Row(
        "option file that is not there", "basicsr train -opt nowhere.yml", nothing, ("nowhere.yml: no such", "correct")
    ),
    Row("folder for an option file", "basicsr train -opt train", nothing, ("train: cannot be read", "correct")),
    Row("empty option file", TRAIN, write("options.yml", ""), ("options.yml: is empty", "see options/")),
    Row("list for options", TRAIN, write("options.yml", "- name: x\n"), ("options.yml: holds a list", "key: value")),
    Row("picture for an option file", "basicsr train -opt val/lr/img0.png", nothing, ("img0.png: not UTF-8", "save")),
    Row("zeros for an option file", TRAIN, write("options.yml", b"\0" * 99), ("options.yml: not valid YAML", "save")),
    Row("tabs in YAML", TRAIN, write("options.yml", "train:\n\tlr: 1\n"), ("options.yml:2: ", "spaces, not tabs")),
    Row("open bracket in YAML", TRAIN, write("options.yml", "betas: [0.9\nx: 1\n"), ("options.yml:2: ", "brackets")),
    Row("key given twice", TRAIN, write("options.yml", "name: a\nname: b\n"), ("options.yml:2: name", "keep one")),
    Row("key that is a list", TRAIN, write("options.yml", "? [a]\n: 1\n"), ("options.yml:1: ", "plain text")),
    Row("YAML that multiplies", TRAIN, write("options.yml", LAUGHS), ("options.yml:", "without & and *")),
    Row("YAML nested deeply", TRAIN, write("options.yml", "[" * 5000), ("options.yml", "fewer levels")),
    *(
        Row(f"YAML with {tag}", command, write("options.yml", f"name: {tag} [{CANARY}]\n"), ("options.yml:1", "tag"))
        for command in (TRAIN, TEST)
        for tag in ("!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!mine")
    ),
    Row("YAML with a Python name", TRAIN, write("options.yml", "name: !!python/name:os.mkdir\n"), (":1: ", "tag")),
    Row("misspelt key", TRAIN, change(train={"totl_iter": 3}), ("train:totl_iter", "did you mean total_iter?")),
    Row(
        "key of another model",
        TRAIN,
        change(model_type="SRModel", train={"amp": "bf16"}),
        ("train:amp", "model_type: RGTModel"),
    ),
    Row("key that BasicSR sets", TRAIN, change(path={"models": "x"}), ("path:models", "remove it")),
    Row("training file in a test", TEST, good, ("datasets:train", "basicsr train")),
    Row(
        "test file in a training",
        TRAIN,
        then(testing(), change(val={"val_freq": 1})),
        ("datasets:train", "basicsr test"),
    ),
    Row("name that leaves its folder", TRAIN, change(name="../x"), (":1: name = '../x'", "letters, digits")),
]
FLAG_ROWS = [
    Row("no command", "basicsr", nothing, ("train|test|options",)),
    Row("unknown command", "basicsr trian", nothing, ("'trian'", "train")),
    Row("no option file", "basicsr train", nothing, ("-opt",)),
    Row("unknown flag", f"{TRAIN} --amp", good, ("--amp",)),
    Row("unknown launcher", f"{TRAIN} --launcher mpi", good, ("'mpi'", "pytorch")),
    Row("launcher without torchrun", f"{TRAIN} --launcher pytorch", good, ("RANK", "torchrun")),
    Row("launcher without srun", f"{TRAIN} --launcher slurm", good, ("SLURM_PROCID", "srun")),
    Row("two ways to begin", f"{TRAIN} --auto_resume --restart", good, ("--restart", "not allowed with")),
    Row("rank that is no number", f"{TRAIN} --local_rank first", good, ("--local", "'first'")),
    Row("override without a value", f"{TRAIN} --force_yml scale", good, ("--force_yml scale", "section:key=value")),
    Row("override of no key", f"{TRAIN} --force_yml train:lr=1", good, ("train:lr", "unknown key")),
    Row("override in no section", f"{TRAIN} --force_yml name:x=1", good, ("name", "not a section")),
    Row("override of a wrong type", f"{TRAIN} --force_yml scale=two", good, ("scale = 'two'", "whole number")),
    Row("override that executes", f"{TRAIN} --force_yml name=!!python/name:os.mkdir", good, ("name = '!!python", "")),
    Row("override that executes", f"{TRAIN} --force_yml scale=!!python/name:os.mkdir", good, ("scale=", "tag")),
    Row("override, not YAML", f"{TRAIN} --force_yml train:optim_g:betas=[0.9", good, ("betas=[0.9", "brackets")),
    Row("module that is not there", f"{TRAIN} --import nowhere", good, ("--import nowhere", "importable")),
    Row(
        "module that fails",
        f"{TRAIN} --import failing",
        write("failing.py", "1 / 0\n"),
        ("--import failing: ZeroDivisionError", "importable"),
    ),
    Row("no command", "rgt", nothing, ("COMMAND",)),
    Row("unknown command", "rgt enlarge", nothing, ("'enlarge'", "upscale")),
    Row("nothing to enlarge", "rgt upscale", nothing, ("INPUT",)),
    Row("picture that is not there", "rgt upscale no.png", nothing, ("no.png", "no such")),
    Row("tile of no size", "rgt upscale val/lr -t many", nothing, ("--tile", "many")),
    Row("quality out of range", "rgt upscale val/lr --quality 0", nothing, ("--quality is 0", "1 to 100")),
    Row("factor out of range", "rgt upscale val/lr -s -1", nothing, ("--outscale is -1", "above 0")),
    Row("unknown weights", "rgt upscale val/lr -w RGT_x5", nothing, ("RGT_x5", "did you mean RGT_x")),
    Row("unknown device", "rgt upscale val/lr --device tpu", nothing, ("tpu", "cpu")),
    Row("file name for many outputs", "rgt upscale val/lr -o one.png", nothing, ("-o one.png", "name a folder")),
    Row("format that cannot be written", "rgt upscale val/lr/img0.png -o one.xyz", nothing, ("one.xyz", ".xyz")),
    Row("folder for a checkpoint", "rgt info train", nothing, ("train: is a folder", "checkpoint")),
    Row("no output", "rgt convert a.pth", nothing, ("output",)),
    Row("output of no format", "rgt convert RGT_T_x2 a.onnx", nothing, ("a.onnx", ".safetensors")),
    Row("output that exists", "rgt convert RGT_T_x2 a.pth", write("a.pth", "x"), ("a.pth: exists", "--overwrite")),
    Row("argument without a value", "rgt convert RGT_T_x2 b.pth --set hai", nothing, ("--set hai", "ARGUMENT=VALUE")),
    Row("folder that is not there", "rgt prepare lr nowhere", nothing, ("nowhere", "no such")),
    Row("folder that is not there", "rgt prepare subimages nowhere -o out", nothing, ("nowhere", "no such")),
    Row("folder that is not there", "rgt prepare meta nowhere -o out.txt", nothing, ("nowhere", "no such")),
    Row("folder that is not there", "rgt prepare lmdb nowhere", nothing, ("nowhere", "no such")),
    Row("folder that is not there", "rgt prepare check nowhere", nothing, ("nowhere", "no such")),
    Row("scale out of range", "rgt prepare lr val/hr --scale 1", nothing, ("--scale", "choose from")),
    Row("LMDB of another name", "rgt prepare lmdb val/hr -o hr.db", nothing, ("hr.db", ".lmdb")),
    Row("LMDB over something else", "rgt prepare lmdb val/hr -o val/hr.lmdb", at("val/hr.lmdb/x", Path.touch), ("x",)),
    Row("no processes", "rgt prepare lr val/hr -j 0", nothing, ("--jobs", "'0'")),
    Row("compression out of range", "rgt prepare lmdb val/lr --compression 10", nothing, ("--compression is 10", "0")),
    Row("list that is not there", "rgt ablation no.yml", nothing, ("no.yml: no such",)),
    Row(
        "list of nothing", "rgt ablation list.yml", write("list.yml", "seeds: [1]\n"), ("list.yml: variants", "no_cpe")
    ),
    Row("network that is not there", "rgt complexity no.yml", nothing, ("no.yml: no such",)),
    Row("size that is none", "rgt complexity options.yml --sizes big", good, ("'big'", "128x128")),
    Row("run that is not there", "rgt figure curves nowhere -o c.png", nothing, ("nowhere", "no such")),
    Row("picture that is not there", "rgt figure features no.png -o f.png", nothing, ("no.png", "no such")),
    Row("picture that is not there", "rgt figure compare no.png bicubic -o c.png", nothing, ("no.png", "no such")),
    Row("iterations out of range", "rgt demo --iterations 0 -o out", nothing, ("--iterations", "0")),
    Row("unknown set of weights", "rgt table RGT_x5", nothing, ("RGT_x5",)),
    Row("size that is none", "rgt bench latency --sizes big", nothing, ("big",)),
]
IMAGE_ROWS = [
    Row("text for an image", TRAIN, write("train/hr/img0.png", "no picture"), ("dataroot_gt", "img0.png", "replace")),
    Row("text for an image", TRAIN, write("val/lr/img0.png", "no picture"), ("val:dataroot_lq", "img0.png", "replace")),
    Row("empty image", TRAIN, write("train/lr/img1.png", ""), ("dataroot_lq", "img1.png", "replace")),
    Row("truncated image", TRAIN, then(good, at("train/hr/img2.png", cut)), ("dataroot_gt", "img2.png", "replace")),
    Row(
        "no image of the HR image", TRAIN, then(good, at("train/lr/img3.png", Path.unlink)), ("img3.png", "add or rem")
    ),
    Row(
        "image of another size", TRAIN, then(good, at("train/lr/img0.png", lambda p: picture(p, 20, 24))), ("img0.png",)
    ),
    Row("images below the patch", TRAIN, change(data={"gt_size": 64}), ("train:gt_size", "48 or less")),
    Row("patch of no whole pixels", TRAIN, change(data={"gt_size": 33}), ("train:gt_size = 33", "take 32")),
    Row("file among the images", TRAIN, write("train/hr/notes.txt", "x"), ("dataroot_gt", "notes.txt", "move it away")),
    Row("empty folder", TRAIN, then(good, at("train/lr", empty_folder)), ("train:dataroot_lq = 'train/lr'", "fill it")),
    Row("file for a folder", TRAIN, change(data={"dataroot_gt": "train/hr/img0.png"}), ("dataroot_gt", "is a file")),
    Row("template of nothing", TRAIN, change(data={"filename_tmpl": "x2"}), ("filename_tmpl = 'x2'", "'{}x4'")),
    Row("text for an image", TEST, then(testing(), write("val/lr/img0.png", "x")), ("test_1:dataroot_lq", "img0.png")),
    Row("truncated image", TEST, then(testing(), at("val/lr/img1.png", cut)), ("test_1:dataroot_lq", "img1.png")),
    Row(
        "empty folder", TEST, then(testing(), at("val/lr", empty_folder)), ("test_1:dataroot_lq = 'val/lr'", "fill it")
    ),
]
LMDB_ROWS = [
    Row("LMDB without data", TRAIN, then(use_lmdb, at("train/hr.lmdb/data.mdb", Path.unlink)), ("no data.mdb", "gt")),
    Row(
        "LMDB without a list", TRAIN, then(use_lmdb, at("train/lr.lmdb/meta_info.txt", Path.unlink)), ("no meta_info",)
    ),
    Row("LMDB cut off", TRAIN, then(use_lmdb, at("train/hr.lmdb/data.mdb", cut)), ("dataroot_gt", "truncated", "copy")),
    Row(
        "LMDB of something else",
        TRAIN,
        then(use_lmdb, at("train/hr.lmdb/data.mdb", _text("no LMDB" * 9999))),
        ("dataroot_gt", "cannot be opened as an LMDB"),
    ),
    Row(
        "empty LMDB",
        TRAIN,
        then(use_lmdb, at("train/lr.lmdb/data.mdb", _text(""))),
        ("dataroot_lq", "data.mdb is empty"),
    ),
    Row(
        "LMDB whose list says more",
        TRAIN,
        then(use_lmdb, at("train/hr.lmdb/meta_info.txt", _text("other.png (48,48,3) 1\n"))),
        ("dataroot_gt", "no key 'other'", "make the LMDB again"),
    ),
    Row(
        "LMDBs of other names",
        TRAIN,
        then(use_lmdb, at("train/lr.lmdb/meta_info.txt", _text("img0.png (24,24,3) 1\n"))),
        ("5 keys are in one LMDB only", "make both"),
    ),
    Row("empty list of an LMDB", TRAIN, then(use_lmdb, at("train/hr.lmdb/meta_info.txt", _text(""))), ("is empty",)),
    Row(
        "folder for an LMDB", TRAIN, then(use_lmdb, change(data={"dataroot_gt": "train/hr"})), ("dataroot_gt", ".lmdb")
    ),
    Row("LMDB for a folder", TRAIN, change(data={"dataroot_gt": "train/hr.lmdb"}), ("dataroot_gt", "type: lmdb")),
]
BAD_FILES: tuple[tuple[str, str, Callable[[Path], object], tuple[str, ...]], ...] = (
    ("checkpoint that executes", "bad.pth", zip_that_executes, ("would run code", "trust")),
    ("old checkpoint that executes", "bad.pth", legacy_file_that_executes, ("would run code", "trust")),
    ("pickle that executes", "bad.pth", pickle_that_executes, ("could run code", "torch.save")),
    ("tar file that executes", "bad.pth", tar_that_executes, ("not", "download")),
    ("TorchScript program", "bad.pth", script, ("TorchScript", "state dict")),
    ("empty checkpoint", "bad.pth", Path.touch, ("is empty", "download")),
    ("truncated checkpoint", "bad.pth", lambda path: (weights(path), cut(path)), ("truncated or damaged", "again")),
    ("web page for a checkpoint", "bad.pth", _text(HTML), ("web page", "browser")),
    ("pointer for a checkpoint", "bad.pth", _text("version https://git-lfs.github.com/spec/v1\n"), ("git lfs pull",)),
    ("picture for a checkpoint", "bad.pth", lambda path: (picture(path.with_suffix(".png"), 8, 8),
     path.with_suffix(".png").rename(path)), ("picture",)),
    ("number for a checkpoint", "bad.pth", lambda path: torch.save(3, path), ("holds an int", "state_dict")),
    ("checkpoint of no weights", "bad.pth", lambda path: torch.save({"a": 1}, path), ("holds no weights", "params")),
    ("archive for a checkpoint", "bad.pth", lambda path: zipfile.ZipFile(path, "w").writestr("a", "b"), ("unpack it",)),
    ("truncated safetensors", "bad.safetensors", lambda path: (save_file({"a": torch.ones(99)}, path), cut(path)),
     ("truncated or damaged", "download")),
    ("training state for weights", "9.state", state_of(9), ("training state", "net_g")),
)  # fmt: skip
CHECKPOINT_ROWS = [
    Row("weights that are not there", TRAIN, change(path={"pretrain_network_g": "no.pth"}), ("network_g", "correct")),
    *(
        Row(what, command, then(prepare, start_from(name, make)), ("path:pretrain_network_g = ", *says))
        for what, name, make, says in BAD_FILES
        for command, prepare in ((TRAIN, nothing), (TEST, testing()))
    ),
    *(Row(what, f"rgt info {name}", at(name, make), (name, *says)) for what, name, make, says in BAD_FILES[:-1]),
    *(Row(what, f"rgt convert {name} c.pth", at(name, make), (name, *says)) for what, name, make, says in BAD_FILES),
    *(
        Row(what, f"rgt upscale val/lr -w {name}", at(name, make), (name, *says))
        for what, name, make, says in BAD_FILES[:8]
    ),
    Row(
        "weights of another size", TRAIN, start_from("w.pth", lambda path: weights(path, 12)), ("w.pth", "strict_load")
    ),
    Row("weights of another network", "rgt upscale val/lr -w w.pth", at("w.pth", weights), ("w.pth", "look like EDSR")),
    Row(
        "state dict where params are looked for",
        TRAIN,
        then(start_from("w.pth", lambda path: weights(path, key="")), change(model_type="SRModel")),
        ("path:param_key_g = 'params'", "set it to ~"),
    ),
    Row(
        "weights under no such name",
        TRAIN,
        then(start_from("w.pth", weights), change(path={"param_key_g": "parms"})),
        ("path:param_key_g = 'parms'", "holds params"),
    ),
]
STATE_ROWS = [
    Row("state that is not there", TRAIN, change(path={"resume_state": "9.state"}), ("resume_state", "correct")),
    *(
        Row(what, TRAIN, resume_from("old/training_states/9.state", in_folder(make)), ("9.state: ",), 1)
        for what, _, make, _ in BAD_FILES[:13]
    ),
    Row(
        "weights for a state",
        TRAIN,
        resume_from("w.pth", weights),
        ("w.pth: no BasicSR training state", "name another one"),
        1,
    ),
    Row(
        "state without its network",
        TRAIN,
        then(resume_from("old/training_states/9.state", state_of(9)), at("old/models/net_g_9.pth", Path.unlink)),
        ("net_g_9.pth: no such file", "name another one"),
        1,
    ),
    Row(
        "state with another one's network",
        TRAIN,
        then(
            resume_from("old/training_states/9.state", state_of(9)),
            at("old/models/net_g_9.pth", lambda path: weights(path, 12)),
        ),
        ("net_g_9.pth: does not fit EDSR", "network_g"),
    ),
    Row(
        "state of two optimisers",
        TRAIN,
        resume_from("old/training_states/9.state", state_of(9, optimizers=2)),
        ("9.state: is of 2 optimisers", "resume with the options"),
    ),
    Row(
        "restart and state",
        f"{TRAIN} --restart",
        resume_from("experiments/tiny/training_states/9.state", state_of(9)),
        ("--restart", "drop one"),
    ),
]
META_ROWS = [
    Row("list that is not there", TRAIN, change(data={"meta_info_file": "no.txt"}), ("meta_info_file", "correct")),
    *(
        Row(
            what, TRAIN, then(change(data={"meta_info_file": "m.txt"}), write("m.txt", text)), ("meta_info_file", *says)
        )
        for what, text, says in (
            ("empty list", "", ("is empty", "one image name a line")),
            ("empty line in a list", "img0.png\n\nimg1.png\n", ("line 2 is empty", "remove it")),
            ("image that a list alone has", "img0.png\nimg9.png\n", ("line 2", "img9.png", "correct it")),
            ("picture for a list", b"\x89PNG\r\n\x1a\n\0\0", ("is no text", "rgt prepare meta")),
        )
    ),
    Row(
        "pair that is none",
        TRAIN,
        then(
            change(data={"type": "RealESRGANPairedDataset", "meta_info": "m.txt"}),
            write("m.txt", "img0.png, img0.png\nimg1.png\n"),
        ),
        ("train:meta_info", "line 2", "correct it"),
    ),
    Row("folder for a list", TRAIN, change(data={"meta_info_file": "train"}), ("meta_info_file", "is a folder")),
]
ROWS = [*YAML_ROWS, *FLAG_ROWS, *IMAGE_ROWS, *LMDB_ROWS, *CHECKPOINT_ROWS, *STATE_ROWS, *META_ROWS]


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
    (testing if command == TEST else change)()(prepared)
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


@pytest.mark.parametrize("row", [FLAG_ROWS[5], CHECKPOINT_ROWS[1], CHECKPOINT_ROWS[-5]], ids=lambda row: row.what)
def test_processes_say_the_same(prepared: Project, row: Row) -> None:
    """A process started from a shell ends with the code and the words of the function, and changes nothing."""
    row.spoil(prepared)
    here = run(prepared.root, row.command)
    before = contents(prepared.root)
    process = prepared.start(*row.command.split())
    assert (process.returncode, process.stdout) == (here.code, here.out + here.err)
    assert contents(prepared.root) == before
