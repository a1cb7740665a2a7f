"""Loading weights into a model's network, what its files hold, and best metrics as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.errors import UsageError, UserError
from rgt_arch.weights.fitting import few, load_weights
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


def are_finite(network: nn.Module) -> bool:
    """Whether no parameter is infinite or NaN."""
    norms = [parameter.detach().abs().amax() for parameter in network.parameters() if parameter.numel()]
    return not norms or bool(torch.stack(norms).isfinite().all())


def plain_metrics(best: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """BasicSR's best metric results with Python numbers only: NumPy's would be refused by `weights_only` loading."""
    return {
        dataset: {
            metric: {"better": str(entry["better"]), "val": float(entry["val"]), "iter": entry["iter"]}
            for metric, entry in record.items()
        }
        for dataset, record in best.items()
    }


def read_best_metrics(stored: Any) -> dict[str, dict[str, dict[str, Any]]]:
    """What `plain_metrics` wrote, out of a training state; entries of another form are left out."""
    best: dict[str, dict[str, dict[str, Any]]] = {}
    for dataset, record in stored.items() if isinstance(stored, Mapping) else ():
        entries = record.items() if isinstance(record, Mapping) else ()
        best[dataset] = {
            metric: dict(entry)
            for metric, entry in entries
            if isinstance(entry, Mapping) and {"better", "val", "iter"} <= entry.keys() and not math.isnan(entry["val"])
        }
    return best
