"""Rows of bad option files, flags, images, LMDBs, checkpoints, training states and lists of images."""

from __future__ import annotations

import io
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

from ..conftest import MakesFolder
from .conftest import Project

TRAIN, TEST = "basicsr train -opt options.yml", "basicsr test -opt options.yml"
CANARY = "executed"
"""The folder that code in a file creates in the current directory, if it is executed."""
Spoil: TypeAlias = Callable[[Project], object]
Make: TypeAlias = Callable[[Path], object]


@dataclass(frozen=True)
class Row:
    """One mistake: its name, the command, the function that prepares the project, and parts of the message."""

    what: str
    command: str
    spoil: Spoil
    says: tuple[str, ...]
    code: int = 2


def in_training(what: str, spoil: Spoil, *says: str, flags: str = "", code: int = 2) -> Row:
    return Row(what, TRAIN + flags, spoil, says, code)


def in_test(what: str, spoil: Spoil, *says: str) -> Row:
    return Row(what, TEST, spoil, says)


def good(project: Project) -> None:
    project.write()


def write(name: str, content: str | bytes) -> Spoil:
    """Write a file of the project, and the option file unless it is that file."""

    def spoil(project: Project) -> None:
        if name != "options.yml":
            project.write()
        path = project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def change(**sections: Any) -> Spoil:
    """Change options. Sections are merged; `data` is merged into the training set."""

    def spoil(project: Project) -> None:
        for name, value in sections.items():
            if isinstance(value, dict):
                (project.options["datasets"]["train"] if name == "data" else project.options[name]).update(value)
            else:
                project.options[name] = value
        project.write()

    return spoil


def at(name: str, *steps: Make, first: Spoil = good) -> Spoil:
    """Call `steps` with a path of the project, after `first`."""

    def spoil(project: Project) -> None:
        first(project)
        for step in steps:
            step(project.root / name)

    return spoil


def then(*steps: Spoil) -> Spoil:
    """Call all steps in order."""

    def spoil(project: Project) -> None:
        for step in steps:
            step(project)

    return spoil


def zip_that_executes(path: Path) -> None:
    torch.save({"params": {"weight": MakesFolder(CANARY)}}, path)


def legacy_file_that_executes(path: Path) -> None:
    torch.save({"params": MakesFolder(CANARY)}, path, _use_new_zipfile_serialization=False)


def pickle_that_executes(path: Path) -> None:
    path.write_bytes(pickle.dumps(MakesFolder(CANARY)))


def tar_that_executes(path: Path) -> None:
    """The layout of PyTorch before 0.1.10, whose storages are pickled."""
    with tarfile.open(path, "w") as archive:
        content = pickle.dumps(MakesFolder(CANARY))
        member = tarfile.TarInfo("storages")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def script(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)


def weights(path: Path, features: int = 8, key: str = "params") -> None:
    """Weights of an EDSR. With 8 features they fit the options."""
    from basicsr.archs.edsr_arch import EDSR

    state = EDSR(3, 3, num_feat=features, num_block=1, upscale=2).state_dict()
    torch.save({key: state} if key else state, path)


def wider(path: Path) -> None:
    weights(path, 12)


def state_of(iteration: int, optimizers: int = 1) -> Make:
    """A training state, and its network in the models folder beside it."""

    def save(path: Path) -> None:
        models = path.parent.parent / "models"
        for folder in (path.parent, models):
            folder.mkdir(parents=True, exist_ok=True)
        torch.save({"epoch": 0, "iter": iteration, "optimizers": [{}] * optimizers, "schedulers": [{}]}, path)
        weights(models / f"net_g_{iteration}.pth")

    return save


def cut(path: Path, keep: float = 0.5) -> None:
    """Truncate a file to half its size."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def picture(path: Path, height: int = 8, width: int = 8) -> None:
    path.write_bytes(cv2.imencode(".png", np.full((height, width, 3), 90, np.uint8))[1].tobytes())


def empty_folder(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)


def text(content: str) -> Make:
    return lambda path: path.write_text(content)


def use_lmdb(project: Project) -> None:
    """Train from LMDBs."""
    change(data={f"dataroot_{k}": f"train/{n}.lmdb" for k, n in (("gt", "hr"), ("lq", "lr"))})(project)
    change(data={"io_backend": {"type": "lmdb"}})(project)


def start_from(name: str, *make: Make) -> Spoil:
    return at(name, *make, first=change(path={"pretrain_network_g": name}))


STATE = "old/training_states/9.state"


def resume_from(name: str, *make: Make) -> Spoil:
    def folder(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)

    return at(name, folder, *make, first=change(path={"resume_state": name}))


def for_a_test(project: Project) -> None:
    """Options of a test of single images."""
    data_set = {"name": "one", "type": "SingleImageDataset", "dataroot_lq": "val/lr", "io_backend": {"type": "disk"}}
    project.options["datasets"] = {"test_1": data_set}
    project.options["val"] = {"save_img": True}
    project.write()


HTML = "<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title></html>"
YAML_ROWS = [
    in_training("empty option file", write("options.yml", ""), "options.yml: is empty", "see options/"),
    in_training("YAML nested deeply", write("options.yml", "[" * 5000), "options.yml", "fewer levels"),
    *(
        row(f"YAML with {tag}", write("options.yml", f"name: {tag} [{CANARY}]\n"), "options.yml:1", "tag")
        for row in (in_training, in_test)
        for tag in ("!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!mine")
    ),
    in_training("YAML with a Python name", write("options.yml", "name: !!python/name:os.mkdir\n"), ":1: ", "tag"),
    in_training("misspelt key", change(train={"totl_iter": 3}), "train:totl_iter", "did you mean total_iter?"),
    in_training(
        "key of another model",
        change(model_type="SRModel", train={"amp": "bf16"}),
        *("train:amp", "model_type: RGTModel"),
    ),
    in_training("key that BasicSR sets", change(path={"models": "x"}), "path:models"),
    in_test("training file in a test", good, "datasets:train", "basicsr train"),
    in_training(
        "test file in a training",
        then(for_a_test, change(val={"val_freq": 1})),
        *("datasets:train", "basicsr test"),
    ),
    in_training("name that leaves its folder", change(name="../x"), ":1: name = '../x'", "letters, digits"),
]
COMMAND_ROWS = [
    Row(what, command, good, tuple(says))
    for what, command, *says in (
        ("option file that is not there", "basicsr train -opt nowhere.yml", "nowhere.yml: no such", "correct the path"),
        ("folder for an option file", "basicsr train -opt train", "train: cannot be read", "correct the path"),
        ("picture for an option file", "basicsr train -opt val/lr/img0.png", "img0.png: not UTF-8", "save"),
        ("no command", "basicsr", "train|test|options"),
        ("unknown command", "basicsr trian", "'trian'", "train"),
        ("no option file", "basicsr train", "-opt"),
        ("unknown flag", f"{TRAIN} --amp", "--amp"),
        ("unknown launcher", f"{TRAIN} --launcher mpi", "'mpi'", "pytorch"),
        ("launcher without torchrun", f"{TRAIN} --launcher pytorch", "RANK", "torchrun"),
        ("launcher without srun", f"{TRAIN} --launcher slurm", "SLURM_PROCID", "srun"),
        ("two ways to begin", f"{TRAIN} --auto_resume --restart", "--restart", "not allowed with"),
        ("rank that is no number", f"{TRAIN} --local_rank first", "--local", "'first'"),
        ("override without a value", f"{TRAIN} --force_yml scale", "--force_yml scale", "section:key=value"),
        ("override of no key", f"{TRAIN} --force_yml train:lr=1", "train:lr", "unknown key"),
        ("override in no section", f"{TRAIN} --force_yml name:x=1", "name", "not a section"),
        ("override of a wrong type", f"{TRAIN} --force_yml scale=two", "scale = 'two'", "whole number"),
        ("override that executes", f"{TRAIN} --force_yml name=!!python/name:os.mkdir", "name = '!!python"),
        ("override that executes", f"{TRAIN} --force_yml scale=!!python/name:os.mkdir", "scale=", "tag"),
        ("override, not YAML", f"{TRAIN} --force_yml train:optim_g:betas=[0.9", "betas=[0.9", "brackets"),
        ("module that is not there", f"{TRAIN} --import gone", "--import gone: ModuleNotFoundError", "importable"),
        ("no command", "rgt", "COMMAND"),
        ("unknown command", "rgt enlarge", "'enlarge'", "upscale"),
        ("nothing to enlarge", "rgt upscale", "INPUT"),
        ("picture that is not there", "rgt upscale no.png", "no.png", "no such"),
        ("tile of no size", "rgt upscale val/lr -t many", "--tile", "many"),
        ("quality out of range", "rgt upscale val/lr --quality 0", "--quality is 0", "1 to 100"),
        ("factor out of range", "rgt upscale val/lr -s -1", "--outscale is -1", "above 0"),
        ("unknown weights", "rgt upscale val/lr -w RGT_x5", "RGT_x5", "names: RGT_x2"),
        ("unknown device", "rgt upscale val/lr --device tpu", "tpu", "cpu"),
        ("file name for many outputs", "rgt upscale val/lr -o one.png", "-o one.png", "name a folder"),
        ("format that cannot be written", "rgt upscale val/lr/img0.png -o one.xyz", "one.xyz", ".xyz"),
        ("folder for a checkpoint", "rgt info train", "train: is a folder", "checkpoint"),
        ("no output", "rgt convert a.pth", "output"),
        ("output of no format", "rgt convert RGT_T_x2 a.onnx", "a.onnx", ".safetensors"),
        ("argument without a value", "rgt convert RGT_T_x2 b.pth --set hai", "--set hai", "ARGUMENT=VALUE"),
        ("folder that is not there", "rgt prepare lr nowhere", "nowhere", "no such"),
        ("folder that is not there", "rgt prepare subimages nowhere -o out", "nowhere", "no such"),
        ("folder that is not there", "rgt prepare meta nowhere -o out.txt", "nowhere", "no such"),
        ("folder that is not there", "rgt prepare lmdb nowhere", "nowhere", "no such"),
        ("folder that is not there", "rgt prepare check nowhere", "nowhere", "no such"),
        ("scale out of range", "rgt prepare lr val/hr --scale 1", "--scale", "choose from"),
        ("LMDB of another name", "rgt prepare lmdb val/hr -o hr.db", "hr.db", ".lmdb"),
        ("no processes", "rgt prepare lr val/hr -j 0", "--jobs", "'0'"),
        ("compression out of range", "rgt prepare lmdb val/lr --compression 10", "--compression is 10", "0"),
        ("list that is not there", "rgt ablation no.yml", "no.yml: no such"),
        ("network that is not there", "rgt complexity no.yml", "no.yml: no such"),
        ("size that is none", "rgt complexity options.yml --sizes big", "'big'", "128x128"),
        ("run that is not there", "rgt figure curves nowhere -o c.png", "nowhere", "no such"),
        ("picture that is not there", "rgt figure features no.png -o f.png", "no.png", "no such"),
        ("picture that is not there", "rgt figure compare no.png bicubic -o c.png", "no.png", "no such"),
        ("iterations out of range", "rgt demo --iterations 0 -o out", "--iterations", "0"),
        ("unknown set of weights", "rgt table RGT_x5", "RGT_x5"),
    )
]
FLAG_ROWS = [
    *COMMAND_ROWS,
    in_training("module that fails", write("failing.py", "1 / 0\n"), "ZeroDivisionError", flags=" --import failing"),
    Row("output that exists", "rgt convert RGT_T_x2 a.pth", write("a.pth", "x"), ("a.pth: exists", "--overwrite")),
    Row("LMDB over something else", "rgt prepare lmdb val/hr -o val/hr.lmdb", at("val/hr.lmdb/x", Path.touch), ("x",)),
    Row("list of nothing", "rgt ablation l.yml", write("l.yml", "seeds: [1]\n"), ("l.yml: base is None",)),
]
IMAGE_ROWS = [
    in_training("text for an image", write("train/hr/img0.png", "x"), "dataroot_gt", "img0.png", "replace"),
    in_training("text for an image", write("val/lr/img0.png", "x"), "val:dataroot_lq", "img0.png", "replace"),
    in_training("empty image", write("train/lr/img1.png", ""), "dataroot_lq", "img1.png", "replace"),
    in_training("truncated image", at("train/hr/img2.png", cut), "dataroot_gt", "img2.png", "replace"),
    in_training("no image of the HR image", at("train/lr/img3.png", Path.unlink), "img3.png", "add or rem"),
    in_training("image of another size", at("train/lr/img0.png", lambda path: picture(path, 20, 24)), "img0.png"),
    in_training("images below the patch", change(data={"gt_size": 64}), "train:gt_size", "48 or less"),
    in_training("patch of no whole pixels", change(data={"gt_size": 33}), "train:gt_size = 33", "take 32"),
    in_training("file among the images", write("train/hr/notes.txt", "x"), "dataroot_gt", "notes.txt", "move it away"),
    in_training("empty folder", at("train/lr", empty_folder), "train:dataroot_lq = 'train/lr'", "fill it"),
    in_training("file for a folder", change(data={"dataroot_gt": "train/hr/img0.png"}), "dataroot_gt", "is a file"),
    in_training("template of nothing", change(data={"filename_tmpl": "x2"}), "filename_tmpl = 'x2'", "'{}x4'"),
    in_test("text for an image", at("val/lr/img0.png", text("x"), first=for_a_test), "test_1:dataroot_lq", "img0.png"),
    in_test("truncated image", at("val/lr/img1.png", cut, first=for_a_test), "test_1:dataroot_lq", "img1.png"),
    in_test("empty folder", at("val/lr", empty_folder, first=for_a_test), "test_1:dataroot_lq = 'val/lr'", "fill it"),
]
LMDB_ROWS = [
    *(
        in_training(what, at(f"train/{file}", make, first=use_lmdb), *says)
        for what, file, make, *says in (
            ("LMDB without data", "hr.lmdb/data.mdb", Path.unlink, "no data.mdb", "gt"),
            ("LMDB without a list", "lr.lmdb/meta_info.txt", Path.unlink, "no meta_info"),
            ("LMDB cut off", "hr.lmdb/data.mdb", cut, "dataroot_gt", "truncated", "copy"),
            ("no LMDB", "hr.lmdb/data.mdb", text("no LMDB" * 9999), "dataroot_gt", "cannot be opened as an LMDB"),
            ("empty LMDB", "lr.lmdb/data.mdb", text(""), "dataroot_lq", "data.mdb is empty"),
            ("longer list", "hr.lmdb/meta_info.txt", text("x.png (48,48,3) 1\n"), "gt", "no key 'x'", "make the LMDB"),
            ("other names", "lr.lmdb/meta_info.txt", text("img0.png (24,24,3) 1\n"), "5 keys are in one", "make both"),
            ("empty list of an LMDB", "hr.lmdb/meta_info.txt", text(""), "is empty"),
        )
    ),
    in_training("folder for an LMDB", then(use_lmdb, change(data={"dataroot_gt": "train/hr"})), "dataroot_gt", ".lmdb"),
    in_training("LMDB for a folder", change(data={"dataroot_gt": "train/hr.lmdb"}), "dataroot_gt", "type: lmdb"),
]
TRAINING_STATE = "training state for weights"
# Name of the mistake, file name, functions that write the file, parts of the message.
BAD_CHECKPOINTS: tuple[Any, ...] = (
    ("checkpoint that executes", "bad.pth", [zip_that_executes], "would run code", "trust"),
    ("old checkpoint that executes", "bad.pth", [legacy_file_that_executes], "would run code", "trust"),
    ("pickle that executes", "bad.pth", [pickle_that_executes]),
    ("tar file that executes", "bad.pth", [tar_that_executes], "not", "download"),
    ("TorchScript program", "bad.pth", [script], "TorchScript", "state dict"),
    ("empty checkpoint", "bad.pth", [Path.touch], "is empty", "download"),
    ("truncated checkpoint", "bad.pth", [weights, cut], "truncated or damaged", "again"),
    ("web page for a checkpoint", "bad.pth", [text(HTML)], "web page", "browser"),
    ("pointer for a checkpoint", "bad.pth", [text("version https://git-lfs.github.com/spec/v1\n")], "git lfs pull"),
    ("picture for a checkpoint", "bad.pth", [picture], "not a PyTorch checkpoint"),
    ("number for a checkpoint", "bad.pth", [lambda path: torch.save(3, path)], "int", "state_dict"),
    ("checkpoint of no weights", "bad.pth", [lambda path: torch.save({"a": 1}, path)], "holds no weights", "params"),
    ("archive", "bad.pth", [lambda path: zipfile.ZipFile(path, "w").writestr("a", "b")]),
)
BAD_WEIGHTS: tuple[Any, ...] = (
    *BAD_CHECKPOINTS,
    (
        "safetensors",
        "x.safetensors",
        [lambda path: save_file({"a": torch.ones(99)}, path), cut],
        "truncated or damaged",
    ),
    (TRAINING_STATE, "9.state", [state_of(9)], "training state", "net_g"),
)
COMMANDS_WITH_WEIGHTS = ("rgt info {}", "rgt convert {} c.pth", "rgt upscale val/lr -w {}")
CHECKPOINT_ROWS = [
    in_training("weights that are not there", change(path={"pretrain_network_g": "no.pth"}), "network_g", "correct"),
    *(
        row(what, then(prepare, start_from(name, *make)), "path:pretrain_network_g = ", *says)
        for what, name, make, *says in BAD_WEIGHTS
        for row, prepare in ((in_training, good), (in_test, for_a_test))
    ),
    *(
        Row(what, command.format(name), at(name, *make), (name, *says))
        for what, name, make, *says in BAD_WEIGHTS
        for command in COMMANDS_WITH_WEIGHTS[what == TRAINING_STATE :]  # `rgt info` accepts it
    ),
    in_training("weights of another size", start_from("w.pth", wider), "w.pth", "strict_load"),
    Row("weights of another network", "rgt upscale val/lr -w w.pth", at("w.pth", weights), ("w.pth", "look like EDSR")),
    in_training(
        "state dict where params are looked for",
        then(start_from("w.pth", lambda path: weights(path, key="")), change(model_type="SRModel")),
        *("path:param_key_g = 'params'", "name one of them"),
    ),
    in_training(
        "weights under no such name",
        then(start_from("w.pth", weights), change(path={"param_key_g": "parms"})),
        *("path:param_key_g = 'parms'", "holds params"),
    ),
]
OWN_STATE = "experiments/tiny/training_states/9.state"
NET = "old/models/net_g_9.pth"
STATE_ROWS = [
    in_training("state that is not there", change(path={"resume_state": "9.state"}), "resume_state", "correct"),
    *(
        in_training(f"{what}, as a state", resume_from(STATE, *make), "9.state: ", code=1)
        for what, _, make, *_ in BAD_CHECKPOINTS
    ),
    in_training("weights for a state", resume_from("w.pth", weights), "w.pth: is not a BasicSR training state", code=1),
    in_training(
        "state without its network",
        then(resume_from(STATE, state_of(9)), lambda project: (project.root / NET).unlink()),
        *("net_g_9.pth: no such file", "name another one"),
        code=1,
    ),
    in_training(
        "state with another one's network",
        then(resume_from(STATE, state_of(9)), lambda project: wider(project.root / NET)),
        *("net_g_9.pth: does not fit EDSR", "network_g"),
    ),
    in_training(
        "state of two optimisers", resume_from(STATE, state_of(9, 2)), "9.state: holds 2 optimisers", "resume with"
    ),
    in_training("restart and state", resume_from(OWN_STATE, state_of(9)), "--restart", "drop one", flags=" --restart"),
]
META_ROWS = [
    in_training("list that is not there", change(data={"meta_info_file": "no.txt"}), "meta_info_file", "correct"),
    *(
        in_training(
            what, then(change(data={"meta_info_file": "m.txt"}), write("m.txt", lines)), "meta_info_file", *says
        )
        for what, lines, *says in (
            ("empty list", "", "is empty", "one image name a line"),
            ("empty line in a list", "img0.png\n\nimg1.png\n", "line 2 is empty", "remove it"),
            ("image that a list alone has", "img0.png\nimg9.png\n", "line 2", "img9.png", "correct it"),
            ("picture for a list", b"\x89PNG\r\n\x1a\n\0\0", "is not text", "rgt prepare meta"),
        )
    ),
    in_training(
        "pair that is none",
        then(
            change(data={"type": "RealESRGANPairedDataset", "meta_info": "m.txt"}),
            write("m.txt", "img0.png, img0.png\nimg1.png\n"),
        ),
        *("train:meta_info", "line 2", "correct it"),
    ),
    in_training("folder for a list", change(data={"meta_info_file": "train"}), "meta_info_file", "is a folder"),
]
ROWS = [*YAML_ROWS, *FLAG_ROWS, *IMAGE_ROWS, *LMDB_ROWS, *CHECKPOINT_ROWS, *STATE_ROWS, *META_ROWS]
