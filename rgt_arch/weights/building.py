"""From checkpoints to networks and back to complete state dicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import RGT, LocalAttention, TransformerBlock
from rgt_arch.errors import UsageError
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
        load_strictly(network, state_dict)
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


def load_strictly(network: RGT, state_dict: Mapping[str, Tensor]) -> None:
    """Load every weight, with or without the derived tensors; UsageError names the first weights that do not fit."""
    expected = {key: parameter.shape for key, parameter in network.named_parameters()}
    given = {key: tensor.shape for key, tensor in state_dict.items() if not is_derived(key)}
    missing = [key for key in expected if key not in given]
    foreign = [key for key in given if key not in expected]
    other = [
        f"{key} ({tuple(given[key])} instead of {tuple(shape)})"
        for key, shape in expected.items()
        if key in given and given[key] != shape
    ]
    for words, keys in (("misses", missing), ("has foreign", foreign), ("has other shapes for", other)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise UsageError(f"{words} {', '.join(keys[:3])}{more}; it is no complete RGT of one kind")
    try:
        network.load_state_dict(dict(state_dict))
    except RuntimeError as error:
        lines = str(error).splitlines()  # a heading, then one line for each tensor that does not fit
        raise UsageError(lines[min(1, len(lines) - 1)].strip()) from error


def complete_state_dict(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state dict in the official order with fresh derived tensors, which share storage across blocks.

    The weights are the given tensors themselves, in their own dtype. Raises UsageError if they do not fit `config`.
    """
    network = build_network(config)
    load_strictly(network, state_dict)
    return {key: tensor if is_derived(key) else state_dict[key] for key, tensor in network.state_dict().items()}


def constructor_arguments(network: nn.Module) -> dict[str, Any]:
    """What the tensors of an RGT, also of a wrapped or compiled one, do not show of the arguments it was built with."""
    bare = next((module for module in network.modules() if isinstance(module, RGT)), None)
    if bare is None:
        raise UsageError(f"a {type(network).__name__} is not an RGT; save its state dict with torch.save")
    block = bare.get_submodule("layers.0.blocks.0")
    attention = block.attn
    assert isinstance(block, TransformerBlock)
    assert isinstance(attention, LocalAttention)
    arguments: dict[str, Any] = {
        "img_range": bare.img_range,
        "recursion": bare.recursion,
        "split_size": list(bare.split_size),
        "hai": block.hai,
    }
    usual = attention.head_dim**-0.5
    return {**arguments, "qk_scale": None if attention.scale == usual else attention.scale}
