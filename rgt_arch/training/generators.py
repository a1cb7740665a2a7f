"""The random generators of a training: what drop path and the like draw from, as plain values for a training state."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def generator_states(device: torch.device) -> dict[str, Any]:
    """Python's, NumPy's and PyTorch's global generators, and the GPU's where `device` is one.

    Lists and tensors only, so that a file with them loads with `weights_only`.
    """
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    states: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [[int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(states: Mapping[str, Any], device: torch.device) -> None:
    """Put the generators into the states that `generator_states` gave; a missing one stays as it is.

    Raises KeyError, TypeError, ValueError or RuntimeError for anything else.
    """
    version, words, gauss = states["python"]
    keys, position, has_gauss, cached = states["numpy"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
