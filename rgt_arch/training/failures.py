"""One-line errors for exceptions of BasicSR, PyTorch and data sets that a user can cause."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import torch

from rgt_arch.errors import UserError
from rgt_arch.torch_files import load_failure
from rgt_arch.training.ranks import lost_contact

# A DataLoader worker's exception arrives as text: its traceback, with the message in the last line.
_WORKER = re.compile(r"^Caught (\w+) in \w+ .*?Original Traceback", re.DOTALL)


def as_user_error(error: Exception) -> UserError:
    """Convert any exception to a one-line UserError. A UserError is returned without a data worker's traceback."""
    from_worker = _WORKER.match(str(error)) is not None
    if isinstance(error, UserError):
        return type(error)(str(error).splitlines()[-1].partition(": ")[2]) if from_worker else error
    return UserError(str(error).splitlines()[-1] if from_worker else _describe(error))


def _describe(error: Exception) -> str:
    """One line with the error, its value, its place and a remedy."""
    text = str(error).strip()
    first = " ".join(text.splitlines()[0].split()) if text else ""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; correct the option that names it, or its permissions"
    if (failure := load_failure(error)) is not None:
        return failure
    if isinstance(error, torch.OutOfMemoryError):
        return f"{first}; lower batch_size_per_gpu or gt_size, set network_g: use_chk, or in validation val: tile"
    if isinstance(error, RuntimeError) and text.startswith("DataLoader worker"):
        return (
            f"a process that reads training images died ({first.rstrip('. ')}); where memory ran out, lower "
            "datasets:train:num_worker_per_gpu; --auto_resume goes on from the last checkpoint"
        )
    if lost_contact(error):
        reason = re.sub(r"^\[\S+\] ", "", first).partition(". ")[0]  # without gloo's source line and its advice
        return (
            f"another process of this run is gone or does not answer ({reason}); its own message or torchrun's "
            "gives the reason; --auto_resume goes on from the last checkpoint"
        )
    if isinstance(error, KeyError):
        first = f"no key {first}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown place"
    return f"{type(error).__name__}: {first} ({place}); --verbose shows the traceback"
