"""Preparing data needs neither torch nor BasicSR; only the check of an option file does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import rgt_arch

MODULES = ("preparing", "meta_info", "lmdb", "lmdb_reader", "inspect.targets")


def test_preparing_data_imports_neither_torch_nor_basicsr():
    code = f"""
import importlib, sys, types
package = types.ModuleType("rgt_arch")  # without what registers the networks
package.__path__ = [{str(Path(rgt_arch.__file__).parent)!r}]
sys.modules["rgt_arch"] = package
for name in {MODULES}:
    importlib.import_module(f"rgt_arch.data.{{name}}")
print([name for name in ("torch", "basicsr") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert run.stdout == "[]\n", run.stderr
