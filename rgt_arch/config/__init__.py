"""Option files: safe loading, overrides from the command line, validation before a run, and the reference of keys."""

from rgt_arch.config.describe import describe_options
from rgt_arch.config.loading import load_options
from rgt_arch.config.overrides import apply_overrides
from rgt_arch.config.settings import ValSettings, train_settings, val_settings
from rgt_arch.config.validation import validate_options

__all__ = ["ValSettings", "train_settings", "val_settings", "apply_overrides", "describe_options", "load_options", "validate_options"]
