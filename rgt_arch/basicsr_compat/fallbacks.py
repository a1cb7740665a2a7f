"""Modules that libraries have removed and BasicSR still imports, provided if no other finder finds them."""

from __future__ import annotations

import importlib
import importlib.abc
import sys
import types
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from typing import Any


def _take(module: str, *names: str, **renamed: str) -> Callable[[], Mapping[str, Any]]:
    """Return a function that makes a namespace of names of a module. renamed: new name -> name in the module."""
    names_there = {**dict(zip(names, names, strict=True)), **renamed}
    return lambda: {name: getattr(importlib.import_module(module), there) for name, there in names_there.items()}


FALLBACKS: dict[str, Callable[[], Mapping[str, Any]]] = {
    # data/degradations.py:8; gone since torchvision 0.17; BasicSR's git HEAD no longer imports it
    "torchvision.transforms.functional_tensor": _take("torchvision.transforms.functional", "rgb_to_grayscale"),
    # archs/arch_util.py:6; gone since Python 3.12. TorchVersion is a str that compares as a version, also with +cpu
    "distutils": dict,
    "distutils.version": _take("torch.torch_version", LooseVersion="TorchVersion"),
    # metrics/niqe.py:5, data/data_util.py:275; gone in SciPy 2
    "scipy.ndimage.filters": _take("scipy.ndimage", "convolve", "gaussian_filter"),
}
"""Module name -> the function that makes its namespace at the first import."""


class FallbackFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The last finder on sys.meta_path, called only after every other finder has failed."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname not in FALLBACKS:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in FALLBACKS)
        return ModuleSpec(fullname, self, is_package=is_package)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__.update(FALLBACKS[module.__name__]())


def install_fallbacks() -> None:
    """Add the finder to the import system, once."""
    if not any(isinstance(finder, FallbackFinder) for finder in sys.meta_path):
        sys.meta_path.append(FallbackFinder())
