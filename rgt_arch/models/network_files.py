"""Network files of BasicSR models: reading any published layout, and writing with the iteration and the arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basicsr.utils import get_root_logger
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.errors import UsageError, UserError, few
from rgt_arch.weights.building import load_weights
from rgt_arch.weights.inspecting import constructor_arguments, is_derived


def load_file_weights(network: nn.Module, weights: Mapping[str, Tensor], path: str | Path, strict: bool) -> None:
    """`load_weights` for the file `path`: UserError naming the file, the first few keys and the option to change.

    Where `strict` is false, keys that are missing, unknown or of another shape must have been taken out of the way
    (BasicSR renames the latter); it is an error if then nothing is left to load.
    """
    if not strict:
        own = network.state_dict()
        common = own.keys() & weights.keys()
        if not common:
            raise UserError(
                f"{path}: has no weight in common with {type(network).__name__} (it holds {few(sorted(weights))}); "
                "check path.pretrain_network_g and network_g.type"
            )
        get_root_logger().info(f"{len(common)} of {len(own)} tensors come from the file.")
    try:
        load_weights(network, weights, strict)
    except UsageError as error:
        raise UserError(
            f"{path}: {error}; set network_g as the file was trained, or path.strict_load_g: false to take what fits"
        ) from error


def network_content(networks: Mapping[str, nn.Module], iteration: int) -> dict[str, Any]:
    """BasicSR's file, `{param_key: state dict}` on the CPU, of bare networks by param_key.

    Added are `rgt_info`, the iteration, and `rgt_config`, the arguments of an RGT.
    """
    content: dict[str, Any] = {"rgt_info": {"iteration": iteration}}
    derived: dict[str, Tensor] = {}  # the same for the network and its average: written once
    for key, network in networks.items():
        content[key] = state_dict = network.state_dict()
        for entry, tensor in state_dict.items():
            shared = isinstance(network, RGT) and is_derived(entry)
            state_dict[entry] = derived.setdefault(entry, tensor) if shared else tensor.cpu()
        if isinstance(network, RGT):
            content["rgt_config"] = constructor_arguments(network)
    return content
