"""Bad images, LMDBs, checkpoints, training states and lists of images, in rows, and what makes them."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from safetensors.torch import save_file

from .conftest import Project

TRAIN, TEST = "basicsr train -opt options.yml", "basicsr test -opt options.yml"
CANARY = "executed"
"""What code in a file would leave in the current directory."""


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


def for_a_test(**data: Any) -> Callable[[Project], object]:
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
    Row(
        "text for an image", TEST, then(for_a_test(), write("val/lr/img0.png", "x")), ("test_1:dataroot_lq", "img0.png")
    ),
    Row("truncated image", TEST, then(for_a_test(), at("val/lr/img1.png", cut)), ("test_1:dataroot_lq", "img1.png")),
    Row(
        "empty folder",
        TEST,
        then(for_a_test(), at("val/lr", empty_folder)),
        ("test_1:dataroot_lq = 'val/lr'", "fill it"),
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
TRAINING_STATE = "training state for weights"
BadFile: TypeAlias = tuple[str, str, Callable[[Path], object], tuple[str, ...]]
"""What it is, its name, what makes it, and what must be said."""
BAD_CHECKPOINTS: tuple[BadFile, ...] = (
    ("checkpoint that executes", "bad.pth", zip_that_executes, ("would run code", "trust")),
    ("old checkpoint that executes", "bad.pth", legacy_file_that_executes, ("would run code", "trust")),
    ("pickle that executes", "bad.pth", pickle_that_executes, ("not a PyTorch checkpoint", "download")),
    ("tar file that executes", "bad.pth", tar_that_executes, ("not", "download")),
    ("TorchScript program", "bad.pth", script, ("TorchScript", "state dict")),
    ("empty checkpoint", "bad.pth", Path.touch, ("is empty", "download")),
    ("truncated checkpoint", "bad.pth", lambda path: (weights(path), cut(path)), ("truncated or damaged", "again")),
    ("web page for a checkpoint", "bad.pth", _text(HTML), ("web page", "browser")),
    ("pointer for a checkpoint", "bad.pth", _text("version https://git-lfs.github.com/spec/v1\n"), ("git lfs pull",)),
    ("picture for a checkpoint", "bad.pth", lambda path: (picture(path.with_suffix(".png"), 8, 8),
     path.with_suffix(".png").rename(path)), ("not a PyTorch checkpoint",)),
    ("number for a checkpoint", "bad.pth", lambda path: torch.save(3, path), ("of type int", "state_dict")),
    ("checkpoint of no weights", "bad.pth", lambda path: torch.save({"a": 1}, path), ("holds no weights", "params")),
    ("archive for a checkpoint", "bad.pth", lambda path: zipfile.ZipFile(path, "w").writestr("a", "b"), ("damaged",)),
)  # fmt: skip
BAD_WEIGHTS: tuple[BadFile, ...] = (
    *BAD_CHECKPOINTS,
    ("truncated safetensors", "bad.safetensors", lambda path: (save_file({"a": torch.ones(99)}, path), cut(path)),
     ("truncated or damaged", "download")),
    (TRAINING_STATE, "9.state", state_of(9), ("training state", "net_g")),
)  # fmt: skip
CHECKPOINT_ROWS = [
    Row("weights that are not there", TRAIN, change(path={"pretrain_network_g": "no.pth"}), ("network_g", "correct")),
    *(
        Row(what, command, then(prepare, start_from(name, make)), ("path:pretrain_network_g = ", *says))
        for what, name, make, says in BAD_WEIGHTS
        for command, prepare in ((TRAIN, nothing), (TEST, for_a_test()))
    ),
    *(
        Row(what, f"rgt info {name}", at(name, make), (name, *says))
        for what, name, make, says in BAD_WEIGHTS
        if what != TRAINING_STATE  # which it shows
    ),
    *(Row(what, f"rgt convert {name} c.pth", at(name, make), (name, *says)) for what, name, make, says in BAD_WEIGHTS),
    *(
        Row(what, f"rgt upscale val/lr -w {name}", at(name, make), (name, *says))
        for what, name, make, says in BAD_WEIGHTS
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
        Row(
            f"{what}, as a state", TRAIN, resume_from("old/training_states/9.state", in_folder(make)), ("9.state: ",), 1
        )
        for what, _, make, _ in BAD_CHECKPOINTS
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
        ("9.state: is of 2 optimisers", "resume with its own options"),
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
            ("picture for a list", b"\x89PNG\r\n\x1a\n\0\0", ("is not text", "rgt prepare meta")),
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
FILE_ROWS = [*IMAGE_ROWS, *LMDB_ROWS, *CHECKPOINT_ROWS, *STATE_ROWS, *META_ROWS]
