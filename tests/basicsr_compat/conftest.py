"""A Python of its own for each import: what this one has imported already would hide what is tested."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import rgt_arch


@pytest.fixture
def python(tmp_path: Path) -> Callable[[str], str]:
    """python(code): what a new Python prints, which must end without error; it finds modules in the test's folder."""

    def run(code: str) -> str:
        folders = (str(tmp_path), str(Path(rgt_arch.__file__).parent.parent))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(folders)}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
