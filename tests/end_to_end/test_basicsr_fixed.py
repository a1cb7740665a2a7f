"""`basicsr-fixed`, a fork that users of BasicSR install today, as host: our fallbacks for it stay unused."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

TRAIN = """
import sys
import rgt_arch, basicsr
from rgt_arch.basicsr_compat.patches import FALLBACKS, Finder
from rgt_arch.cli.basicsr_command import main
assert "basicsr-fixed" in basicsr.__file__, basicsr.__file__
code = main(sys.argv[1:])
provided = [name for name in FALLBACKS
            if isinstance(getattr(getattr(sys.modules.get(name), "__spec__", None), "loader", None), Finder)]
assert not provided, provided
sys.exit(code)
"""


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH, in which `basicsr` is basicsr-fixed 1.4.2."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    run = subprocess.run([*command, "--dest", str(tmp_path), "basicsr-fixed==1.4.2"], capture_output=True, text=True)
    archives = list(tmp_path.glob("*.tar.gz"))
    if not archives:
        pytest.skip(f"basicsr-fixed cannot be downloaded from the registry: {run.stderr.strip()[-200:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "basicsr-fixed-1.4.2"


def test_training_gives_the_same_numbers_on_both(fixed: Path, project) -> None:
    arguments = ("train", "-opt", project.write())
    theirs = project.start_from_shell(sys.executable, "-c", TRAIN, *arguments, PYTHONPATH=str(fixed))
    ours = project.start("basicsr", *arguments)
    numbers = [re.findall(r"l_pix: (\S+)|# psnr: (\S+)", printed) for printed in (theirs, ours)]
    assert numbers[0] == numbers[1]
    assert len(numbers[0]) >= 6
