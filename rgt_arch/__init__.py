"""RGT (Recursive Generalization Transformer, ICLR 2024) for BasicSR.

Importing this package makes BasicSR importable on today's libraries, and registers RGT and RGTModel when BasicSR is
imported. The names below are imported at their first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rgt_arch import basicsr_compat
from rgt_arch.version import __version__

if TYPE_CHECKING:
    from rgt_arch.archs.rgt_arch import RGT, rgt, rgt_s, rgt_t
    from rgt_arch.inference.upscaler import Upscaler
    from rgt_arch.weights.building import load_model

__all__ = ["RGT", "Upscaler", "__version__", "load_model", "rgt", "rgt_s", "rgt_t"]

_HOMES = {
    **dict.fromkeys(("RGT", "rgt", "rgt_s", "rgt_t"), "rgt_arch.archs.rgt_arch"),
    "Upscaler": "rgt_arch.inference.upscaler",
    "load_model": "rgt_arch.weights.building",
}

basicsr_compat.install()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
