"""Option files of this and other projects, with tiny data folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rgt_arch.config.classes import find_class
from rgt_arch.config.loading import load_options, read_written
from rgt_arch.config.overrides import apply_overrides
from rgt_arch.config.problems import Report
from rgt_arch.config.validation import check_options
from rgt_arch.data.inspect.targets import validate_options
from rgt_arch.data.lmdb import create_lmdb_of_folder
from rgt_arch.errors import UsageError

OPTIONS = Path(__file__).parents[2] / "options"
LAYOUTS = Path(__file__).parent / "layouts"
NAMES = ("0001", "baby")
GONE = object()
"""In place of a value: remove the key."""


def write_image(path: Path, height: int, width: int) -> Path:
    """Write a grey image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(path)
    return path


def make_data(opt: dict[str, Any], root: Path) -> None:
    """Create under `root` every folder, LMDB, meta-info and weight file that the options name."""
    for data in opt["datasets"].values():
        scale, template = opt["scale"], data.get("filename_tmpl", "{}")
        side = data.get("gt_size", 12 * scale)
        for key, size in (("dataroot_gt", side), ("dataroot_lq", side // scale)):
            if key not in data:
                continue
            folder, is_lq = root / data[key], key == "dataroot_lq"
            if data["io_backend"]["type"] == "lmdb":
                if not folder.exists():
                    for name in NAMES:
                        write_image(root / f"{size}/{name}.png", size, size)
                    create_lmdb_of_folder(root / f"{size}", folder)
                continue
            for name in NAMES:
                write_image(folder / f"{template.format(name) if is_lq else name}.png", size, size)
        meta_info = data.get("meta_info_file") or data.get("meta_info")
        if meta_info:
            meta = root / meta_info
            meta.parent.mkdir(parents=True, exist_ok=True)
            meta.write_text("".join(f"{name}.png ({side},{side},3)\n" for name in NAMES))
    if "perceptual_opt" in opt.get("train", {}):
        (root / "experiments/pretrained_models").mkdir(parents=True)
        (root / "experiments/pretrained_models/vgg19-dcbb9e9d.pth").touch()
    for key, value in opt["path"].items():
        if value and key.startswith("pretrain"):
            (root / value).parent.mkdir(parents=True, exist_ok=True)
            label = key.rpartition("_")[2]
            write_weights(root / value, opt[f"network_{label}"], opt["path"].get(f"param_key_{label}") or "params")


def write_weights(path: Path, network: dict[str, Any], param_key: str) -> None:
    """Write a checkpoint of a few kilobytes for a network of any size: a tensor stores one value, which it repeats."""
    arguments = {key: value for key, value in network.items() if key not in ("type", "upsampler")}
    state = find_class("arch", network["type"])(**arguments).state_dict()
    torch.save({param_key: {key: torch.zeros(()).expand(tensor.shape) for key, tensor in state.items()}}, path)


class OptionFile:
    """A copy of an option file, to be edited and checked without the data and the weights that it names."""

    def __init__(self, root: Path, source: Path = OPTIONS / "train_RGT_T_x2.yml") -> None:
        self.root = root
        self.is_train = not source.name.startswith("test")
        self.file = root / source.name
        self.file.write_text(source.read_text())

    def edit(self, old: str, new: str) -> OptionFile:
        """Replace text that occurs exactly once in the file."""
        text = self.file.read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {self.file.name}"
        self.file.write_text(text.replace(old, new))
        return self

    def options(self, *overrides: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the options before the checks. changes: values, or GONE, by key such as `train:total_iter`."""
        opt = load_options(self.file)
        for key, value in (changes or {}).items():
            *parents, name = key.split(":")
            section = reduce(dict.__getitem__, parents, opt)
            section.pop(name) if value is GONE else section.update({name: deepcopy(value)})
        apply_overrides(opt, overrides)
        return opt

    def validate(self, *overrides: str, **changed: Any) -> tuple[dict[str, Any], list[str]]:
        """Return the options after the checks, and the warnings; the arguments are those of `options`."""
        opt, report = self.options(*overrides, **changed), Report(str(self.file), read_written(self.file))
        check_options(opt, report, is_train=self.is_train)
        report.raise_errors()
        return opt, report.warnings

    def warning(self, *overrides: str, **changed: Any) -> str:
        """Return the only warning."""
        (warning,) = self.validate(*overrides, **changed)[1]
        return warning

    def errors(self, *overrides: str, **changed: Any) -> list[str]:
        """Return the lines of the error that the checks raise, without the heading and the folder."""
        with pytest.raises(UsageError) as caught:
            self.validate(*overrides, **changed)
        lines = [line.strip().replace(f"{self.root}/", "") for line in str(caught.value).splitlines()]
        return [line for line in lines if "problems in" not in line]

    def error(self, *overrides: str, **changed: Any) -> str:
        """Return the only line of the error."""
        lines = self.errors(*overrides, **changed)
        assert len(lines) == 1, lines
        return lines[0]


class Checker(OptionFile):
    """A copy of an option file, in a folder with the data and the weights that it names."""

    def __init__(self, root: Path, source: Path = OPTIONS / "train_RGT_T_x2.yml") -> None:
        super().__init__(root, source)
        make_data(load_options(self.file), root)

    def validate(self, *overrides: str, **changed: Any) -> tuple[dict[str, Any], list[str]]:
        """Check the data and the weights too."""
        opt, written = self.options(*overrides, **changed), read_written(self.file)
        return opt, validate_options(opt, file=self.file, is_train=self.is_train, root=self.root, written=written)


@pytest.fixture
def training(tmp_path: Path) -> OptionFile:
    return OptionFile(tmp_path)


@pytest.fixture
def testing(tmp_path: Path) -> OptionFile:
    return OptionFile(tmp_path, OPTIONS / "test_RGT_T_x2.yml")


@pytest.fixture
def train_file(tmp_path: Path) -> Checker:
    return Checker(tmp_path)


@pytest.fixture
def testing_file(tmp_path: Path) -> Checker:
    return Checker(tmp_path, OPTIONS / "test_RGT_T_x2.yml")


@pytest.fixture
def checker(tmp_path: Path) -> Callable[[Path], Checker]:
    return lambda source: Checker(tmp_path, source)
