"""Checkpoints of BasicSR are read without executing code and written whole or not at all.

Where: basicsr/models/base_model.py:290 (torch.load), :229 and :327 (torch.save). What goes wrong: torch.load runs a
file's pickled code when TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set (or on old torch); torch.save writes in place, so
that a kill leaves half a file under the final name. Delete it once BasicSR passes weights_only=True and renames
finished files into place.
"""

from __future__ import annotations

import io
import os
import types
from typing import Any

import torch

from rgt_arch.errors import UserError
from rgt_arch.files import written_whole


def load_data_only(path: str | os.PathLike[str], map_location: Any = "cpu", **kwargs: Any) -> Any:
    """torch.load that never executes what a file asks for. Raises UserError, one line, for what it cannot read."""
    kwargs["weights_only"] = True
    try:
        return torch.load(path, map_location=map_location, **kwargs)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; correct the path or remove the key that names it") from error
    except Exception as error:  # torch has no common class for what a damaged file can raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        hint = "holds code, which is never run" if "weights_only" in str(error) else reason[0]
        raise UserError(f"{path}: not a readable checkpoint ({hint}); take another file") from error


def save_whole(value: Any, path: str | os.PathLike[str], **kwargs: Any) -> None:
    """torch.save after which `path` is the old file or the complete new one; UserError where it cannot be written."""
    # through memory: torch's own writer turns a full disk into a RuntimeError about positions
    buffer = io.BytesIO()
    torch.save(value, buffer, **kwargs)
    with written_whole(path) as beside:
        beside.write_bytes(buffer.getbuffer())


class SafeTorch(types.ModuleType):
    """The name `torch` inside basicsr.models.base_model: torch, but for `load` and `save`."""

    load = staticmethod(load_data_only)
    save = staticmethod(save_whole)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def safe_torch(_original: Any) -> types.ModuleType:
    return SafeTorch("torch")
