"""Loading weights into a network, and saying in one line what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import RGT
from rgt_arch.errors import UsageError
from rgt_arch.weights.inspecting import is_derived


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], strict: bool = True) -> None:
    """`load_state_dict`; UsageError names the first few weights that are missing, unknown or of another shape.

    An RGT's derived tensors may be missing. Where `strict` is false, weights of another shape are still an error:
    take them out first.
    """
    try:
        network.load_state_dict(dict(weights), strict=strict)
    except RuntimeError as error:
        # a heading, then one line for each tensor, among them the network's own refusals
        words = misfits(network, weights, strict) or [str(error).splitlines()[-1].strip()]
        raise UsageError(f"does not fit {type(network).__name__}: {', '.join(words)}") from error


def few(names: Iterable[str]) -> str:
    """The first names of many, and how many more there are."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def misfits(network: nn.Module, weights: Mapping[str, Tensor], strict: bool) -> list[str]:
    """What does not fit, each kind in a few words; the network may be on the meta device."""
    ignored = is_derived if isinstance(network, RGT) else lambda key: False
    own = {key: tensor.shape for key, tensor in network.state_dict().items() if not ignored(key)}
    given = {key: tensor.shape for key, tensor in weights.items() if not ignored(key)}
    missing = [key for key in own if key not in given] if strict else []
    unknown = [key for key in given if key not in own] if strict else []
    reshaped = [
        f"{key} ({_shape(given[key])} in the file, {_shape(own[key])} in the network)"
        for key in own.keys() & given.keys()
        if own[key] != given[key]
    ]
    return [
        f"{words} {few(keys)}"
        for words, keys in (("without", missing), ("with unknown", unknown), ("other shapes of", sorted(reshaped)))
        if keys
    ]


def _shape(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "a scalar"
