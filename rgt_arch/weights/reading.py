"""Reading checkpoints of every published layout, and training states, without running any code from the file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from rgt_arch.errors import UsageError, few, naming
from rgt_arch.torch_files import SAFETENSORS, checkpoint_kind, load_data_only

PLAIN = ""
"""Name of the weights of a file that is a state dict itself, without `params` or `params_ema` around it."""

RECORD_KEYS = ("rgt_config", "rgt_info")
SAFETENSORS_ENTRY = "rgt"

# Order of preference if no weights are named: averaged ones first, as in published files and spandrel.
_PREFERENCE = ("params_ema", "params", PLAIN)
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
    """State dicts by name (`params`, `params_ema`, PLAIN); wrapper prefixes are gone; tensors are on the CPU."""
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

        None takes `params_ema`, else `params`, else a plain state dict. A named key that is missing falls back to
        `params` as BasicSR does (models/base_model.py:298), else to an RGT's weights under any name. Raises UsageError
        for training states.
        """
        if not self.weights:
            raise UsageError(
                f"{self.path}: is a training state (optimiser and schedules of iteration {self.iteration}), not "
                f"weights; name {self.path.parent.parent / 'models' / f'net_g_{self.iteration}.pth'} or another one"
            )
        wanted = _PREFERENCE if param_key is None else (param_key, "params", PLAIN)
        others = [key for key, weights in self.weights.items() if _FIRST_KEY in weights] or list(self.weights)
        return next(key for key in (*wanted, *others) if key in self.weights)

    def state_dict(self, param_key: str | None = None) -> dict[str, Tensor]:
        """Return the weights named `param_key` as a new dict; see `resolve_key` for None and missing names."""
        return dict(self.weights[self.resolve_key(param_key)])


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a `.pth`, `.pt`, `.ckpt`, `.state` or `.safetensors` file; tensors stay memory-mapped where possible.

    Known layouts: a plain state dict, `{"params": …}`, `{"params_ema": …}`, both, any other single name around one
    (Lightning's `state_dict`), and BasicSR's training states. `infer_config` shows whether the weights are an RGT's.
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
        named = {PLAIN: content} if _is_state_dict(content) else content
        weights = {
            str(name).replace("-", "_"): _unwrap_keys(value) for name, value in named.items() if _is_state_dict(value)
        }
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


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items())
    )


def _unwrap_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove wrappers' names and counters, and a prefix that all keys of the RGT have, such as `net_g.`."""
    kept = {key: tensor for key, tensor in state_dict.items() if key != "n_averaged"}  # torch's AveragedModel
    unwrapped = {strip_wrappers(key): tensor for key, tensor in kept.items()}
    if len(unwrapped) < len(kept):
        raise UsageError("holds the same weights with and without a wrapper's prefix; save one network alone")
    prefixes = [key.removesuffix(_FIRST_KEY) for key in unwrapped if key.endswith(f".{_FIRST_KEY}")]
    if _FIRST_KEY in unwrapped or len(prefixes) != 1:
        return unwrapped
    return {key.removeprefix(prefixes[0]): value for key, value in unwrapped.items() if key.startswith(prefixes[0])}
