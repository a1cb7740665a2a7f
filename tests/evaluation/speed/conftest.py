"""A network small enough to be measured in a moment, under the name of RGT-T."""

from __future__ import annotations

import pytest

from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.evaluation.speed.settings import SpeedSettings

TINY = {"embed_dim": 96, "depth": [2], "num_heads": [4], "split_size": [4, 8], "mlp_ratio": 1.0, "c_ratio": 0.5}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> SpeedSettings:
    """Settings for it, ×2 on the CPU; fresh processes get it too, for they are given its arguments."""
    monkeypatch.setitem(PRESETS, "RGT-T", TINY)
    return SpeedSettings("rgt_t", 2, device="cpu", threads=1)
