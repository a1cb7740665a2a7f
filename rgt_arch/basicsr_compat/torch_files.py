"""Checkpoints of BasicSR are read without executing code, and are written whole, or the run ends.

Where: basicsr/models/base_model.py:290 (torch.load), :229 and :327 (torch.save). What goes wrong: torch.load runs a
file's pickled code when TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set (or on old torch); torch.save writes in place, so
that a kill leaves half a file under the final name; and a file that cannot be written is a warning, so that a run
with a full disk trains on for nothing. Delete it once BasicSR passes weights_only=True, renames finished files into
place and raises what it cannot write.
"""

from __future__ import annotations

import os
import time
import types
from collections.abc import Callable
from typing import Any

import torch

from rgt_arch.errors import UserError
from rgt_arch.torch_files import load_data_only, save_whole

ATTEMPTS = 3  # as BasicSR has it, for network folders that fail now and then


class UnwrittenError(BaseException):
    """A UserError on its way out of BasicSR's save methods, whose `except Exception` would make it a warning."""

    def __init__(self, reason: UserError) -> None:
        super().__init__(reason)
        self.reason = reason


def save_or_leave(value: Any, path: str | os.PathLike[str], **kwargs: Any) -> None:
    """`save_whole` in up to three attempts, a second apart. Raises UnwrittenError when the last one fails too."""
    from basicsr.utils import get_root_logger

    for attempt in range(1, ATTEMPTS + 1):
        try:
            save_whole(value, path, **kwargs)
            return
        except UserError as error:
            if attempt == ATTEMPTS:
                raise UnwrittenError(error) from error
            get_root_logger().warning(f"{error}; trying again")
            time.sleep(1)


def failing_loudly(original: Callable[..., None]) -> Callable[..., None]:
    """BaseModel.save_network or .save_training_state that raises the UserError of a file that cannot be written."""

    def save(*args: Any, **kwargs: Any) -> None:
        try:
            original(*args, **kwargs)
        except UnwrittenError as error:
            raise error.reason from error

    return save


class SafeTorch(types.ModuleType):
    """The name `torch` inside basicsr.models.base_model: torch, but for `load` and `save`."""

    load = staticmethod(load_data_only)
    save = staticmethod(save_or_leave)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def safe_torch(_original: Any) -> types.ModuleType:
    return SafeTorch("torch")
