"""Facts that `rgt info` reports about a checkpoint or a training state, as plain values and as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rgt_arch.errors import UsageError, naming
from rgt_arch.weights.inspecting import assumed_arguments, infer_config, is_derived, preset_name, readers
from rgt_arch.weights.reading import PLAIN, Checkpoint, is_averaged, read_checkpoint
from rgt_arch.weights.zoo import resolve_path


def summarise(path: str | Path) -> dict[str, Any]:
    """Return JSON-ready facts about a file; `content` is `weights` or `training state` and decides the other facts.

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
    with naming(checkpoint.label):
        if checkpoint.training is not None:
            return facts | _training_facts(checkpoint.training)
        return facts | _weights_facts(checkpoint)


def format_summary(facts: Mapping[str, Any]) -> str:
    """Return the facts as an aligned table of text."""
    rows = {
        "file": facts["file"],
        "content": facts["content"],
        "size": f"{facts['bytes'] / 1e6:.1f} MB, {facts['format']}",
        **(_training_rows(facts) if facts["content"] == "training state" else _weights_rows(facts)),
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _weights_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    state_dict, shown = checkpoint.state_dict(), checkpoint.resolve_key()
    weights = {key: tensor for key, tensor in state_dict.items() if not is_derived(key)}
    hai_unknown = not any(key.endswith(".gamma") for key in weights) and "hai" not in checkpoint.config
    recorded = {**checkpoint.config, **({"hai": "none"} if hai_unknown else {})}
    config = infer_config(state_dict, recorded)
    state = checkpoint.path.parent.parent / "training_states" / f"{checkpoint.iteration}.state"
    derived = [tensor for held in checkpoint.weights.values() for key, tensor in held.items() if is_derived(key)]
    stored = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in derived}
    ema: bool | None = is_averaged(shown) or is_averaged(str(checkpoint.info.get("param_key")))
    if not ema and shown == PLAIN and "param_key" not in checkpoint.info:
        ema = None  # not known
    return {
        "architecture": "RGT",
        "preset": preset_name(config),
        "readable_for": readers(config) if derived else "this package alone, without derived tensors",
        "scale": config["upscale"],
        "arguments": {**config, "hai": "identity or none"} if hai_unknown else config,
        "assumed_arguments": assumed_arguments(state_dict, recorded),
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "weights": [key or "plain" for key in checkpoint.weights],
        "shown": shown or "plain",
        "ema": ema,
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()}),
        "not_finite": sum(int((~torch.isfinite(tensor)).sum()) for tensor in weights.values()),
        "derived_bytes": sum(stored.values()),  # the file has each storage once
        "training_state": str(state) if state.is_file() else None,
    }


def _training_facts(state: Mapping[str, Any]) -> dict[str, Any]:
    """`iter` and `epoch` as BasicSR counts them (models/base_model.py:343), and the optimisers' settings."""
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
    """Return the class by its settings, because a state dict does not name it."""
    if "betas" in group and "amsgrad" in group:
        return "AdamW" if group.get("decoupled_weight_decay") else "Adam"
    return "SGD" if "nesterov" in group else "another optimiser"


def _weights_rows(facts: Mapping[str, Any]) -> dict[str, str]:
    derived, assumed = facts["derived_bytes"], facts["assumed_arguments"]
    iteration = "not known" if facts["iteration"] is None else f"{facts['iteration']:,}"
    state = f" (training state: {facts['training_state']})" if facts["training_state"] else ""
    own = "" if facts["preset"] else ", arguments of its own"
    words = {True: "true", False: "false", None: "~"}  # as option files write them
    arguments = {
        name: words[value] if isinstance(value, bool) or value is None else str(value)
        for name, value in facts["arguments"].items()
    }
    rows = {
        "architecture": f"{facts['preset'] or facts['architecture']} ×{facts['scale']}{own}",
        "parameters": f"{facts['parameters']:,} in {' and '.join(facts['dtypes'])}",
        "weights": ", ".join(facts["weights"]) + (f" ({facts['shown']} shown)" if len(facts["weights"]) > 1 else ""),
        "EMA": {True: "yes", False: "no", None: "not known"}[facts["ema"]],
        "iteration": iteration + state,
        "derived": f"{derived / 1e6:.1f} MB ({derived / facts['bytes']:.0%} of the file)" if derived else "none",
    }
    rows["readable for"] = facts["readable_for"]
    if facts["not_finite"]:
        rows["damage"] = f"{facts['not_finite']:,} values are NaN or infinite: this network gives black pictures"
    rows |= {name: text for name, text in arguments.items() if name not in assumed}
    if assumed:
        rows["not in file"] = "assumed as published: " + ", ".join(f"{name} {arguments[name]}" for name in assumed)
    return rows


def _training_rows(facts: Mapping[str, Any]) -> dict[str, str]:
    return {
        "iteration": f"{facts['iteration']:,}",
        "epoch": str(facts["epoch"]),
        "optimiser": f"{', '.join(facts['optimizers'])} over {facts['optimized_tensors']:,} tensors",
        "learning rate": ", ".join(f"{rate:g}" for rate in facts["learning_rates"]),
        "schedulers": str(facts["schedulers"]),
    }
