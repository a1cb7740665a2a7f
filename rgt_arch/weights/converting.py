"""Turning one checkpoint into another: release files, slim files, half precision, the official layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rgt_arch.errors import UsageError
from rgt_arch.weights.building import resolve_path
from rgt_arch.weights.inspecting import is_derived, require_rgt
from rgt_arch.weights.reading import read_checkpoint
from rgt_arch.weights.writing import is_safetensors, save_checkpoint


@dataclass(frozen=True)
class Conversion:
    """What a conversion did; sizes in bytes."""

    source: Path
    target: Path
    param_key: str
    """The weights taken: `params`, `params_ema` or PLAIN."""
    slim: bool
    dtype: str
    size_before: int
    size_after: int


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    *,
    param_key: str | None = None,
    half: bool = False,
    slim: bool | None = None,
    overwrite: bool = False,
    known: Mapping[str, Any] | None = None,
) -> Conversion:
    """Write one set of weights of `source` as a release file without optimiser, wrappers and second set of weights.

    The suffix of `target` decides the layout: `.safetensors`, or the official `{"params": …}`. param_key: which
    weights, by default the EMA's if there are some; half: float16 weights; slim: see `save_checkpoint`; known:
    constructor arguments that the file cannot tell. Raises UsageError before anything is written.
    """
    source, target = resolve_path(source), Path(target).expanduser()
    safe = is_safetensors(target)
    checkpoint = read_checkpoint(source)
    if target.exists():
        if target.samefile(source):
            raise UsageError(f"{target}: input and output are the same file; name another output")
        if not overwrite:
            raise UsageError(f"{target}: exists already; pass --overwrite or name another output")
    used = checkpoint.resolve_key(param_key)
    if param_key is not None and used != param_key:
        held = " and ".join(key or "a plain state dict" for key in checkpoint.weights)
        raise UsageError(f"{source}: has no {param_key}, it holds {held}; leave --key out or name what it holds")
    state_dict = checkpoint.state_dict(param_key)
    slim = safe if slim is None else slim
    try:
        require_rgt(state_dict)
        if half:
            state_dict = {
                key: tensor if is_derived(key) else _halved(key, tensor) for key, tensor in state_dict.items()
            }
        info: dict[str, Any] = {**({"param_key": used} if used else {}), **checkpoint.info}
        if checkpoint.iteration is not None:
            info["iteration"] = checkpoint.iteration
        size_before = source.stat().st_size  # now, because the target may be a link to it
        save_checkpoint(target, state_dict, slim=slim, config={**checkpoint.config, **(known or {})}, info=info)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error
    dtype = str(state_dict["conv_first.weight"].dtype).removeprefix("torch.")
    return Conversion(source, target, used, slim, dtype, size_before, target.stat().st_size)


def describe_conversion(done: Conversion) -> str:
    """Two lines for people: what was written, and the size before and after."""
    layout = "safetensors" if done.target.suffix.lower() == ".safetensors" else "official layout (params)"
    content = "without derived tensors, for this package" if done.slim else "with the derived tensors"
    return (
        f"{done.target}: {done.param_key or 'plain'} weights of {done.source.name}, {done.dtype}, {layout}, {content}\n"
        f"{done.size_before / 1e6:.1f} MB before, {done.size_after / 1e6:.1f} MB after"
    )


def _halved(key: str, tensor: Tensor) -> Tensor:
    """float16, unless a value leaves its range; whole numbers stay as they are."""
    if not tensor.is_floating_point():
        return tensor
    halved = tensor.to(torch.float16)
    if not torch.isfinite(halved).all():
        raise UsageError(f"{key} has values that float16 cannot hold (beyond 65504, or not finite); leave --half out")
    return halved
