"""Our classes in BasicSR's registries, beside those of a host that has some of the same names."""

from __future__ import annotations

import importlib
from typing import Any

OURS = {
    "ARCH_REGISTRY": ("rgt_arch.archs.rgt_arch", "RGT"),
    "MODEL_REGISTRY": ("rgt_arch.models.rgt_model", "RGTModel"),
}


def prefer_ours() -> list[str]:
    """Give RGT and RGTModel to this package, as our own commands promise; returns a line for each class replaced."""
    replaced = [(ours, register(registry, replace=True)) for registry, (_, ours) in OURS.items()]
    return [f"{ours} of {theirs} is replaced by the one of rgt_arch" for ours, theirs in replaced if theirs]


def register(registry: str, replace: bool = False) -> str | None:
    """Enter our class; one of a host that is there already stays, or is replaced: returns the module of that one."""
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
