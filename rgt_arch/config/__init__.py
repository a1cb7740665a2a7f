"""Option files: safe loading, overrides from the command line, checks before a run, and the reference of keys."""

from rgt_arch.config.checks.networks import check_files
from rgt_arch.config.describe import describe_options
from rgt_arch.config.loading import load_options
from rgt_arch.config.overrides import apply_overrides
from rgt_arch.config.settings import ValSettings, train_settings, val_settings
from rgt_arch.config.validation import check_options

__all__ = [
    "ValSettings",
    "apply_overrides",
    "check_files",
    "check_options",
    "describe_options",
    "load_options",
    "train_settings",
    "val_settings",
]
