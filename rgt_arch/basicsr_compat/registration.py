"""Our classes in BasicSR's registries, beside those of a host that has some of the same names."""

from __future__ import annotations

import importlib
from typing import Any

OURS = {
    "ARCH_REGISTRY": ("rgt_arch.archs.rgt_arch", "RGT"),
    "MODEL_REGISTRY": ("rgt_arch.models.rgt_model", "RGTModel"),
}


def register_networks() -> None:
    """Register RGT; a host's own RGT that is there already stays."""
    _register("ARCH_REGISTRY", replace=False)


def register_models() -> None:
    """Register RGTModel; a host's own that is there already stays."""
    _register("MODEL_REGISTRY", replace=False)


def prefer_ours() -> list[str]:
    """Give RGT and RGTModel to this package, as our own commands promise; returns a line for each class replaced."""
    replaced = [(ours, _register(registry, replace=True)) for registry, (_, ours) in OURS.items()]
    return [f"{ours} of {theirs} is replaced by the one of rgt_arch" for ours, theirs in replaced if theirs]


def _register(registry: str, replace: bool) -> str | None:
    """Enter our class; returns the module of a class that it replaces."""
    known = getattr(importlib.import_module("basicsr.utils.registry"), registry)._obj_map
    module, name = OURS[registry]
    theirs: Any = known.get(name)
    if theirs is not None and not replace:
        return None
    ours = getattr(importlib.import_module(module), name, None)
    if ours is None:  # its module is what imports BasicSR, and is registered at its end
        return None
    known[name] = ours
    return None if theirs in (None, ours) else theirs.__module__
