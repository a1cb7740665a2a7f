"""Wrong values of every key in the tables of `basicsr options` are one-line errors."""

from __future__ import annotations

import copy
import functools
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from rgt_arch.config.classes import section_at
from rgt_arch.config.schema import Key
from rgt_arch.config.tables import DEGRADATION, KERNELS, REAL_ONLY, TABLES, Table, table_title
from rgt_arch.data.inspect.targets import validate_options
from rgt_arch.errors import UsageError

from .conftest import Project, edsr_options

MISSING = object()
"""In place of a value: remove the key."""
# A value of a wrong type for every kind of key. A new kind without an entry here raises KeyError.
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
_USM = ("l1_gt_usm", "percep_gt_usm", "gan_gt_usm")
_GAN = ("SRGANModel", "ESRGANModel", "RealESRGANModel", "RealRGTGANModel")
SECTIONS = [
    (("network_g",), {"type": "RGT", "upscale": 2, "depth": [2], "embed_dim": 12, "num_heads": [2]}),
    (("train", "optim_g"), {"type": "Adam", "lr": 1e-3}),
    (("train", "scheduler"), {"type": "MultiStepLR", "milestones": [3], "gamma": 0.5}),
    (("train", "scheduler"), {"type": "CosineAnnealingRestartLR", "periods": [10]}),
    (("train", "pixel_opt"), {"type": "L1Loss"}),
    (("train", "pixel_opt"), {"type": "CharbonnierLoss"}),
    (("train", "perceptual_opt"), {"type": "PerceptualLoss", "layer_weights": {"conv5_4": 1}}),
    (("val", "metrics", "psnr"), {"type": "calculate_psnr", "crop_border": 2}),
    (("val", "metrics", "ssim"), {"type": "calculate_ssim", "crop_border": 2}),
]


def wrong_values(key: Key) -> Iterator[tuple[Any, str]]:
    """A value of a wrong type, values out of range, and a missing value, each with a part of the message."""
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
        yield None, "is empty"
    if key.required:
        yield MISSING, "is missing; "


def training_options() -> dict[str, Any]:
    """Valid options of a run on the CPU."""
    return {**edsr_options(), "model_type": "RGTModel", "num_gpu": 0}


def use_degradations(options: dict[str, Any], model: str) -> None:
    """Make the LR images in the model."""
    options.update({name: DEGRADATION[name].default for name in REAL_ONLY})
    options.update(model_type=model, gt_size=128, queue_size=16)
    options.update(dict.fromkeys(_USM if "GAN" in model else ("gt_usm",), True))
    train = options["datasets"]["train"]
    train.pop("dataroot_lq")
    kernels = {name: key.default for name, key in KERNELS.items()}
    train.update(type="RealESRGANDataset", meta_info="names.txt", **kernels)


def options_for(table: Table) -> tuple[dict[str, Any], str]:
    """Options that use the keys of a table, and the phase of their data set."""
    options, owner = training_options(), table.owner
    train = options["datasets"]["train"]
    if table.path[:1] != ("datasets",):
        options["model_type"] = owner or "RGTModel"
        if owner in _GAN:
            options["network_d"] = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 8}
            options["train"]["optim_d"] = {"type": "Adam", "lr": 1e-4}
            options["train"]["gan_opt"] = {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1}
        if table.path == ("val", "tile"):
            options["val"]["tile"] = {"size": 32, "overlap": 4}
        if owner.startswith("Real"):
            use_degradations(options, owner)
    elif owner == "SingleImageDataset":
        options["datasets"] = {
            "test_1": {"name": "one", "type": owner, "dataroot_lq": "val/lr", "io_backend": {"type": "disk"}}
        }
        options["val"] = {"save_img": True}
        return options, "test_1"
    elif owner == "RealESRGANDataset":
        use_degradations(options, "RealESRNetModel")
    elif owner == "lmdb":
        train.update(dataroot_gt="train/hr.lmdb", dataroot_lq="train/lr.lmdb", io_backend={"type": "lmdb"})
    elif owner:
        train["type"] = owner
        if owner == "BicubicDataset":
            del train["dataroot_lq"]
    return options, "train"


def spoilt(options: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy of the options with one wrong value."""
    options = section = copy.deepcopy(options)
    for name in path[:-1]:
        section = section.setdefault(name, {})
    if value is MISSING:
        section.pop(path[-1], None)
    else:
        section[path[-1]] = value
    return options


@pytest.fixture(scope="module")
def root(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the files that options name."""
    root = tmp_path_factory.mktemp("shared")
    shutil.copytree(photographs, root, dirs_exist_ok=True)
    (root / "names.txt").write_text("".join(f"img{index}.png\n" for index in range(6)))
    return root


@pytest.fixture
def check(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """check(options, path, keys): the options are valid, and every wrong value of a key is reported in one line."""
    monkeypatch.chdir(root)
    monkeypatch.setenv("TORCH_HOME", str(root))
    (root / "hub/checkpoints").mkdir(parents=True, exist_ok=True)
    (root / "hub/checkpoints/vgg19-dcbb9e9d.pth").touch()

    def check(options: dict[str, Any], path: tuple[str, ...], keys: Mapping[str, Key]) -> None:
        is_train = "train" in options["datasets"]
        validate = functools.partial(validate_options, file="options.yml", is_train=is_train, root=root)
        validate(copy.deepcopy(options))
        for name, key in keys.items():
            values = [("NoSuch", "")] if name == "type" and path[:1] != ("datasets",) else [*wrong_values(key)]
            assert values
            for value, says in values:
                where = ":".join((*path, name))
                with pytest.raises(UsageError) as refusal:
                    validate(spoilt(options, (*path, name), value))
                message = str(refusal.value)
                assert message.startswith("options.yml:"), message
                assert "\n" not in message
                assert where in message
                assert says in message, where
                assert "..." not in message, "a remedy that leaves the reader to guess"
                if isinstance(value, (str, int, float, list)):
                    assert f"{where} = {value!r}" in message

    return check


@pytest.mark.parametrize("table", TABLES, ids=table_title)
def test_wrong_values_of_every_documented_key_are_refused(check: Callable[..., None], table: Table) -> None:
    options, phase = options_for(table)
    check(options, tuple(phase if part == "*" else part for part in table.path), table.keys)


@pytest.mark.parametrize(("path", "section"), SECTIONS, ids=lambda part: part["type"] if "type" in part else part[-1])
def test_wrong_arguments_of_classes_are_refused(
    check: Callable[..., None], path: tuple[str, ...], section: dict[str, Any]
) -> None:
    """For arguments whose types are known from signatures."""
    options = spoilt(training_options(), path, section)
    known = section_at(options, path)
    assert known is not None
    check(options, path, {name: key for name, key in known.keys.items() if name == "type" or key.kind != "any"})


def test_the_command_refuses_what_the_check_refuses(project: Project) -> None:
    """With the line number; no file is created."""
    before = sorted(project.root.rglob("*"))
    project.options = spoilt(training_options(), ("train", "total_iter"), 0)
    text = yaml.safe_dump(project.options, sort_keys=False)
    line = text.splitlines().index("  total_iter: 0") + 1
    printed = project.start("basicsr", "train", "-opt", project.write(), code=2)
    assert f"error: options.yml:{line}: train:total_iter = 0" in printed
    assert sorted(project.root.rglob("*")) == sorted([*before, project.root / "options.yml"])
