"""A name that both this package and a host's own files register is no error: the first stays.

Where: basicsr/utils/registry.py:42. What goes wrong: a fork's `RGT`, or our network file dropped into a host's
`archs/`, beside this package ends in AssertionError "already registered". Other clashes stay errors. Delete it once
registration can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rgt_arch.basicsr_compat.notices import notice


def _is_ours(registered: Any) -> bool:
    return getattr(registered, "__module__", "").split(".")[0] == "rgt_arch"


def keep_first(original: Callable[..., None]) -> Callable[..., None]:
    """Registry._do_register that keeps the first of two where one of them is ours."""

    def _do_register(registry: Any, name: str, obj: Any, suffix: str | None = None) -> None:
        known = registry._obj_map.get(f"{name}_{suffix}" if isinstance(suffix, str) else name)
        if known is None or known is obj or not (_is_ours(known) or _is_ours(obj)):
            original(registry, name, obj, suffix)
        elif known.__module__ != obj.__module__:
            notice(f"{name} is registered by {known.__module__}; the one of {obj.__module__} is not used")

    return _do_register


def prefer_ours() -> None:
    """Give RGT and RGTModel to this package, where a host registered its own first; a notice says so."""
    from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY

    import rgt_arch

    for registry, ours in ((ARCH_REGISTRY, rgt_arch.RGT), (MODEL_REGISTRY, _model())):
        theirs = registry._obj_map.get(ours.__name__)
        if theirs is not ours:
            registry._obj_map[ours.__name__] = ours
            if theirs is not None:
                notice(f"{ours.__name__} of {theirs.__module__} is replaced by the one of {ours.__module__}")


def _model() -> Any:
    from rgt_arch.models.rgt_model import RGTModel

    return RGTModel
