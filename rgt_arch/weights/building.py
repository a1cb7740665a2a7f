"""From checkpoints to networks and back to complete state dicts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.errors import UsageError
from rgt_arch.weights import zoo
from rgt_arch.weights.fitting import load_weights
from rgt_arch.weights.inspecting import infer_config, is_derived
from rgt_arch.weights.reading import read_checkpoint


def load_model(path: str | Path, device: str | torch.device = "cpu", **overrides: Any) -> RGT:
    """The network that a checkpoint holds, built from what the file shows, loaded strictly, in eval mode on `device`.

    path: a name of the zoo (see `resolve_path`), or any file that `read_checkpoint` reads; EMA weights are taken where
    there are some. overrides: constructor arguments that the file cannot tell (`img_range`, `hai`) or that do not
    change the weights (`use_chk`).
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
    """The file that a name of the zoo or a path stands for; published weights are downloaded where they are not here.

    An existing file goes before a name. Raises UsageError for what is neither, with the nearest name.
    """
    text, path = os.fspath(name), Path(name).expanduser()
    if path.exists() and not path.is_dir():
        return path
    if zoo.find_entry(text) is None:
        meant = zoo.find_entry(path.stem)
        if meant and not path.exists():
            raise UsageError(f"{path}: no such file; the published weights go by the bare name {meant.name}")
        if path.exists() or path.suffix or "/" in text or os.sep in text or text.startswith("~"):
            return path  # the reader says what is wrong with it, and which checkpoints are near
    return zoo.fetch(zoo.named(text))


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
