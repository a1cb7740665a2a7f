"""The network of a state dict: constructor arguments and preset name, read off keys and shapes.

Known from keys and shapes: upscale, in_chans, embed_dim, depth, num_heads, mlp_ratio, qkv_bias, resi_connection,
c_ratio, reduction_stride, cpe, global_blocks, hai (`learned`), and split_size in files with derived tensors.
Known only from the file's own record (`rgt_config`), else taken as published: img_range, qk_scale, the drop rates,
recursion, rgb_mean; split_size in a slim file; c_ratio, reduction_stride and cpe where no block is an RG-SA block.
Files do not record activation and norm classes, which are taken as published.
Unknown without a record, hence an error: `hai` of a file without gamma (`identity` and `none` look alike).
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from rgt_arch.archs.rgt_arch import DERIVED_NAMES, PRESETS, RGT
from rgt_arch.errors import UsageError

# The constructor's defaults under the published RGT's arguments.
_PAPER: Mapping[str, Any] = {
    **{name: parameter.default for name, parameter in inspect.signature(RGT).parameters.items()},
    **PRESETS["RGT"],
}
# They do not change a trained network.
_FOR_TRAINING = ("img_size", "drop_rate", "attn_drop_rate", "drop_path_rate", "use_chk")
_NOT_IN_FILES = ("img_size", "use_chk", "act_layer", "norm_layer", "unknown")
_OFFICIAL_ORDER = (
    *("upscale", "in_chans", "img_range", "depth", "embed_dim", "num_heads", "mlp_ratio", "qkv_bias", "qk_scale"),
    *("resi_connection", "split_size", "c_ratio", "drop_rate", "attn_drop_rate", "drop_path_rate"),
)
PUBLISHED: Mapping[str, Any] = {
    name: _PAPER[name] for name in dict.fromkeys((*_OFFICIAL_ORDER, *_PAPER)) if name not in _NOT_IN_FILES
}
"""The published models' values, assumed where a file does not show them (official options/train/train_RGT_x2.yml).

In the order of the official option files, then the research switches.
"""

_FIRST_BLOCK = "layers.0.blocks.0."
# Sides of windows that spandrel finds by the sizes of the derived tensors.
_SIDES = {2**power for power in range(1, 10)}
# Every RGT has these, with any switches.
_REQUIRED = (
    "conv_first.weight",
    "before_RG.1.weight",
    _FIRST_BLOCK + "mlp.sg.conv.weight",
    "conv_last.weight",
)
# Families that people mix up with RGT, by a key only they have.
_OTHERS = (
    (r"layers\.0\.residual_group\.overlap_attn\.", "HAT"),
    (r"layers\.0\.residual_group\.blocks\.0\.attn\.relative_position_bias_table", "SwinIR"),
    (r"layers\.0\.blocks\.\d\.attn\.(channel|spatial)_interaction", "DAT"),
    (r"body\.0\.rdb1\.conv1", "RRDBNet (ESRGAN, Real-ESRGAN)"),
    (r"body\.0\.conv1\.weight", "EDSR"),
    (r"conv0_0\.|conv1\.weight_orig", "a discriminator (net_d); name the generator (net_g)"),
    (r"body\.0\.weight", "SRVGGNet (Real-ESRGAN compact)"),
)


def is_derived(key: str) -> bool:
    """Whether a state-dict key names a tensor that follows from the constructor arguments (masks, index, offsets)."""
    return key.rpartition(".")[2] in DERIVED_NAMES


def is_rgt(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether the keys are an RGT's, with any arguments."""
    return all(key in state_dict for key in _REQUIRED)


def infer_config(state_dict: Mapping[str, Tensor], recorded: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return every constructor argument that decides the output of the network, as JSON-ready values.

    state_dict: keys without wrapper prefixes, with or without the derived tensors. recorded: arguments that the file
    carries (`Checkpoint.config`) or the caller knows; they add arguments that no tensor shows, and must agree with the
    rest. Raises UsageError for weights that are not an RGT's, that contradict `recorded`, or whose HAI is not known.
    """
    recorded = {name: list(value) if isinstance(value, tuple) else value for name, value in (recorded or {}).items()}
    for name in ("img_range", "qk_scale"):  # others are refused by the network, or contradict the tensors
        value = recorded.get(name, PUBLISHED[name])
        if value != PUBLISHED[name] and not (type(value) in (int, float) and math.isfinite(value)):
            raise UsageError(f"{name} must be a finite number, not {value!r}")
    known = _known(state_dict, recorded)
    for name in known.keys() & recorded.keys():
        if recorded[name] != known[name]:
            raise UsageError(
                f"{name} is given or recorded as {recorded[name]!r}, but the weights have {known[name]!r}; leave "
                f"{name} out or take the matching file"
            )
    return {**PUBLISHED, **recorded, **known}


def assumed_arguments(state_dict: Mapping[str, Tensor], recorded: Mapping[str, Any] | None = None) -> list[str]:
    """Return the names of the arguments that `infer_config` takes from PUBLISHED, because nothing else shows them."""
    shown = (recorded or {}).keys() | _known(state_dict, recorded or {}).keys()
    return [name for name in PUBLISHED if name not in shown]


def preset_name(config: Mapping[str, Any]) -> str | None:
    """Return RGT, RGT-S or RGT-T, if that network has these arguments at any scale, else None."""
    given = {name: config[name] for name in PUBLISHED if name not in ("upscale", *_FOR_TRAINING)}
    return next((name for name, preset in PRESETS.items() if given.items() <= {**_PAPER, **preset}.items()), None)


def readers(config: Mapping[str, Any]) -> str:
    """Return for whom a file of the official layout, with the derived tensors, is readable.

    Other programs build a network from tensors (spandrel, as in chaiNNer and ComfyUI) or from an option file's official
    arguments (the official code).
    """
    height, width = config["split_size"]
    published = {name: PUBLISHED[name] for name in ("hai", "global_blocks", "reduction_stride", "cpe")}
    refused = [name for name, value in published.items() if config[name] != value]
    masked = len(config["depth"]) > 1 or max(config["depth"]) > 2  # shifted windows, with a mask of 64×64 in the file
    if (masked and any(64 % side for side in (height, width))) or (height != width and not {height, width} <= _SIDES):
        refused.append("split_size")
    if refused:
        return f"this package alone, because other programs have no {_listed(config, refused)}"
    unknown = ["recursion"] if config["recursion"] != "auto" and max(config["depth"]) > 1 else []
    unknown += ["rgb_mean"] if config["rgb_mean"] is not None else []
    optional = [name for name in ("img_range", "qk_scale") if config[name] != PUBLISHED[name]]
    optional += ["split_size"] if height > width else []
    if any(heads % 2 and config["embed_dim"] % (heads - 1) == 0 for heads in config["num_heads"]):
        optional.append("num_heads")
    if unknown:
        return f"this package alone; others read another network, because they have no {_listed(config, unknown)}"
    if optional:
        return (
            f"this package, and the official code if its option file has {_listed(config, optional)}; spandrel reads "
            "another network"
        )
    return "this package, the official code and spandrel (chaiNNer, ComfyUI)"


def _listed(config: Mapping[str, Any], names: Iterable[str]) -> str:
    return ", ".join(f"{name}: {str(config[name]).lower()}" for name in names)


def constructor_arguments(network: nn.Module) -> dict[str, Any]:
    """Return the arguments of an RGT, also of a wrapped or compiled one, that decide its output, for a file's record.

    All of them, because tensors show some only to rounding: `c_ratio`, `mlp_ratio`, odd head counts.
    """
    bare = next((module for module in network.modules() if isinstance(module, RGT)), None)
    if bare is None:
        raise UsageError(f"a {type(network).__name__} is not an RGT; save its state dict with torch.save")
    return {name: value for name, value in bare.config.items() if name not in _FOR_TRAINING}


def _known(state_dict: Mapping[str, Tensor], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the tensors show."""
    _require_rgt(state_dict)
    try:
        embed_dim, in_chans = state_dict["conv_first.weight"].shape[:2]
        depth = _depths(state_dict)
        hidden = state_dict[_FIRST_BLOCK + "mlp.fc1.weight"].shape[0]
        windows: dict[str, Any] = {}
        # the offsets (1-h … h-1, 1-w … w-1) in the first half's windows; a slim file has none
        if (offsets := state_dict.get(_FIRST_BLOCK + "attn.attns.0.rpe_biases")) is not None:
            height, width = offsets.amax(dim=0).tolist()
            windows["split_size"] = [int(height) + 1, int(width) + 1]
        shuffles = [tensor.shape for key, tensor in state_dict.items() if re.fullmatch(r"upsample\.\d+\.weight", key)]
        return {
            "upscale": math.prod(math.isqrt(outputs // inputs) for outputs, inputs, *_ in shuffles),
            "in_chans": in_chans,
            "embed_dim": embed_dim,
            "depth": depth,
            "num_heads": [_heads(state_dict, group, embed_dim, recorded) for group in range(len(depth))],
            "mlp_ratio": _ratio(hidden, embed_dim, recorded.get("mlp_ratio")),
            "qkv_bias": _FIRST_BLOCK + "attn.qkv.bias" in state_dict,
            "resi_connection": "3conv" if "conv_after_body.0.weight" in state_dict else "1conv",
            "hai": "learned" if _FIRST_BLOCK + "gamma" in state_dict else _recorded_hai(recorded),
            **_global_attention(state_dict, embed_dim, recorded),
            **windows,
        }
    except (KeyError, IndexError, ValueError, ZeroDivisionError, RuntimeError) as error:  # the last: complex numbers
        raise UsageError(f"its weights are not a complete RGT's ({type(error).__name__}: {error})") from error


def _require_rgt(state_dict: Mapping[str, Tensor]) -> None:
    """Raise UsageError, with the name of a similar network, unless the weights are an RGT's."""
    missing = [key for key in _REQUIRED if key not in state_dict]
    if not missing:
        return
    lookalike = next((name for pattern, name in _OTHERS if any(re.match(pattern, key) for key in state_dict)), None)
    looks = f"they look like {lookalike}; " if lookalike else ""
    raise UsageError(f"its weights are not an RGT's: {looks}{missing[0]} is missing among {len(state_dict)} entries")


def _depths(state_dict: Mapping[str, Tensor]) -> list[int]:
    """Blocks in each residual group; a missing one is found when the weights are loaded."""
    depths: dict[int, int] = {}
    for key in state_dict:
        if match := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", key):
            depths[int(match[1])] = max(depths.get(int(match[1]), 0), int(match[2]) + 1)
    return [depths[group] for group in range(max(depths) + 1)]


def _heads(state_dict: Mapping[str, Tensor], group: int, embed_dim: int, recorded: Mapping[str, Any]) -> int:
    """Heads of a group: the position bias of either half of L-SA has num_heads // 2 outputs.

    An odd count is taken only where the even one does not divide the channels, or where the record has it.
    """
    bias = state_dict.get(f"layers.{group}.blocks.0.attn.attns.0.pos.pos3.2.weight")
    said = recorded.get("num_heads")
    if bias is None:  # another kind of position bias
        if said is None:
            raise UsageError("its weights have no RGT's position bias, which shows num_heads; pass num_heads")
        return int(said[group])
    even = 2 * bias.shape[0]
    if isinstance(said, (list, tuple)) and len(said) > group and said[group] == even + 1:
        return even + 1
    return even if embed_dim % even == 0 else even + 1


def _ratio(rows: int, channels: int, said: float | None = None) -> float:
    """A ratio with int(channels * ratio) == rows: the recorded one if it fits, as rounding hides its last digits."""
    if isinstance(said, (int, float)) and int(channels * said) == rows:
        return float(said)
    ratio = rows / channels
    return ratio if int(channels * ratio) == rows else math.nextafter(ratio, math.inf)


def _recorded_hai(recorded: Mapping[str, Any]) -> str:
    if recorded.get("hai") in ("identity", "none"):
        return str(recorded["hai"])
    raise UsageError(
        "it holds no HAI weights (gamma), and no record whether hai was identity or none; pass hai=identity or hai=none"
    )


def _global_attention(state_dict: Mapping[str, Tensor], embed_dim: int, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The kind of the odd blocks, and the arguments of the first RG-SA block; empty where all depths are 1."""
    odd = next((m for key in state_dict if (m := re.match(r"layers\.\d+\.blocks\.\d*[13579]\.", key))), None)
    if odd is None:
        return {}
    attention = odd[0] + "attn."
    if attention + "reduction1.weight" not in state_dict:
        return {"global_blocks": "none"}
    return {
        "global_blocks": "rg_sa",
        "c_ratio": _ratio(state_dict[attention + "conv.weight"].shape[0], embed_dim, recorded.get("c_ratio")),
        "reduction_stride": state_dict[attention + "reduction1.weight"].shape[-1],
        "cpe": attention + "cpe.weight" in state_dict,
    }
