"""The reference of option-file keys: complete, and printed without PyTorch and BasicSR."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rgt_arch.config.loading import load_options
from rgt_arch.config.tables import describe_options

from .conftest import OPTIONS

ROOT = Path(__file__).parents[2]


def test_reference_lists_every_key_of_the_shipped_files() -> None:
    text = describe_options()
    for file in sorted(OPTIONS.glob("*.yml")):
        opt = load_options(file)
        parts = [opt, *(opt.get(name, {}) for name in ("path", "val", "train", "logger")), *opt["datasets"].values()]
        for key in {key for part in parts for key in part}:
            assert f"| `{key}` |" in text, key


def test_reference_lists_types_ranges_and_defaults() -> None:
    text = describe_options()
    for row in (
        "| `amp` | auto, bf16, fp16, `~` |  | mixed precision",
        "| `accumulate` | integer ≥ 1 | 1 | micro-batches",
        "| `grad_clip` | number above 0, `~` |  | largest norm",
        "| `total_iter` | integer ≥ 1 | train | optimiser steps |",
        "| `ema_decay` | number 0 to 1 |",
        "| `jpeg_range2` | 2 numbers 0 to 100 |",
        "| `kernel_list` | names: iso, aniso, ",
    ):
        assert row in text


def test_reference_needs_neither_pytorch_nor_basicsr() -> None:
    """An empty package replaces rgt_arch, whose __init__ registers networks."""
    program = f"""
import sys, types
sys.modules["rgt_arch"] = package = types.ModuleType("rgt_arch")
package.__path__ = [{str(ROOT / "rgt_arch")!r}]
from rgt_arch.config.loading import load_options
from rgt_arch.config.settings import train_settings
from rgt_arch.config.tables import describe_options
assert "total_iter" in describe_options()
assert not {{"torch", "basicsr", "numpy"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
