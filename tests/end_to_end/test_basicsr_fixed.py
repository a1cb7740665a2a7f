"""`basicsr-fixed`, the fork that BasicSR's users install today, as host: the seams for what it has fixed do nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

CHECK = """
import sys
import rgt_arch, basicsr
from rgt_arch.basicsr_compat.fallbacks import FALLBACKS, FallbackFinder
assert basicsr.__file__.startswith({folder!r}), basicsr.__file__
provided = [name for name in FALLBACKS
            if isinstance(getattr(getattr(sys.modules.get(name), "__spec__", None), "loader", None), FallbackFinder)]
assert not provided, provided
print("fine")
"""


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to put on PYTHONPATH in which `basicsr` is basicsr-fixed 1.4.2."""
    folder = tmp_path_factory.mktemp("basicsr-fixed")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    run = subprocess.run([*command, "--dest", str(folder), "basicsr-fixed==1.4.2"], capture_output=True, text=True)
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        pytest.skip(f"basicsr-fixed cannot be downloaded from the registry: {run.stderr.strip()[-200:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return folder / "basicsr-fixed-1.4.2"


def test_no_module_is_provided_that_basicsr_fixed_does_without(fixed: Path, project) -> None:
    run = project.start(sys.executable, "-c", CHECK.format(folder=str(fixed)), PYTHONPATH=str(fixed))
    assert run.stdout.strip().endswith("fine"), run.stdout


def test_training_and_testing_give_the_same_numbers_on_both(fixed: Path, project) -> None:
    results = {}
    for host, path in (("basicsr", ""), ("basicsr-fixed", str(fixed))):
        project.options["name"] = host
        run = project.start("basicsr", "train", "-opt", project.write(), PYTHONPATH=path)
        assert run.returncode == 0, run.stdout[-3000:]
        results[host] = re.findall(r"l_pix: (\S+)|# psnr: (\S+)", run.stdout)
    assert len(results["basicsr"]) >= 6
    assert results["basicsr"] == results["basicsr-fixed"]
