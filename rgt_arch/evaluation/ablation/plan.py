"""The list of an ablation: one base option file, and overrides of its network by variant."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from rgt_arch.config import apply_overrides, load_options
from rgt_arch.config.loading import read_written
from rgt_arch.data.option_checks import validate_options
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.complexity import PAPER_SIZE, Part, count, network_config

Options = dict[str, Any]

_KEYS = ("base", "overrides", "seeds", "variants")
_LARGEST_SEED = 2**31 - 1  # NumPy takes 32 bits; BasicSR adds numbers of ranks and workers to it
_LONGEST_SLUG = 100  # bytes; names of files begin with it
_FILE_KEYS = ("dataroot_gt", "dataroot_lq", "meta_info_file", "meta_info")


@dataclass(frozen=True)
class Variant:
    """One of the networks that are compared."""

    label: str
    overrides: tuple[str, ...]
    """Entries of --force_yml for everything in which its options differ from the base file."""
    options: Options
    """Those of the base file with the overrides."""

    @cached_property
    def cost(self) -> Part:
        """Parameters and multiply-adds at the paper's size, of the whole network."""
        return count(network_config(self.options, self.label), PAPER_SIZE).whole

    @property
    def slug(self) -> str:
        """The label as the name of a folder and of a run."""
        return re.sub(r"[^\w.-]+", "_", self.label).strip("._")


@dataclass(frozen=True)
class Plan:
    """What is to be trained. The first variant is the reference."""

    file: Path
    base: Path
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]

    @property
    def total_iter(self) -> int:
        """Iterations of each training."""
        return int(self.variants[0].options["train"]["total_iter"])

    def measured(self) -> list[tuple[str, str, str]]:
        """(data set, metric, its name in tables) of everything that validations measure, in their order."""
        options = self.variants[0].options
        sets = [data["name"] for phase, data in options["datasets"].items() if phase.startswith("val")]
        metrics = options["val"]["metrics"].items()
        names = {key: key.upper() + ("-Y" if metric.get("test_y_channel") else "") for key, metric in metrics}
        return [(name, key, shown) for name in sets for key, shown in names.items()]

    def files(self) -> dict[str, Path]:
        """The data and weights that the options name, absolute, by key; names of published weights are not files."""
        options = self.variants[0].options
        found = {
            f"datasets:{phase}:{key}": Path(data[key]).expanduser().absolute()
            for phase, data in options["datasets"].items()
            for key in _FILE_KEYS
            if data.get(key)
        }
        weights = (options.get("path") or {}).get("pretrain_network_g")
        if weights and Path(weights).expanduser().exists():
            found["path:pretrain_network_g"] = Path(weights).expanduser().absolute()
        return found


def read_plan(
    file: Path, *, overrides: Sequence[str] = (), seeds: Sequence[int] | None = None, only: Sequence[str] | None = None
) -> Plan:
    """The plan of a list such as options/ablation/cpu.yml.

    overrides: as --force_yml takes them, for every variant. seeds: in place of the list's. only: labels of variants;
    the reference is always among them. Raises UsageError for a list or options that cannot be compared.
    """
    content = load_options(file)
    for key in content:
        if key not in _KEYS:
            raise UsageError(f"{file}: unknown key {key}; {_nearest(key, _KEYS)}")
    if not isinstance(content.get("base"), str):
        raise UsageError(f"{file}: base is {content.get('base')!r}; give an option file, relative to this list")
    base = file.parent / content["base"]
    listed = content.get("variants")
    if not isinstance(listed, dict) or len(listed) < 2:
        raise UsageError(
            f"{file}: variants: needs two or more, as 'no CPE: [network_g:cpe=false]'; the first is the reference"
        )
    shared = [*_entries(file, "overrides", content.get("overrides")), *overrides]
    variants: list[Variant] = []
    for label, changes in listed.items():
        entries = _entries(file, f"variants:{label}", changes)
        for entry in entries:
            if not entry.startswith("network_g:"):
                raise UsageError(
                    f"{file}: variants:{label}: {entry} is not of network_g, the only part that may differ"
                )
        options = load_options(base)
        apply_overrides(options, [*shared, *entries])
        variants.append(Variant(label, (*shared, *entries), options))
    _check_options(base, variants[0].options)
    _check_variants(file, variants)
    for label in only or ():
        if label not in listed:
            raise UsageError(f"--only {label!r}: {file} has no such variant; {_nearest(label, listed)}")
    chosen = [variant for number, variant in enumerate(variants) if not number or only is None or variant.label in only]
    return Plan(file, base, tuple(chosen), _seeds(file, content.get("seeds") if seeds is None else list(seeds)))


def check_runnable(plan: Plan) -> None:
    """Check every variant's options as `basicsr train` does, files included. Raises UsageError with all problems."""
    written = read_written(plan.base)
    for variant in plan.variants:
        options = copy.deepcopy(variant.options)
        validate_options(options, file=plan.base, is_train=True, root=Path.cwd(), written=written)


def _entries(file: Path, key: str, value: Any) -> list[str]:
    """A list of overrides."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise UsageError(f"{file}: {key} is {value!r}; give a list such as [network_g:cpe=false]")
    return value


def _seeds(file: Path, seeds: Any) -> tuple[int, ...]:
    whole = isinstance(seeds, list) and all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds)
    if not whole or not seeds or min(seeds) < 0 or max(seeds) > _LARGEST_SEED or len(set(seeds)) < len(seeds):
        raise UsageError(
            f"{file}: seeds is {seeds!r}; give different whole numbers from 0 to {_LARGEST_SEED}, such as [10, 20, 30]"
        )
    return tuple(seeds)


def _check_options(base: Path, options: Options) -> None:
    """Raises UsageError for options in which the table finds no training, data set or metric."""
    for section in ("datasets", "train", "val"):
        if not isinstance(options.get(section), dict):
            raise UsageError(f"{base}: {section} is missing; an ablation trains and validates")
    if not isinstance(options["train"].get("total_iter"), (int, float)):
        raise UsageError(f"{base}: train:total_iter is missing; an ablation needs it")
    if not all(isinstance(data, dict) for data in options["datasets"].values()):
        raise UsageError(f"{base}: datasets: each must be a section")
    if (options.get("path") or {}).get("resume_state"):
        raise UsageError(f"{base}: path:resume_state is set; leave it empty, an ablation resumes by itself")
    metrics = options["val"].get("metrics")
    names = [data.get("name") for phase, data in options["datasets"].items() if phase.startswith("val")]
    measures = isinstance(metrics, dict) and metrics and all(isinstance(metric, dict) for metric in metrics.values())
    if not names or not measures:
        raise UsageError(f"{base}: there is no validation set or no val:metrics, so nothing to compare; add them")
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise UsageError(f"{base}: two validation sets have the same name or none; give each its own")


def _check_variants(file: Path, variants: Sequence[Variant]) -> None:
    """Raises UsageError for variants that cannot be built, do not differ, or would share a folder."""
    for number, variant in enumerate(variants):
        network_config(variant.options, f"{file}: variants:{variant.label}")
        if not variant.slug or len(variant.slug.encode()) > _LONGEST_SLUG:
            problem = "is too long to name" if variant.slug else "has no letters or digits to name"
            raise UsageError(f"{file}: variants:{variant.label}: {problem} a folder after; give it another label")
        for earlier in variants[:number]:
            if earlier.slug == variant.slug:
                raise UsageError(f"{file}: variants: {variant.label!r} and {earlier.label!r} would share a folder")
            if earlier.options["network_g"] == variant.options["network_g"]:
                raise UsageError(
                    f"{file}: variants:{variant.label}: has the network of {earlier.label}; there is nothing to compare"
                )


def _nearest(name: str, valid: Any) -> str:
    near = get_close_matches(name, list(valid), 1)
    return f"did you mean {near[0]}?" if near else f"valid: {', '.join(valid)}"
