"""Loading weights into a network with errors in one line, and best metrics as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basicsr.utils import get_root_logger
from torch import Tensor, nn

from rgt_arch.errors import UserError


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], path: str | Path, strict: bool) -> None:
    """`load_state_dict` whose failures are one line: UserError naming the file, the first few keys and the remedy.

    Where `strict` is false, keys that are missing, unknown or of another shape must have been taken out of the way
    (BasicSR renames the latter); it is an error if then nothing is left to load.
    """
    own = network.state_dict()
    common = own.keys() & weights.keys()
    if not strict and not common:
        raise UserError(
            f"{path}: has no weight in common with {type(network).__name__} (it holds {_few(weights)}); "
            "check path.pretrain_network_g and network_g.type"
        )
    if not strict:
        get_root_logger().info(f"{len(common)} of {len(own)} tensors come from the file.")
    try:
        network.load_state_dict(weights, strict=strict)
    except RuntimeError as error:
        missing = own.keys() - weights.keys()
        unknown = weights.keys() - own.keys()
        reshaped = [
            f"{key} is {_shape(weights[key])} in the file and {_shape(own[key])} in the network"
            for key in sorted(common)
            if own[key].shape != weights[key].shape
        ]
        reasons = [f"without {_few(missing)}"] * bool(missing) + [f"with unknown {_few(unknown)}"] * bool(unknown)
        if reshaped:
            reasons.append("; ".join(reshaped[:2]) + (f" and {len(reshaped) - 2} more" if len(reshaped) > 2 else ""))
        if not reasons:  # the network's own refusal
            reasons = [" ".join(str(error).split())]
        raise UserError(
            f"{path}: does not fit {type(network).__name__}: {', '.join(reasons)}; set network_g as the file was "
            "trained, or path.strict_load_g: false to take what fits"
        ) from error


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


def _few(keys: Any) -> str:
    names = sorted(keys)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a scalar"
