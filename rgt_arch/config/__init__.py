"""Option files: safe loading, overrides from the command line, checks before a run, and the reference of keys."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rgt_arch.config.loading import load_options
from rgt_arch.config.overrides import apply_overrides
from rgt_arch.config.settings import logger_settings, train_settings, val_settings
from rgt_arch.config.tables import describe_options

if TYPE_CHECKING:
    from rgt_arch.config.checks.networks import check_files
    from rgt_arch.config.validation import check_options

__all__ = [
    "apply_overrides",
    "check_files",
    "check_options",
    "describe_options",
    "load_options",
    "logger_settings",
    "train_settings",
    "val_settings",
]


def __getattr__(name: str) -> Any:
    """Import the checks on first use: they import torch, which `basicsr options` does without."""
    home = {"check_files": "checks.networks", "check_options": "validation"}.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
