"""Building the network of a checkpoint, loading its weights, and describing weights that do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.errors import UsageError, few, naming
from rgt_arch.weights.inspecting import infer_config, is_derived
from rgt_arch.weights.reading import read_checkpoint
from rgt_arch.weights.zoo import resolve_path


def load_model(path: str | Path, device: str | torch.device = "cpu", **overrides: Any) -> RGT:
    """Build the network of a checkpoint with inferred arguments, and load it strictly; in eval mode on `device`.

    path: a name of the zoo (see `resolve_path`), or any file that `read_checkpoint` reads; EMA weights are preferred.
    overrides: constructor arguments that tensors cannot show (`img_range`, `hai`) or that do not change the weights
    (`use_chk`). Parameters are float32 for any dtype of the file. Raises UsageError, one line with the file's name.
    """
    checkpoint = read_checkpoint(resolve_path(path))
    state_dict = checkpoint.state_dict()
    with naming(checkpoint.label):
        network = build_network(infer_config(state_dict, {**checkpoint.config, **overrides}))
        load_weights(network, state_dict)
    return network.eval().to(device)


def build_network(config: Mapping[str, Any]) -> RGT:
    """Build an RGT with these constructor arguments. Raises UsageError if the network refuses them."""
    try:
        return RGT(**config)
    except (TypeError, ValueError) as error:
        raise UsageError(f"no RGT has these arguments: {error}") from error


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], strict: bool = True) -> None:
    """Load weights into a network. UsageError names the first few that are missing, unknown or of another shape.

    An RGT's derived tensors may be missing. If `strict` is false, weights of another shape are still an error: remove
    them first.
    """
    try:
        network.load_state_dict(dict(weights), strict=strict)
    except RuntimeError as error:
        # the error has a heading, then one line for each tensor, also from the network's own checks
        words = misfits(network, weights, strict) or [str(error).splitlines()[-1].strip()]
        raise UsageError(f"does not fit {type(network).__name__}: {', '.join(words)}") from error


def misfits(network: nn.Module, weights: Mapping[str, Tensor], strict: bool) -> list[str]:
    """Return a few words for each kind of misfit; the network may be on the meta device."""
    ignored = is_derived if isinstance(network, RGT) else lambda key: False
    own = {key: tensor.shape for key, tensor in network.state_dict().items() if not ignored(key)}
    given = {key: tensor.shape for key, tensor in weights.items() if not ignored(key)}
    reshaped = [
        f"{key} ({_shape(given[key])} in the file, {_shape(own[key])} in the network)"
        for key in sorted(own.keys() & given.keys())
        if own[key] != given[key]
    ]
    kinds = {"other shapes of": reshaped}
    if strict:
        kinds = {
            "without": [key for key in own if key not in given],
            "with unknown": [key for key in given if key not in own],
            **kinds,
        }
    return [f"{words} {few(keys)}" for words, keys in kinds.items() if keys]


def _shape(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "a scalar"
