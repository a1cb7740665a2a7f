"""Writing checkpoints whole or not at all: slim files, and layouts that the official code and spandrel load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from rgt_arch.errors import UsageError, naming
from rgt_arch.files import check_output, written_whole
from rgt_arch.torch_files import CHECKPOINT_SUFFIXES, save_whole
from rgt_arch.weights.building import build_network, load_weights
from rgt_arch.weights.inspecting import assumed_arguments, constructor_arguments, infer_config, is_derived, readers
from rgt_arch.weights.reading import RECORD_KEYS, SAFETENSORS_ENTRY, read_checkpoint, strip_wrappers
from rgt_arch.weights.zoo import resolve_path


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
    slim: leave out the derived tensors (70 % of an official file); only this package reads such a file. The default is
    True for safetensors, else False, because the official code and spandrel load the other layout strictly.
    config: constructor arguments that tensors cannot show (a network brings its own). info: plain values to keep, such
    as `iteration`. Raises UsageError for unfit arguments and weights, UserError if the file cannot be written.
    """
    path = Path(path).expanduser()
    safe = _is_safetensors(path)
    if isinstance(weights, nn.Module):
        config = {**constructor_arguments(weights), **(config or {})}
        weights = weights.state_dict()
    state_dict = {strip_wrappers(key): tensor.detach() for key, tensor in weights.items()}
    full_config = infer_config(state_dict, config)
    assumed = assumed_arguments(state_dict, config)
    network = build_network(full_config)
    load_weights(network, state_dict)
    # in the official order; the derived tensors are new and share storage across blocks
    state_dict = {
        key: tensor if is_derived(key) else state_dict[key].cpu()
        for key, tensor in network.state_dict().items()
        if not (is_derived(key) and (safe if slim is None else slim))
    }
    # an assumed value is not recorded as known
    known = {name: value for name, value in full_config.items() if name not in assumed}
    record = dict(zip(RECORD_KEYS, (known, dict(info or {})), strict=True))
    if safe:
        # safetensors refuses tensors that share storage. One metadata entry: several are written in a random order
        owned = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in state_dict.items()}
        with written_whole(path) as beside:
            beside.write_bytes(safetensors.torch.save(owned, metadata={SAFETENSORS_ENTRY: json.dumps(record)}))
    else:
        save_whole({"params": state_dict, **record}, path)
    return path


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    *,
    param_key: str | None = None,
    half: bool = False,
    slim: bool | None = None,
    overwrite: bool = False,
    known: Mapping[str, Any] | None = None,
) -> str:
    """Write one set of weights of `source` as a release file without optimiser, wrappers and second set of weights.

    The suffix of `target` decides the layout: `.safetensors`, or the official `{"params": …}`. param_key: name of the
    weights, by default the EMA weights if `source` has them; half: float16 weights; slim: see `save_checkpoint`; known:
    constructor arguments that `source` lacks. Returns three lines of text: the content, both sizes, and its readers.
    Raises UsageError before anything is written.
    """
    source, target = resolve_path(source), Path(target).expanduser()
    safe = _is_safetensors(target)
    checkpoint = read_checkpoint(source)
    check_output("output", target, [source], overwrite=overwrite)
    used = checkpoint.resolve_key(param_key)
    if param_key is not None and not checkpoint.is_named(used, param_key):
        held = " and ".join(key or "a plain state dict" for key in checkpoint.weights)
        raise UsageError(f"{source}: has no {param_key}, it holds {held}; leave --key out or name what it holds")
    state_dict = checkpoint.state_dict(param_key)
    slim = safe if slim is None else slim
    info: dict[str, Any] = {**({"param_key": used} if used else {}), **checkpoint.info}
    if checkpoint.iteration is not None:
        info["iteration"] = checkpoint.iteration
    with naming(checkpoint.label):
        if half:
            state_dict = {key: _halved(key, tensor) for key, tensor in state_dict.items()}
        config = {**checkpoint.config, **(known or {})}
        save_checkpoint(target, state_dict, slim=slim, config=config, info=info)
    dtype = str(state_dict["conv_first.weight"].dtype).removeprefix("torch.")
    layout = "safetensors" if safe else "official layout (params)"
    content = "without derived tensors" if slim else "with the derived tensors"
    whom = "this package alone, without derived tensors" if slim else readers(infer_config(state_dict, config))
    before, after = source.stat().st_size / 1e6, target.stat().st_size / 1e6
    return (
        f"{target}: {used or 'plain'} weights of {source.name}, {dtype}, {layout}, {content}\n"
        f"{before:.1f} MB before, {after:.1f} MB after\n"
        f"readable for {whom}"
    )


def _is_safetensors(path: Path) -> bool:
    """Whether the suffix means safetensors, else torch.save's format. Raises UsageError for other suffixes."""
    suffix = path.suffix.lower()
    if suffix not in CHECKPOINT_SUFFIXES:
        raise UsageError(f"{path}: unknown suffix {suffix!r}; take {', '.join(CHECKPOINT_SUFFIXES)}")
    return suffix == ".safetensors"


def _halved(key: str, tensor: Tensor) -> Tensor:
    """Convert to float16, except integers and derived tensors. Raises UsageError for values outside its range."""
    if is_derived(key) or not tensor.is_floating_point():
        return tensor
    halved = tensor.to(torch.float16)
    if not torch.isfinite(halved).all():
        raise UsageError(f"{key} has values that float16 cannot hold (beyond 65504, or not finite); leave --half out")
    return halved
