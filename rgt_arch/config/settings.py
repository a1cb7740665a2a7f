"""(stub until the config branch is merged)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rgt_arch.errors import UsageError


@dataclass
class Tile:
    size: int
    overlap: int


@dataclass
class TrainSettings:
    amp: str | None = None
    grad_clip: float | None = None
    accumulate: int = 1
    nan_patience: int = 10
    init: str | None = None


@dataclass
class ValSettings:
    tile: Tile | None = None
    self_ensemble: bool = False
    use_chop: bool = False
    suffix: str | None = None


def train_settings(opt: Mapping[str, Any]) -> TrainSettings:
    t = opt.get("train") or {}
    if t.get("amp") not in (None, False, "bf16", "fp16"):
        raise UsageError(f"train.amp: {t['amp']!r} is not one of bf16, fp16")
    return TrainSettings(t.get("amp") or None, t.get("grad_clip"), t.get("accumulate") or 1, t.get("nan_patience") or 10, t.get("init"))


def val_settings(opt: Mapping[str, Any]) -> ValSettings:
    v = opt.get("val") or {}
    t = v.get("tile")
    tile = Tile(t["size"], t.get("overlap", 32)) if t else None
    return ValSettings(tile, bool(v.get("self_ensemble")), bool(v.get("use_chop")), v.get("suffix"))
