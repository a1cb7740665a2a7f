"""Reading checkpoints of every published layout, and training states, without running any code from the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from rgt_arch.errors import UsageError, few, naming
from rgt_arch.torch_files import SAFETENSORS, checkpoint_kind, load_data_only
from rgt_arch.weights.inspecting import is_rgt

PLAIN = ""
"""Name of the weights of a file that is a state dict itself, without `params` or `params_ema` around it."""

RECORD_KEYS = ("rgt_config", "rgt_info")
SAFETENSORS_ENTRY = "rgt"

_FIRST_KEY = "conv_first.weight"  # of every RGT
# Names that wrappers put between a network and its keys: DataParallel and DDP, torch.compile, checkpointing, FSDP.
# No module of RGT has such a name, so they are dropped everywhere.
_WRAPPERS = frozenset({"module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})


@dataclass(frozen=True)
class Checkpoint:
    """The content of one file: weights under one or more names, or a training state, and its own record."""

    path: Path
    kind: str
    """`torch_files.TORCH_ZIP`, `TORCH_LEGACY` or `SAFETENSORS`."""
    weights: Mapping[str, dict[str, Tensor]]
    """State dicts by name (`params`, `params_ema`, PLAIN, `state_dict.net_g`), without prefixes; tensors on the CPU."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Constructor arguments that the file carries (`rgt_config`); empty in official files."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """Other entries of our own files (`rgt_info`): `iteration`, and `param_key`, the weights' name in their source."""
    training: Mapping[str, Any] | None = None
    """The whole content of a BasicSR training state (`iter`, `epoch`, `optimizers`, `schedulers`); None for weights."""

    @property
    def iteration(self) -> int | None:
        """Iteration of the file: stored in it, or in BasicSR's file name (`net_g_5000.pth`, `5000.state`)."""
        stored = self.training.get("iter") if self.training else self.info.get("iteration")
        if isinstance(stored, int):
            return stored
        named = re.fullmatch(r"(?:net_\w+_)?(\d+)", self.path.stem)
        return int(named[1]) if named else None

    def resolve_key(self, param_key: str | None = None) -> str:
        """Return the name of the weights that `state_dict(param_key)` returns.

        None takes an RGT's weights, averaged ones first, then `params`, then a plain state dict. A named key that is
        missing falls back to the same order, like BasicSR to `params` (models/base_model.py:298). Raises UsageError for
        training states.
        """
        if not self.weights:
            raise UsageError(
                f"{self.path}: is a training state (optimiser and schedules of iteration {self.iteration}), not "
                f"weights; name {self.path.parent.parent / 'models' / f'net_g_{self.iteration}.pth'} or another one"
            )
        averaged = param_key is None or is_averaged(param_key)

        def rank(key: str) -> tuple[bool, ...]:
            named, average = self.is_named(key, param_key), is_averaged(key)
            return not named, not is_rgt(self.weights[key]), averaged != average, key != "params", key != PLAIN

        return min(self.weights, key=rank)

    def is_named(self, key: str, param_key: str | None) -> bool:
        """Whether `param_key` is the name of the weights `key` or a part of it, with `-` or `_`."""
        return param_key is not None and param_key.replace("-", "_") in (key, *key.split("."))

    @property
    def label(self) -> str:
        """The path for messages; with the names of the weights if there are several and none is an RGT's."""
        several = len(self.weights) > 1 and not any(map(is_rgt, self.weights.values()))
        return f"{self.path} ({', '.join(key or 'plain' for key in self.weights)})" if several else str(self.path)

    def state_dict(self, param_key: str | None = None) -> dict[str, Tensor]:
        """Return the weights named `param_key` as a new dict; see `resolve_key` for None and missing names."""
        return dict(self.weights[self.resolve_key(param_key)])


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a `.pth`, `.pt`, `.ckpt`, `.state` or `.safetensors` file; tensors stay memory-mapped where possible.

    Known layouts: a plain state dict, `{"params": …}`, `{"params_ema": …}`, both, dicts of other names (Lightning's
    `state_dict`) or depths, and BasicSR's training states. `infer_config` shows whether the weights are an RGT's.
    Raises UsageError in one line for a file that is not a checkpoint, or would run code.
    """
    path = Path(path).expanduser()
    kind = checkpoint_kind(path)
    content: Any
    if kind == SAFETENSORS:
        content, record = _read_safetensors(path)
    else:
        content = record = load_data_only(path, mmap=True)
    with naming(path):
        if not isinstance(content, Mapping):
            raise UsageError(f"is of type {type(content).__name__}, not a state dict; save network.state_dict()")
        config, info = (_plain_table(record, name) for name in RECORD_KEYS)
        if "iter" in content and "optimizers" in content:
            return Checkpoint(path, kind, {}, config, info, training=dict(content))
        weights = dict(_find_weights(content))
        if not weights:
            entries = few(f"{key} ({type(value).__name__})" for key, value in content.items()) or "none"
            raise UsageError(f"holds no weights (its entries: {entries}); expected a state dict, params or params_ema")
        return Checkpoint(path, kind, weights, config, info)


def strip_wrappers(key: str) -> str:
    """Remove the names that DataParallel, DDP, torch.compile and FSDP put into a state-dict key, in any order."""
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Return memory-mapped tensors, and the record of our own files ({} for other files)."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            record = json.loads((file.metadata() or {}).get(SAFETENSORS_ENTRY, "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, record  # noqa: SIM118 - safe_open is not a mapping
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"{path}: is a truncated or damaged safetensors file ({error}); download the weights again"
        ) from error


def _plain_table(record: Any, name: str) -> dict[str, Any]:
    """Return `rgt_config` or `rgt_info` of a file's record; UsageError unless it is a dict of JSON values."""
    part = record.get(name, {}) if isinstance(record, Mapping) else None
    try:
        json.dumps(part)
        return dict(part or {})
    except (TypeError, ValueError) as error:
        raise UsageError(f"its {name} is not a table of plain values; convert the original file again") from error


def is_averaged(name: str) -> bool:
    """Whether weights of this name are averaged over the training: `params_ema`, `ema`, `net_g_ema`, `swa`."""
    return re.search(r"(?:^|[^a-z])(?:ema|swa|averaged?)(?:[^a-z]|$)|EMA", name) is not None


def _find_weights(
    content: Mapping[Any, Any], name: str = PLAIN, depth: int = 2
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each network's weights with their name: the keys around them, and the prefix if several have one."""
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    if any(tensor.ndim for tensor in tensors.values()):
        yield from _split_networks(name, tensors)
    for key, value in named.items():
        if depth and isinstance(value, Mapping):
            yield from _find_weights(value, f"{name}.{key}".lstrip(".").replace("-", "_"), depth - 1)


def _split_networks(name: str, state_dict: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Remove wrappers' names and counters, and prefixes of a whole RGT, such as `net_g.`."""
    unwrapped = {strip_wrappers(key): tensor for key, tensor in state_dict.items()}
    if len(unwrapped) < len(state_dict):
        raise UsageError("holds the same weights with and without a wrapper's prefix; save one network alone")
    prefixes = [key.removesuffix(_FIRST_KEY) for key in unwrapped if f".{key}".endswith(f".{_FIRST_KEY}")]
    networks: dict[str, dict[str, Tensor]] = {prefix: {} for prefix in prefixes or [""]}
    for key, tensor in unwrapped.items():
        if owners := [prefix for prefix in networks if key.startswith(prefix)]:
            own = key.removeprefix(prefix := max(owners, key=len))
            # without the counters of wrappers, such as `n_averaged` of torch's AveragedModel
            if tensor.ndim or "." in own or not prefixes:
                networks[prefix][own] = tensor
    for prefix, tensors in networks.items():
        yield (f"{name}.{prefix}".strip(".").replace("-", "_") if len(networks) > 1 else name), tensors
