"""The list of an ablation: its variants and seeds, and the check that they differ in the network alone."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rgt_arch.config import load_options, validate_options
from rgt_arch.config.checks.structure import check_structure
from rgt_arch.config.loading import read_written
from rgt_arch.config.overrides import apply_overrides
from rgt_arch.config.report import Report, suggestion
from rgt_arch.config.tree import sections, subsection
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.complexity import PAPER_SIZE, Part, count, network_config

Options = dict[str, Any]

_KEYS = ("seeds", "variants")
_LARGEST_SEED = 2**31 - 1  # NumPy takes 32 bits; BasicSR adds numbers of ranks and workers to it
_LONGEST_SLUG = 100  # bytes; names of files begin with it
_OWN = ("name", "network_g")  # what variants may differ in


@dataclass(frozen=True)
class Variant:
    """One of the networks that are compared."""

    label: str
    file: Path
    options: Options
    """Of the option file, with what the command line changes in it."""

    @cached_property
    def cost(self) -> Part:
        """Parameters and multiply-adds at the paper's size, of the whole network."""
        return count(network_config(self.options, self.file), PAPER_SIZE).whole

    @property
    def slug(self) -> str:
        """The label as the name of a folder and of a run."""
        return re.sub(r"[^\w.-]+", "_", self.label).strip("._")


@dataclass(frozen=True)
class Plan:
    """What is to be trained. The first variant is the reference."""

    name: str
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
        metrics = options["val"]["metrics"]
        names = {key: key.upper() + ("-Y" if metric.get("test_y_channel") else "") for key, metric in metrics.items()}
        return [(name, key, shown) for name in sets for key, shown in names.items()]


def read_plan(
    file: Path, *, overrides: Sequence[str] = (), seeds: Sequence[int] | None = None, only: Sequence[str] | None = None
) -> Plan:
    """The plan of a list such as options/ablation/cpu.yml.

    overrides: as --force_yml takes them, for every variant. seeds: in place of the list's. only: labels of variants;
    the reference is always among them. Raises UsageError for a list or option files that cannot be compared.
    """
    content = load_options(file)
    for key in content:
        if key not in _KEYS:
            raise UsageError(f"{file}: unknown key {key}; {suggestion(key, _KEYS)}")
    listed = _labels(file, content.get("variants"))
    variants = [_variant(file, label, path, overrides) for label, path in listed.items()]
    _check_equal(variants)
    _check_structure(variants[0])  # the others have the same keys and values, but for network_g
    for label in only or ():
        if label not in listed:
            raise UsageError(f"--only {label!r}: {file} has no such variant; {suggestion(label, listed)}")
    chosen = [variant for number, variant in enumerate(variants) if not number or only is None or variant.label in only]
    return Plan(file.stem, tuple(chosen), _seeds(file, content.get("seeds") if seeds is None else list(seeds)))


def check_runnable(plan: Plan, root: Path) -> None:
    """Check every variant's options as `basicsr train` does, files included. Raises UsageError with all problems."""
    for variant in plan.variants:
        validate_options(copy.deepcopy(variant.options), file=variant.file, is_train=True, root=root)


def _labels(file: Path, content: Any) -> dict[str, str]:
    if not isinstance(content, dict) or len(content) < 2:
        raise UsageError(f"{file}: variants: needs two or more, as 'no CPE: no_cpe.yml'; the first is the reference")
    for label, path in content.items():
        if not isinstance(path, str):
            raise UsageError(f"{file}: variants:{label} is {path!r}; give an option file, relative to this list")
    return content


def _seeds(file: Path, seeds: Any) -> tuple[int, ...]:
    whole = isinstance(seeds, list) and all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds)
    if not whole or not seeds or min(seeds) < 0 or max(seeds) > _LARGEST_SEED or len(set(seeds)) < len(seeds):
        raise UsageError(
            f"{file}: seeds is {seeds!r}; give different whole numbers from 0 to {_LARGEST_SEED}, such as [10, 20, 30]"
        )
    return tuple(seeds)


def _variant(list_file: Path, label: str, path: str, overrides: Sequence[str]) -> Variant:
    file = list_file.parent / path
    options = load_options(file)
    apply_overrides(options, overrides)
    for section in ("datasets", "train", "val"):
        if not isinstance(options.get(section), dict):
            raise UsageError(f"{file}: {section} is missing; an ablation trains and validates")
    if subsection(options, "path").get("resume_state"):
        raise UsageError(f"{file}: path:resume_state is set; leave it empty, an ablation goes on by itself")
    metrics = options["val"].get("metrics")
    sets = [data for phase, data in options["datasets"].items() if phase.startswith("val")]
    if not sets or not isinstance(metrics, dict) or not metrics:
        raise UsageError(f"{file}: there is no validation set or no val:metrics, so nothing to compare; add them")
    network_config(options, file)  # refuses what no network can be built from
    variant = Variant(label, file, options)
    if not variant.slug:
        raise UsageError(f"{list_file}: variants:{label}: has no letters or digits to name a folder after")
    if len(variant.slug.encode()) > _LONGEST_SLUG:
        raise UsageError(f"{list_file}: variants:{label}: is too long to name a folder after; give it a shorter label")
    return variant


def _check_structure(variant: Variant) -> None:
    """Raises UsageError for keys and values that no training takes: what follows looks some of them up."""
    options = copy.deepcopy(variant.options)
    if options.get("path") is None:
        options["path"] = {}
    report = Report(str(variant.file), read_written(variant.file))
    check_structure(options, report, is_train=True)
    report.raise_errors()
    names = [data["name"] for phase, data in sections(options["datasets"]) if phase.startswith("val")]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{variant.file}: two validation sets have the name {name}; give them names of their own")


def _check_equal(variants: Sequence[Variant]) -> None:
    """Raise UsageError where variants differ in more than the network, or do not differ at all."""
    first = variants[0]
    for number, variant in enumerate(variants):
        difference = first_difference(_without_own(first.options), _without_own(variant.options))
        if difference:
            key, wanted, found = difference
            raise UsageError(
                f"{variant.file}: {key} is {found!r}, in {first.file} {wanted!r}; variants may differ in network_g "
                "alone"
            )
        for earlier in variants[:number]:
            if earlier.slug == variant.slug:
                raise UsageError(f"{variant.file}: {variant.label!r} and {earlier.label!r} would share a folder")
            if earlier.options["network_g"] == variant.options["network_g"]:
                raise UsageError(f"{variant.file}: network_g is that of {earlier.file}; there is nothing to compare")


def _without_own(options: Options) -> Options:
    return {key: value for key, value in options.items() if key not in _OWN}


def first_difference(one: Any, other: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first key at which two trees of options differ, and its values in both; None for one that is not there."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in [*one, *(name for name in other if name not in one)]:
            found = first_difference(one.get(name), other.get(name), f"{key}:{name}" if key else name)
            if found:
                return found
        return None
    return None if one == other else (key, one, other)
