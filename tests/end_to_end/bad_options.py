"""Wrong values for option keys, made by rules from the tables behind `basicsr options`, and files to put them in;
and, in rows, option files that are none, and flags.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import rgt_arch  # noqa: F401 - makes BasicSR importable
from rgt_arch.config.classes import section_at
from rgt_arch.config.schema import Key
from rgt_arch.config.tables import TABLES, Table

from .bad_files import CANARY, TEST, TRAIN, Row, at, change, for_a_test, good, nothing, then, write
from .conftest import edsr_options

MISSING = object()
"""In the place of a value: the key is taken out."""
# A value of a wrong type for every kind of key. A new kind needs its own here: KeyError says so.
_WRONG: Mapping[str, Any] = {
    "text": [1],
    "path": 5,
    "integer": 1.5,
    "number": "fast",
    "boolean": "maybe",
    "section": 5,
    "list": 5,
    "numbers": ["a"],
    "integers": [1.5],
    "names": 5,
    "count or auto": "all",
}
_GAN = ("SRGANModel", "ESRGANModel", "RealESRGANModel")
_KERNELS = {
    "blur_kernel_size": 21,
    "kernel_list": ["iso", "aniso"],
    "kernel_prob": [0.5, 0.5],
    "blur_sigma": [0.2, 3],
    "betag_range": [0.5, 4],
    "betap_range": [1, 2],
    "sinc_prob": 0.1,
}


class Mistake(NamedTuple):
    """One key of an option file with a wrong value, or without one."""

    command: str
    """train or test."""
    options: dict[str, Any]
    """All options, without the mistake."""
    path: tuple[str, ...]
    value: Any
    says: str
    """What the message must hold, besides the key and the value."""

    @property
    def key(self) -> str:
        return ":".join(self.path)

    def spoilt(self) -> dict[str, Any]:
        """The options with the mistake."""
        options = section = _copy(self.options)
        for name in self.path[:-1]:
            section = section.setdefault(name, {})
        if self.value is MISSING:
            section.pop(self.path[-1], None)
        else:
            section[self.path[-1]] = self.value
        return options


def mistakes() -> list[Mistake]:
    """All wrong values of all documented keys."""
    return [mistake for table in TABLES for name in table.keys for mistake in mistakes_of(table, name)]


def mistakes_of(table: Table, name: str) -> list[Mistake]:
    """The wrong values of one documented key."""
    command, options, phase = options_for(table)
    path = tuple(phase if part == "*" else part for part in table.path)
    return [Mistake(command, options, (*path, name), value, says) for value, says in wrong_values(table.keys[name])]


def mistakes_in_arguments() -> list[Mistake]:
    """Wrong values of the arguments of classes that option files name, as far as their signatures tell types."""
    found = []
    for path, section in (
        (("network_g",), {"type": "RGT", "upscale": 2, "depth": [2], "embed_dim": 12, "num_heads": [2]}),
        (("train", "optim_g"), {"type": "Adam", "lr": 1e-3}),
        (("train", "scheduler"), {"type": "MultiStepLR", "milestones": [3], "gamma": 0.5}),
        (("train", "scheduler"), {"type": "CosineAnnealingRestartLR", "periods": [10]}),
        (("train", "pixel_opt"), {"type": "L1Loss"}),
        (("train", "pixel_opt"), {"type": "CharbonnierLoss"}),
        (("train", "perceptual_opt"), {"type": "PerceptualLoss", "layer_weights": {"conv5_4": 1}}),
        (("val", "metrics", "psnr"), {"type": "calculate_psnr", "crop_border": 2}),
        (("val", "metrics", "ssim"), {"type": "calculate_ssim", "crop_border": 2}),
    ):
        options = training_options()
        parent: dict[str, Any] = options
        for part in path[:-1]:
            parent = parent[part]
        parent[path[-1]] = section
        known = section_at(options, path)
        assert known is not None
        for name, key in known.keys.items():
            values = [("NoSuch", "")] if name == "type" else [] if key.kind == "any" else wrong_values(key)
            found += [Mistake("train", options, (*path, name), value, says) for value, says in values]
    return found


def wrong_values(key: Key) -> Iterator[tuple[Any, str]]:
    """A value of a wrong type, values out of range, and none at all, each with a word of its message."""
    in_list = key.kind in ("numbers", "integers", "names", "list")
    yield _WRONG[key.kind], "expected"
    if key.choices:
        yield (["nonsense"] if in_list else "nonsense"), key.choices[0]
    for limit, beyond in ((key.low, -1), (key.above, 0), (key.high, 1)):
        if limit is not None:
            value = math.floor(limit) + beyond
            yield (
                ([value] * (key.count or 1) if in_list else value),
                f"{limit:g}" if limit == int(limit) and limit < 1e6 else "expected",
            )
    if key.count is not None:
        yield [1] * (key.count + 1), f"a list of {key.count}"
    if key.kind == "path":
        yield "no/such/place", "no such"
    if not key.nullable:
        yield None, "not nothing"
    if key.required:
        yield MISSING, "is missing; "


def training_options() -> dict[str, Any]:
    """Options of a run on the CPU that `basicsr train` would take as they are."""
    options = edsr_options()
    options.update(model_type="RGTModel", num_gpu=0)
    return options


def options_for(table: Table) -> tuple[str, dict[str, Any], str]:
    """The command and the options that let a table's keys be read, and the data set to put them into."""
    options, owner = training_options(), table.owner
    train = options["datasets"]["train"]
    if table.path[:1] != ("datasets",):
        options["model_type"] = owner or "RGTModel"
        if owner in _GAN:
            options["network_d"] = {"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 8}
            options["train"]["optim_d"] = {"type": "Adam", "lr": 1e-4}
            options["train"]["gan_opt"] = {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1}
        if table.path == ("val", "tile"):
            options["val"]["tile"] = {"size": 32, "overlap": 4}
    elif owner == "SingleImageDataset":
        options["datasets"] = {
            "test_1": {"name": "one", "type": owner, "dataroot_lq": "val/lr", "io_backend": {"type": "disk"}}
        }
        options["val"] = {"save_img": True}
        return "test", options, "test_1"
    elif owner == "RealESRGANDataset":
        train.pop("dataroot_lq")
        train.update(type=owner, meta_info="names.txt", final_sinc_prob=0.8, **_KERNELS)
        train.update({f"{name}2": value for name, value in _KERNELS.items()})
    elif owner == "lmdb":
        train.update(dataroot_gt="train/hr.lmdb", dataroot_lq="train/lr.lmdb", io_backend={"type": "lmdb"})
    elif owner:
        train["type"] = owner
    return "train", options, "train"


def _copy(value: Any) -> Any:
    """Without what several sections share, so that YAML writes no aliases."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


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
    Row("key that BasicSR sets", TRAIN, change(path={"models": "x"}), ("path:models", "unknown key")),
    Row("training file in a test", TEST, good, ("datasets:train", "basicsr train")),
    Row(
        "test file in a training",
        TRAIN,
        then(for_a_test(), change(val={"val_freq": 1})),
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
    Row("unknown weights", "rgt upscale val/lr -w RGT_x5", nothing, ("RGT_x5", "names: RGT_x2")),
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
    Row("list of nothing", "rgt ablation list.yml", write("list.yml", "seeds: [1]\n"), ("list.yml: base is None",)),
    Row("network that is not there", "rgt complexity no.yml", nothing, ("no.yml: no such",)),
    Row("size that is none", "rgt complexity options.yml --sizes big", good, ("'big'", "128x128")),
    Row("run that is not there", "rgt figure curves nowhere -o c.png", nothing, ("nowhere", "no such")),
    Row("picture that is not there", "rgt figure features no.png -o f.png", nothing, ("no.png", "no such")),
    Row("picture that is not there", "rgt figure compare no.png bicubic -o c.png", nothing, ("no.png", "no such")),
    Row("iterations out of range", "rgt demo --iterations 0 -o out", nothing, ("--iterations", "0")),
    Row("unknown set of weights", "rgt table RGT_x5", nothing, ("RGT_x5",)),
]
OPTION_ROWS = [*YAML_ROWS, *FLAG_ROWS]
