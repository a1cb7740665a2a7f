"""Wrong values for option keys, made by rules from the tables behind `basicsr options`, and files to put them in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import rgt_arch  # noqa: F401 - makes BasicSR importable
from rgt_arch.config.describe import Table, documented_tables
from rgt_arch.config.schema import Key
from rgt_arch.config.sections import section_at

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
    return [mistake for table in documented_tables() for name in table.keys for mistake in mistakes_of(table, name)]


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
    for limit, beyond in ((key.low, -1), (key.high, 1)):
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
    elif owner == "memcached":
        train["io_backend"] = {"type": "memcached", "server_list_cfg": "names.txt", "client_cfg": "names.txt"}
    elif owner:
        train["type"] = owner
    return "train", options, "train"


def _copy(value: Any) -> Any:
    """Without what several sections share, so that YAML writes no aliases."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
