"""Finding the classes that option files name, and reading their arguments off their signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from rgt_arch.config.schema import Key, Kind, Section
from rgt_arch.config.tables import ARGUMENTS

# Accepted by the RGT constructor and ignored with a notice: official option files of this family carry it.
_IGNORED_ARGUMENTS = {"RGT": {"upsampler": Key("any", "accepted and ignored")}}
# What BasicSR builds for each scheduler name (models/base_model.py:111).
SCHEDULERS = {
    "MultiStepLR": "MultiStepRestartLR",
    "MultiStepRestartLR": "MultiStepRestartLR",
    "CosineAnnealingRestartLR": "CosineAnnealingRestartLR",
}
_SUFFIX = "_basicsr"  # BasicSR registers some of its own classes so; Registry.get finds them without it


def registry(kind: str) -> Any:
    """BasicSR's registry of "arch", "model", "dataset", "loss" or "metric" classes, filled."""
    # Imported here and not above: these import all of BasicSR's classes, and the compat seams come first.
    import basicsr.archs
    import basicsr.data
    import basicsr.losses
    import basicsr.metrics
    import basicsr.models  # noqa: F401
    from basicsr.utils import registry as registries

    return getattr(registries, f"{kind.upper()}_REGISTRY")


def find_class(kind: str, name: Any) -> Any:
    """The class registered as `name` or `name_basicsr`, or None. (`Registry.get` prints when it takes the second.)"""
    found = registry(kind)
    for candidate in (name, f"{name}{_SUFFIX}"):
        if isinstance(name, str) and candidate in found:
            return found.get(candidate)
    return None


def class_names(kind: str) -> list[str]:
    """The names an option file can use for this kind of class."""
    return [name.removesuffix(_SUFFIX) for name, _ in registry(kind)]


def optimizer_class(name: Any) -> Any:
    """The class of an optimiser that RGTModel offers, or None."""
    return optimizers().get(name) if isinstance(name, str) else None


def optimizers() -> Mapping[str, Any]:
    """The optimisers that RGTModel offers, by name."""
    from rgt_arch.models.optimisation import OPTIMIZERS

    return OPTIMIZERS


def scheduler_class(name: Any) -> Any:
    """BasicSR's class for a scheduler name, or None."""
    from basicsr.models import lr_scheduler

    return getattr(lr_scheduler, SCHEDULERS[name], None) if name in SCHEDULERS else None


def signature_section(target: Callable[..., Any], skip: Collection[str] = ()) -> Section:
    """The arguments of a class or function as a section: names, and types as far as defaults tell them.

    Strict unless `target` takes **kwargs and is none of BasicSR's or ours: those make no use of **kwargs.
    """
    name = getattr(target, "__name__", str(target))
    keys: dict[str, Key] = {"type": Key("text", "class name", "always")}
    swallows = False
    for argument in inspect.signature(target).parameters.values():
        if argument.kind is inspect.Parameter.VAR_KEYWORD:
            swallows = True
        elif argument.kind is not inspect.Parameter.VAR_POSITIONAL and argument.name not in skip:
            keys[argument.name] = _argument_key(argument, is_known(target))
    keys.update(_IGNORED_ARGUMENTS.get(name, {}))
    return Section(keys, name, strict=not swallows or is_known(target))


def is_known(target: Any) -> bool:
    """Whether a class is BasicSR's, PyTorch's or ours, so that every key it reads is known here."""
    return str(getattr(target, "__module__", "")).split(".")[0] in ("basicsr", "rgt_arch", "torch")


def _argument_key(argument: inspect.Parameter, of_known_class: bool) -> Key:
    default = argument.default
    is_needed = default is inspect.Parameter.empty
    if of_known_class and argument.name in ARGUMENTS:
        told = ARGUMENTS[argument.name]
        return told if is_needed else replace(told, required="", nullable=default is None)
    if is_needed:
        return Key("any", required="always")
    kind: Kind = "any"
    annotation = str(argument.annotation)
    if isinstance(default, str) and annotation in ("str", "<class 'str'>"):
        return Key("text")  # "none" is a value of some of them, so it must not stand for nothing
    if isinstance(default, bool):
        kind = "boolean"
    elif isinstance(default, (int, float)) and not any(other in annotation for other in ("str", "tuple", "Sequence")):
        kind = "number"
    elif isinstance(default, (list, tuple)):
        numeric = all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in default)
        kind = "numbers" if default and numeric else "list"
    return Key(kind, nullable=True)
