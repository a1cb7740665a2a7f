"""From checkpoints to networks and back to complete state dicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.errors import UsageError
from rgt_arch.weights.fitting import load_weights
from rgt_arch.weights.inspecting import infer_config, is_derived
from rgt_arch.weights.reading import read_checkpoint


def load_model(path: str | Path, device: str | torch.device = "cpu", **overrides: Any) -> RGT:
    """The network that a checkpoint holds, built from what the file shows, loaded strictly, in eval mode on `device`.

    path: any file that `read_checkpoint` reads; EMA weights are taken where there are some. overrides: constructor
    arguments that the file cannot tell (`img_range`, `hai`) or that do not change the weights (`use_chk`).
    Parameters are float32 whatever the file's dtype. Raises UsageError in one line naming the file.
    """
    checkpoint = read_checkpoint(resolve_path(path))
    state_dict = checkpoint.state_dict()
    try:
        network = build_network(infer_config(state_dict, {**checkpoint.config, **overrides}))
        load_weights(network, state_dict)
    except UsageError as error:
        raise UsageError(f"{checkpoint.path}: {error}") from error
    return network.eval().to(device)


def resolve_path(name: str | Path) -> Path:
    """The file that a name stands for; today every name is a path."""
    return Path(name).expanduser()


def build_network(config: Mapping[str, Any]) -> RGT:
    """An RGT with these constructor arguments. Raises UsageError where the network refuses them."""
    try:
        return RGT(**config)
    except (TypeError, ValueError) as error:
        raise UsageError(f"no RGT has these arguments: {error}") from error


def complete_state_dict(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state dict in the official order with fresh derived tensors, which share storage across blocks.

    The weights are the given tensors themselves, in their own dtype. Raises UsageError if they do not fit `config`.
    """
    network = build_network(config)
    load_weights(network, state_dict)
    return {key: tensor if is_derived(key) else state_dict[key] for key, tensor in network.state_dict().items()}
