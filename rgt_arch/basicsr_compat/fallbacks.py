"""Modules that libraries have dropped and BasicSR still imports, provided only where nobody else provides them."""

from __future__ import annotations

import importlib.abc
import sys
import types
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from typing import Any


def _functional_tensor() -> Mapping[str, Any]:
    """Used by basicsr/data/degradations.py:8; gone since torchvision 0.17. BasicSR's git HEAD no longer imports it."""
    from torchvision.transforms import functional

    return {"rgb_to_grayscale": functional.rgb_to_grayscale}


def _distutils_version() -> Mapping[str, Any]:
    """Used by basicsr/archs/arch_util.py:6; gone since Python 3.12."""
    from torch.torch_version import TorchVersion  # a str that compares as a version; it knows suffixes such as +cpu

    return {"LooseVersion": TorchVersion}


def _scipy_filters() -> Mapping[str, Any]:
    """Used by basicsr/metrics/niqe.py:5 and data/data_util.py:275; gone in SciPy 2."""
    from scipy import ndimage

    return {"convolve": ndimage.convolve, "gaussian_filter": ndimage.gaussian_filter}


FALLBACKS: dict[str, Callable[[], Mapping[str, Any]]] = {
    "torchvision.transforms.functional_tensor": _functional_tensor,
    "distutils": dict,
    "distutils.version": _distutils_version,
    "scipy.ndimage.filters": _scipy_filters,
}
"""Module name -> the function that makes its namespace at the first import."""


class FallbackFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Last on sys.meta_path, so that it is asked only after every other finder has failed."""

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
