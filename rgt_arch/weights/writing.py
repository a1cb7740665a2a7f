"""Writing checkpoints: whole files or none, small ones, and in layouts that the official code and spandrel load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from rgt_arch.errors import UsageError
from rgt_arch.files import written_whole
from rgt_arch.torch_files import save_whole
from rgt_arch.weights.building import complete_state_dict
from rgt_arch.weights.inspecting import assumed_arguments, constructor_arguments, infer_config, is_derived
from rgt_arch.weights.reading import RECORD_KEYS, SAFETENSORS_ENTRY, strip_wrappers

_TORCH_SUFFIXES = (".pth", ".pt", ".ckpt")


def save_checkpoint(
    path: str | Path,
    weights: Mapping[str, Tensor] | nn.Module,
    *,
    slim: bool | None = None,
    config: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
) -> Path:
    """Write an RGT's weights and return the path; the file appears whole or not at all.

    path: `.safetensors`, or `.pth`, `.pt` or `.ckpt` for the official layout, `{"params": …}`. weights: a network, also
    wrapped or compiled, or its state dict, with or without the derived tensors.
    slim: without the derived tensors (70 % of an official file), for this package only; the default is True for
    safetensors and False otherwise, where the official code and spandrel load the file strictly.
    config: constructor arguments that tensors cannot show (a network brings its own). info: plain values to keep, such
    as `iteration`. Raises UsageError for unfit arguments and weights, UserError if the file cannot be written.
    """
    path = Path(path).expanduser()
    safe = is_safetensors(path)
    if isinstance(weights, nn.Module):
        config = {**constructor_arguments(weights), **(config or {})}
        weights = weights.state_dict()
    state_dict = {strip_wrappers(key): tensor.detach() for key, tensor in weights.items()}
    full_config = infer_config(state_dict, config)
    assumed = assumed_arguments(state_dict, config)
    if safe if slim is None else slim:
        state_dict = {key: tensor for key, tensor in state_dict.items() if not is_derived(key)}
    else:
        state_dict = complete_state_dict(state_dict, full_config)
    # a value that nobody knows is not recorded as if somebody did
    known = {name: value for name, value in full_config.items() if name not in assumed}
    record = dict(zip(RECORD_KEYS, (known, dict(info or {})), strict=True))
    if safe:
        with written_whole(path) as beside:
            beside.write_bytes(_safetensors_bytes(state_dict, record))
    else:
        # tensors that share one storage are written once, which keeps official files small
        save_whole({"params": {key: _owned(tensor) for key, tensor in state_dict.items()}, **record}, path)
    return path


def is_safetensors(path: Path) -> bool:
    """Whether a file of this name gets safetensors, else torch.save's format; asked before any work is done for it.

    Raises UsageError for other suffixes and missing folders.
    """
    suffix = path.suffix.lower()
    if suffix not in (".safetensors", *_TORCH_SUFFIXES):
        raise UsageError(f"{path}: unknown suffix {suffix!r}; take .safetensors, {', '.join(_TORCH_SUFFIXES)}")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist; make it first")
    return suffix == ".safetensors"


def _owned(tensor: Tensor) -> Tensor:
    """The tensor on the CPU; a small view of a big storage is copied, because torch.save writes storages whole."""
    tensor = tensor.cpu()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone(memory_format=torch.contiguous_format)


def _safetensors_bytes(state_dict: Mapping[str, Tensor], record: Mapping[str, Any]) -> bytes:
    """safetensors refuses tensors that share storage, so each gets its own.

    The record is one metadata entry: entries are written in a random order, and equal weights should give equal files.
    """
    owned = {key: tensor.cpu().clone(memory_format=torch.contiguous_format) for key, tensor in state_dict.items()}
    return safetensors.torch.save(owned, metadata={SAFETENSORS_ENTRY: json.dumps(record)})
