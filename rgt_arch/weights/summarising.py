"""What `rgt info` reports about a checkpoint or a training state, as plain values and as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rgt_arch.errors import UsageError
from rgt_arch.weights.building import resolve_path
from rgt_arch.weights.inspecting import assumed_arguments, infer_config, is_derived, preset_name
from rgt_arch.weights.reading import PLAIN, Checkpoint, read_checkpoint

HAI_UNTOLD = "identity or none"


def summarise(path: str | Path) -> dict[str, Any]:
    """JSON-ready facts about a file; `content` is `weights` or `training state` and decides which others are there.

    Raises UsageError in one line for a file that is not a checkpoint of an RGT.
    """
    checkpoint = read_checkpoint(resolve_path(path))
    facts: dict[str, Any] = {
        "file": str(checkpoint.path),
        "format": checkpoint.kind,
        "bytes": checkpoint.path.stat().st_size,
        "content": "training state" if checkpoint.training is not None else "weights",
        "iteration": checkpoint.iteration,
    }
    try:
        rest = _weights_facts(checkpoint) if checkpoint.training is None else _training_facts(checkpoint.training)
    except UsageError as error:
        raise UsageError(f"{checkpoint.path}: {error}") from error
    return facts | rest


def format_summary(facts: Mapping[str, Any]) -> str:
    """The facts as an aligned table for people."""
    rows = _training_rows(facts) if facts["content"] == "training state" else _weights_rows(facts)
    size = f"{facts['bytes'] / 1e6:.1f} MB, {facts['format']}"
    rows = [("file", facts["file"]), ("content", facts["content"]), ("size", size), *rows]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _weights_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    state_dict = checkpoint.state_dict()
    weights = {key: tensor for key, tensor in state_dict.items() if not is_derived(key)}
    hai_untold = not any(key.endswith(".gamma") for key in weights) and "hai" not in checkpoint.config
    recorded = {**checkpoint.config, **({"hai": "none"} if hai_untold else {})}
    config = infer_config(state_dict, recorded)
    shown = checkpoint.resolve_key()
    return {
        "architecture": "RGT",
        "preset": preset_name(config),
        "scale": config["upscale"],
        "arguments": {**config, "hai": HAI_UNTOLD} if hai_untold else config,
        "assumed_arguments": assumed_arguments(state_dict, recorded),
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "weights": [key or "plain" for key in checkpoint.weights],
        "shown": shown or "plain",
        "ema": _is_ema(checkpoint, shown),
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()}),
        "not_finite": sum(int((~torch.isfinite(tensor)).sum()) for tensor in weights.values()),
        "derived_bytes": _stored_bytes(
            tensor for held in checkpoint.weights.values() for key, tensor in held.items() if is_derived(key)
        ),
        "training_state": _state_beside(checkpoint),
    }


def _is_ema(checkpoint: Checkpoint, shown: str) -> bool | None:
    """Whether the shown weights are an average over training; None where the file does not say."""
    if "params_ema" in (shown, checkpoint.info.get("param_key")):
        return True
    return None if shown == PLAIN and "param_key" not in checkpoint.info else False


def _stored_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes that tensors take in a file, where those that share a storage are written once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def _state_beside(checkpoint: Checkpoint) -> str | None:
    """The training state of the same iteration in BasicSR's folders, from which a run can go on."""
    state = checkpoint.path.parent.parent / "training_states" / f"{checkpoint.iteration}.state"
    return str(state) if state.is_file() else None


def _training_facts(state: Mapping[str, Any]) -> dict[str, Any]:
    """`iter` and `epoch` as BasicSR counts them (models/base_model.py:343), and what the optimisers were set to."""
    try:
        groups = [group for optimizer in state["optimizers"] for group in optimizer["param_groups"]]
        return {
            "epoch": state.get("epoch"),
            "learning_rates": [float(group["lr"]) for group in groups],
            "optimizers": [_optimizer_name(optimizer["param_groups"][0]) for optimizer in state["optimizers"]],
            "optimized_tensors": sum(len(group["params"]) for group in groups),
            "schedulers": len(state.get("schedulers", ())),
        }
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UsageError(f"is not a training state of BasicSR ({type(error).__name__}: {error})") from error


def _optimizer_name(group: Mapping[str, Any]) -> str:
    """State dicts do not name their class, their settings give it away."""
    if "betas" in group and "amsgrad" in group:
        return "AdamW" if group.get("decoupled_weight_decay") else "Adam"
    return "SGD" if "nesterov" in group else "another optimiser"


def _weights_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    derived, assumed = facts["derived_bytes"], facts["assumed_arguments"]
    iteration = "not known" if facts["iteration"] is None else f"{facts['iteration']:,}"
    state = f" (training state: {facts['training_state']})" if facts["training_state"] else ""
    own = "" if facts["preset"] else ", arguments of its own"
    rows = [
        ("architecture", f"{facts['preset'] or facts['architecture']} ×{facts['scale']}{own}"),
        ("parameters", f"{facts['parameters']:,} in {' and '.join(facts['dtypes'])}"),
        ("weights", ", ".join(facts["weights"]) + (f" ({facts['shown']} shown)" if len(facts["weights"]) > 1 else "")),
        ("EMA", {True: "yes", False: "no", None: "not known"}[facts["ema"]]),
        ("iteration", iteration + state),
        ("derived", f"{derived / 1e6:.1f} MB ({derived / facts['bytes']:.0%} of the file)" if derived else "none"),
    ]
    if facts["not_finite"]:
        rows.append(
            ("damage", f"{facts['not_finite']:,} values are NaN or infinite: this network gives black pictures")
        )
    arguments = {name: _value_text(value) for name, value in facts["arguments"].items()}
    rows += [(name, text) for name, text in arguments.items() if name not in assumed]
    if assumed:
        rows.append(
            ("not in file", "assumed as published: " + ", ".join(f"{name} {arguments[name]}" for name in assumed))
        )
    return rows


def _training_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("iteration", f"{facts['iteration']:,}"),
        ("epoch", str(facts["epoch"])),
        ("optimiser", f"{', '.join(facts['optimizers'])} over {facts['optimized_tensors']:,} tensors"),
        ("learning rate", ", ".join(f"{rate:g}" for rate in facts["learning_rates"])),
        ("schedulers", str(facts["schedulers"])),
    ]


def _value_text(value: object) -> str:
    """One argument as an option file has it."""
    words = {True: "true", False: "false", None: "~"}
    return words[value] if isinstance(value, bool) or value is None else str(value)
