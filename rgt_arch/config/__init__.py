"""Option files: safe loading, overrides from the command line, checks before a run, and the reference of keys.

`validation` and `checks` import torch and are not imported here: `basicsr options` runs without torch.
"""

from rgt_arch.config.loading import load_options
from rgt_arch.config.overrides import apply_overrides
from rgt_arch.config.settings import logger_settings, train_settings, val_settings
from rgt_arch.config.tables import describe_options

__all__ = [
    "apply_overrides",
    "describe_options",
    "load_options",
    "logger_settings",
    "train_settings",
    "val_settings",
]
