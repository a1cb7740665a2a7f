"""`import basicsr` works where libraries dropped modules, and nothing is put in the way of modules that are there."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rgt_arch
from rgt_arch import basicsr_compat
from rgt_arch.basicsr_compat import fallback_modules, working_directory

# A new Python and a new SciPy, as far as imports can tell: the modules are gone, whoever asks.
BLOCK = """
import sys
from importlib.machinery import PathFinder
GONE = ("distutils", "scipy.ndimage.filters", "torchvision.transforms.functional_tensor")
class Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.startswith(GONE):
            return None
        return PathFinder.find_spec(name, path, target)
# setuptools' own finder brings distutils back, so it goes as well
sys.meta_path[:] = [f for f in sys.meta_path if "distutils" not in str(f).lower() and f is not PathFinder]
sys.meta_path.append(Without)
for name in GONE[::2]:
    try:
        __import__(name)
    except ModuleNotFoundError:
        pass
    else:
        raise SystemExit(f"{name} is not blocked")
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    root = Path(rgt_arch.__file__).parent.parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300, check=False
    )


def test_basicsr_imports_where_distutils_and_two_more_modules_are_gone():
    run = python(
        BLOCK + "import rgt_arch\n"
        "import basicsr.archs.arch_util as util, basicsr.data.degradations as degradations\n"
        "from basicsr.data.data_util import generate_gaussian_kernel\n"
        "from basicsr.metrics import niqe\n"
        "import scipy.ndimage, torch, torchvision\n"
        "assert util.LooseVersion(torchvision.__version__) >= util.LooseVersion('0.9.0')\n"
        "assert not util.LooseVersion('0.10.0') < util.LooseVersion('0.9.0')\n"
        "assert niqe.convolve is scipy.ndimage.convolve\n"
        "assert abs(generate_gaussian_kernel().sum() - 1) < 1e-6\n"
        "assert degradations.rgb_to_grayscale(torch.ones(1, 3, 2, 2)).shape == (1, 1, 2, 2)\n"
        "print('fine')"
    )
    assert run.stdout.strip().endswith("fine"), run.stderr


def test_basicsr_does_not_import_without_this_package():
    """Otherwise the seam can be deleted."""
    assert "functional_tensor" in python("import basicsr").stderr


def test_package_can_be_imported_by_a_file_of_a_hosts_basicsr(tmp_path):
    """Such a file is read while BasicSR is half imported: models wait until all of it is there."""
    spec = importlib.util.find_spec("basicsr")
    shutil.copytree(Path(spec.origin).parent, tmp_path / "basicsr", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "basicsr" / "archs" / "mine_arch.py").write_text(
        "import rgt_arch\nassert rgt_arch.RGT\nassert not rgt_arch.basicsr_compat.is_installed()\n"
    )
    run = python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import basicsr\n"
        f"assert basicsr.__file__.startswith({str(tmp_path)!r}), basicsr.__file__\n"
        "from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY\n"
        "assert 'RGT' in ARCH_REGISTRY and 'RGTModel' not in MODEL_REGISTRY\n"
        "from rgt_arch import basicsr_compat\n"
        "basicsr_compat.install()\n"
        "from rgt_arch.models.rgt_model import RGTModel\n"
        "assert basicsr_compat.is_installed() and MODEL_REGISTRY.get('RGTModel') is RGTModel\n"
        "print('fine')"
    )
    assert run.stdout.strip().endswith("fine"), run.stderr


def test_modules_that_exist_are_not_replaced():
    fallback_modules.provide("wave", lambda: {"replaced": True})
    import wave

    assert not hasattr(wave, "replaced")
    assert sys.meta_path[-1] is fallback_modules._finder


def test_provided_module_is_made_at_its_first_import_only():
    calls = []
    fallback_modules.provide("rgt_gone_module", lambda: calls.append(1) or {"answer": 42})
    assert not calls
    import rgt_gone_module  # type: ignore[import-not-found]

    assert rgt_gone_module.answer == 42
    assert calls == [1]


def test_install_is_idempotent():
    import basicsr.train

    before = dict(vars(basicsr.train)), list(sys.meta_path)
    basicsr_compat.install()
    assert (dict(vars(basicsr.train)), list(sys.meta_path)) == before


@pytest.mark.parametrize(
    ("argv", "orig_argv", "ours"),
    [
        (["-m"], ["python", "-m", "rgt_arch.cli", "train"], True),
        (["-m"], ["python", "-u", "-mrgt_arch.cli"], True),
        (["/venv/bin/basicsr", "train"], ["python", "/venv/bin/basicsr", "train"], True),
        (["-m"], ["python", "-m", "pytest", "tests"], False),
        (["basicsr/train.py"], ["python", "basicsr/train.py"], False),
        ([], ["python"], False),
    ],
)
def test_path_is_changed_for_our_commands_only(monkeypatch, tmp_path, argv, orig_argv, ours):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", orig_argv)
    monkeypatch.setattr(sys, "path", ["", "/elsewhere"])
    working_directory.install()
    assert sys.path == (["/elsewhere", str(tmp_path)] if ours else ["", "/elsewhere"])


def test_every_seam_says_where_what_and_until_when():
    folder = Path(basicsr_compat.__file__).parent
    without_seam = {"__init__", "behaviour", "fallback_modules", "notices", "command_line"}
    for module in folder.glob("*.py"):
        if module.stem not in without_seam:
            text = module.read_text().split('"""')[1]
            assert re.search(r"Where: ", text), module
            assert re.search(r"[Dd]elete\s+it\s", text), module


def test_finder_is_a_meta_path_finder_of_the_import_system():
    spec = fallback_modules._finder.find_spec("distutils", None)
    assert isinstance(spec, importlib.machinery.ModuleSpec)
    assert spec.submodule_search_locations is not None  # a package, so that distutils.version is looked for
