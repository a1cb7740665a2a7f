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

from rgt_arch import file_kinds
from rgt_arch.errors import UsageError
from rgt_arch.torch_files import load_data_only
from rgt_arch.weights.fitting import few

PLAIN = ""
"""Name of the weights of a file that is a state dict itself, without `params` or `params_ema` around it."""

RECORD_KEYS = ("rgt_config", "rgt_info")
SAFETENSORS_ENTRY = "rgt"

# Which weights are taken when none are named: the averaged ones, as published files and spandrel have it.
_PREFERENCE = ("params_ema", "params", PLAIN)
_FIRST_KEY = "conv_first.weight"  # of every RGT
# Names that wrappers put between a network and its keys: DataParallel and DDP, torch.compile, checkpointing, FSDP.
# No module of RGT has such a name, so they are dropped wherever they stand.
_WRAPPERS = frozenset({"module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})


@dataclass(frozen=True)
class Checkpoint:
    """The content of one file: weights under one or more names, or a training state, and its own record."""

    path: Path
    kind: str
    """`file_kinds.TORCH_ZIP`, `TORCH_LEGACY` or `SAFETENSORS`."""
    weights: Mapping[str, dict[str, Tensor]]
    """State dicts by name (`params`, `params_ema`, PLAIN); wrapper prefixes are gone; tensors are on the CPU."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Constructor arguments that the file carries (`rgt_config`); empty in official files."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """What else our own files carry (`rgt_info`): `iteration`, `param_key` they came from."""
    training: Mapping[str, Any] | None = None
    """The whole content of a BasicSR training state (`iter`, `epoch`, `optimizers`, `schedulers`); None for weights."""

    @property
    def iteration(self) -> int | None:
        """Iteration that the file is of: stored in it, or in BasicSR's file name (`net_g_5000.pth`, `5000.state`)."""
        stored = (self.training or self.info).get("iter" if self.training else "iteration")
        if isinstance(stored, int):
            return stored
        named = re.fullmatch(r"(?:net_\w+_)?(\d+)", self.path.stem)
        return int(named[1]) if named else None

    def resolve_key(self, param_key: str | None = None) -> str:
        """Name of the weights that `state_dict(param_key)` returns; differs from `param_key` where that is missing.

        None takes `params_ema`, else `params`, else a plain state dict. A named key that is missing falls back to
        `params` as BasicSR does (models/base_model.py:298), else to an RGT's weights under any name. UsageError for
        training states.
        """
        if not self.weights:
            raise UsageError(f"{self.path}: {self._why_no_weights()}")
        wanted = _PREFERENCE if param_key is None else (param_key, "params", PLAIN)
        others = [key for key, weights in self.weights.items() if _FIRST_KEY in weights] or list(self.weights)
        return next(key for key in (*wanted, *others) if key in self.weights)

    def state_dict(self, param_key: str | None = None) -> dict[str, Tensor]:
        """The weights named `param_key` as a new dict; see `resolve_key` for what None and missing names give."""
        return dict(self.weights[self.resolve_key(param_key)])

    def _why_no_weights(self) -> str:
        beside = self.path.parent.parent / "models" / f"net_g_{self.iteration}.pth"
        where = beside if beside.is_file() else "the net_g_*.pth of the same iteration in the run's models folder"
        return f"is a training state (optimiser and schedules of iteration {self.iteration}), not weights; name {where}"


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a `.pth`, `.pt`, `.ckpt`, `.state` or `.safetensors` file; tensors stay memory-mapped where that works.

    Known layouts: a plain state dict, `{"params": …}`, `{"params_ema": …}`, both, any other single name around one
    (Lightning's `state_dict`), and BasicSR's training states. Whether the weights are an RGT's is `infer_config`'s job.
    Raises UsageError in one line for a file that is not a checkpoint, or would run code.
    """
    path = Path(path).expanduser()
    kind = file_kinds.checkpoint_kind(path)
    if kind == file_kinds.SAFETENSORS:
        tensors, record = _read_safetensors(path)
        return Checkpoint(path, kind, {PLAIN: _unwrap_keys(path, tensors)}, *_parse_record(path, record))
    content = load_data_only(path, mmap=True)
    if not isinstance(content, Mapping):
        raise UsageError(f"{path}: holds {_a(content)}, not a state dict; save network.state_dict() instead")
    config, info = _parse_record(path, content)
    if "iter" in content and "optimizers" in content:
        return Checkpoint(path, kind, {}, config, info, training=dict(content))
    if _is_state_dict(content):
        weights = {PLAIN: content}
    else:
        named = {name: value for name, value in content.items() if isinstance(name, str) and _is_state_dict(value)}
        weights = {name.replace("-", "_"): value for name, value in named.items()}
    if not weights:
        entries = few(f"{key} ({type(value).__name__})" for key, value in content.items()) or "none"
        raise UsageError(
            f"{path}: holds no weights (its entries: {entries}); expected a state dict, params or params_ema"
        )
    return Checkpoint(path, kind, {name: _unwrap_keys(path, value) for name, value in weights.items()}, config, info)


def strip_wrappers(key: str) -> str:
    """A state-dict key without the names that DataParallel, DDP, torch.compile and FSDP put into it, in any order."""
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, memory-mapped, and the record of our own files ({} in others')."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        reason = "its end is missing" if "incomplete" in str(error) else str(error)
        raise UsageError(
            f"{path}: is a truncated or damaged safetensors file ({reason}); download the weights again"
        ) from error
    if not tensors:
        raise UsageError(f"{path}: is a safetensors file without tensors; name one that holds weights")
    try:
        record = json.loads(metadata.get(SAFETENSORS_ENTRY, "{}"))
        for name in set(RECORD_KEYS) & metadata.keys():
            record[name] = json.loads(metadata[name])
    except (json.JSONDecodeError, TypeError) as error:
        raise UsageError(f"{path}: its metadata is not JSON ({error}); convert the original file again") from error
    return tensors, record


def _parse_record(path: Path, record: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """`rgt_config` and `rgt_info` of a file's record, checked to be dicts of plain values."""
    parts = []
    for name in RECORD_KEYS:
        part = record.get(name, {}) if isinstance(record, Mapping) else None
        if not isinstance(part, Mapping) or not all(isinstance(key, str) and _is_plain(part[key]) for key in part):
            raise UsageError(f"{path}: its {name} is not a table of plain values; convert the original file again")
        parts.append(dict(part))
    return parts[0], parts[1]


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(isinstance(item, (int, float, str)) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items())
    )


def _unwrap_keys(path: Path, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without wrappers' names and counters, and without a prefix that all keys of the RGT have, such as `net_g.`."""
    kept = {key: tensor for key, tensor in state_dict.items() if key != "n_averaged"}  # torch's AveragedModel
    unwrapped = {strip_wrappers(key): tensor for key, tensor in kept.items()}
    if len(unwrapped) < len(kept):
        raise UsageError(f"{path}: holds the same weights with and without a wrapper's prefix; save one network alone")
    prefixes = [key.removesuffix(_FIRST_KEY) for key in unwrapped if key.endswith(f".{_FIRST_KEY}")]
    if _FIRST_KEY in unwrapped or len(prefixes) != 1:
        return unwrapped
    return {key.removeprefix(prefixes[0]): value for key, value in unwrapped.items() if key.startswith(prefixes[0])}


def _a(content: object) -> str:
    name = type(content).__name__
    return f"{'an' if name[0] in 'aeio' else 'a'} {name}"
