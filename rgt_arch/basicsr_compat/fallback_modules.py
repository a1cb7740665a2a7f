"""Modules that libraries have dropped and BasicSR still imports, provided only where nobody else provides them."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Namespace = Callable[[], Mapping[str, Any]]


class _FallbackFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands last on sys.meta_path, so it is asked only after every other finder has failed.

    That makes each fallback a no-op where the module exists, at no cost to a process that never imports it.
    """

    def __init__(self) -> None:
        self.namespaces: dict[str, Namespace] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.namespaces:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in self.namespaces)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=is_package)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__.update(self.namespaces[module.__name__]())


_finder = _FallbackFinder()


def provide(name: str, namespace: Namespace) -> None:
    """Let `import name` succeed where it would not. `namespace()` gives the module's names, at the first import."""
    _finder.namespaces[name] = namespace
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)
