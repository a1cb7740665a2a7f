"""A checkpoint is a training state and the networks saved with it: what ties them, and how damage to either shows.

Where: basicsr/train.py:80-86 takes whatever carries the iteration's number. What goes wrong: a network of another run
or of an earlier attempt is trained on with an optimiser that never saw it, and PyTorch reads a file with a flipped bit
without a word (its zip reader skips the checksums). Delete it once BasicSR ties the two and checks them.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rgt_arch.errors import UserError
from rgt_arch.torch_files import load_data_only

STATE_KEYS = ("epoch", "iter", "optimizers", "schedulers")


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of the trained tensors in a network file's content: names, types, shapes and values, in order."""
    from rgt_arch.weights.inspecting import is_derived

    whole = hashlib.sha256()
    for key, weights in content.items():
        for name, tensor in weights.items() if isinstance(weights, Mapping) else ():
            if isinstance(tensor, Tensor) and not is_derived(name):
                whole.update(f"{key} {name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                if tensor.numel():
                    flat = tensor.detach().cpu().contiguous().flatten()
                    whole.update(flat.view(torch.uint8).numpy().data)
    return whole.hexdigest()


def read_state(path: Path | str) -> dict[str, Any]:
    """Read a training state. Raises UserError for a file that is damaged or none of BasicSR's states."""
    _check_sums(Path(path))
    state = load_data_only(path)
    if not isinstance(state, dict) or any(key not in state for key in STATE_KEYS) or type(state["iter"]) is not int:
        raise UserError(f"{path}: no BasicSR training state (it needs {', '.join(STATE_KEYS)}); take a file N.state")
    return state


def check_network(path: Path | str, iteration: int, expected: str | None) -> None:
    """Raise UserError unless `path` is a whole network file of `iteration` with the weights of the digest `expected`.

    expected: from the training state; None in states of BasicSR and of earlier versions, which hold none.
    """
    _check_sums(Path(path))
    content = load_data_only(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: no weights are in it; take a file that training saved")
    saved = recorded_iteration(content)
    if saved is not None and saved != iteration:
        raise UserError(f"{path}: is of iteration {saved}, its training state of {iteration}; take files of one save")
    if expected is not None and digest(content) != expected:
        raise UserError(f"{path}: does not hold the weights that were saved with its training state; take both again")


def recorded_iteration(content: Any) -> int | None:
    """The iteration that a network file of RGTModel says it is of; None in files of others."""
    info = content.get("rgt_info") if isinstance(content, Mapping) else None
    iteration = info.get("iteration") if isinstance(info, Mapping) else None
    return iteration if type(iteration) is int else None


def _check_sums(path: Path) -> None:
    """Raise UserError where a checksum inside a PyTorch file is wrong; what is no zip file is told at loading."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError, RuntimeError):
        return
    if damaged is not None:
        raise UserError(f"{path}: is damaged ({damaged} in it has another checksum than when it was saved); delete it")
