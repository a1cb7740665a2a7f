"""`import rgt_arch` loads no large library, makes BasicSR importable and registers our classes in any import order."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import rgt_arch
from rgt_arch import basicsr_compat
from rgt_arch.basicsr_compat import patches
from rgt_arch.basicsr_compat.patches import prefer_ours

from .. import warm

# The removed modules cannot be imported from anywhere, as with a new Python and a new SciPy.
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


@pytest.fixture
def python(tmp_path: Path) -> Callable[[str], str]:
    """python(code): the output of a new Python, which must end without error and finds modules in `tmp_path`.

    In this process, modules imported earlier would hide missing imports.
    """

    def run(code: str) -> str:
        folders = (str(tmp_path), str(Path(rgt_arch.__file__).parent.parent))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(folders)}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_basicsr_imports_without_distutils_and_two_more_removed_modules(python):
    python(
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
    )


def test_importing_the_package_imports_neither_torch_nor_basicsr(python):
    loaded = "[name for name in ('torch', 'numpy', 'basicsr') if name in sys.modules]"
    assert python(f"import sys, rgt_arch\nprint({loaded})") == "[]\n"


def test_existing_modules_are_not_replaced_and_missing_ones_are_made_once(monkeypatch):
    calls = []
    home = types.ModuleType("home")
    home.__getattr__ = lambda name: calls.append(name) or 42
    monkeypatch.setitem(sys.modules, "home", home)
    monkeypatch.setitem(patches.FALLBACKS, "wave", ("home", {"replaced": "replaced"}))
    monkeypatch.setitem(patches.FALLBACKS, "rgt_gone.module", ("home", {"answer": "there"}))
    monkeypatch.setitem(patches.FALLBACKS, "rgt_gone", ("", {}))  # its parent package
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    import wave

    assert not hasattr(wave, "replaced")
    assert wave.open
    assert not calls
    for _ in range(2):
        import rgt_gone.module  # type: ignore[import-not-found]
    assert rgt_gone.module.answer == 42
    assert calls == ["there"]


def test_install_is_idempotent_and_skips_missing_names():
    import basicsr.utils.options

    before = dict(vars(basicsr.utils.options)), list(sys.meta_path)
    basicsr_compat.install()
    assert (dict(vars(basicsr.utils.options)), list(sys.meta_path)) == before
    patches._replace(json, patches.Patch("json", "JSONDecoder.no_such_method", "keep_first"))
    assert not hasattr(json.JSONDecoder, "no_such_method")


REGISTERED = """
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
import rgt_arch
import basicsr.data, basicsr.metrics
from rgt_arch.data.bicubic_dataset import BicubicDataset
from rgt_arch.models.pyiqa_metric import pyiqa
from rgt_arch.models.rgt_model import RGTModel
assert DATASET_REGISTRY.get("BicubicDataset") is BicubicDataset
assert METRIC_REGISTRY.get("pyiqa") is pyiqa
assert ARCH_REGISTRY.get("RGT") is rgt_arch.RGT
assert MODEL_REGISTRY.get("RGTModel") is RGTModel
"""
EVERY_PATCH = """
import importlib
from rgt_arch.basicsr_compat import PATCHES
for patch in PATCHES:
    value = importlib.import_module(patch.module)
    for part in patch.name.split("."):
        value = getattr(value, part)
    ours = [value, *(value.values() if isinstance(value, dict) else ())]
    homes = {getattr(one, "__module__", type(one).__module__) for one in ours} | {type(value).__module__}
    assert any(home and home.startswith("rgt_arch.") for home in homes), (patch, homes)
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import rgt_arch.models.rgt_model\n",
        "import rgt_arch.data.bicubic_dataset\n",
        # a host that repairs its imports itself imports BasicSR before this package
        "import sys, types\nfrom torchvision.transforms import functional\n"
        "gone = types.ModuleType('torchvision.transforms.functional_tensor')\n"
        "gone.rgb_to_grayscale = functional.rgb_to_grayscale\nsys.modules[gone.__name__] = gone\n"
        "import basicsr.train\nfrom basicsr.utils.options import ordered_yaml\nimport rgt_arch\n"
        "assert basicsr.utils.options.ordered_yaml is not ordered_yaml\n",
    ],
    ids=["the model", "the data set", "BasicSR"],
)
def test_classes_are_registered_and_all_patches_apply_in_any_import_order(python, imports):
    python(imports + REGISTERED + EVERY_PATCH)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A copy of BasicSR in a host's project."""
    spec = importlib.util.find_spec("basicsr")
    assert spec is not None
    assert spec.origin is not None
    copy = shutil.copytree(Path(spec.origin).parent, tmp_path / "basicsr", ignore=shutil.ignore_patterns("__pycache__"))
    return Path(copy)


def test_package_can_be_imported_by_a_file_of_a_hosts_basicsr(python, host):
    """Such a file runs while BasicSR is only partly imported."""
    mended = host / "data/degradations.py"  # imported before rgt_arch, it would need a fallback
    mended.write_text(mended.read_text().replace("transforms.functional_tensor", "transforms.functional"))
    place = f"import basicsr\nassert basicsr.__file__.startswith({str(host)!r}), basicsr.__file__\n"
    (host / "archs/mine_arch.py").write_text("import rgt_arch\nassert rgt_arch.RGT\n")
    python(f"{place}{REGISTERED}{EVERY_PATCH}")


@pytest.fixture
def fork(host: Path) -> Path:
    """A BasicSR as a repository has it: without the version.py that its installation writes, with an empty __init__."""
    (host / "version.py").unlink()
    (host / "__init__.py").write_text("")
    return host


def test_classes_are_registered_with_a_fork_that_imports_no_pipelines(python, fork):
    python(f"import basicsr\nassert basicsr.__file__.startswith({str(fork)!r})\n" + REGISTERED)


def test_commands_without_basicsr_work_beside_a_fork_and_training_names_its_folder(fork):
    (fork / "__init__.py").write_text("from .version import __version__\n")
    environment = {**os.environ, "PYTHONPATH": f"{fork.parent}{os.pathsep}{Path(rgt_arch.__file__).parents[1]}"}
    (fork.parent / "a.yml").touch()
    commands = (["--version"], ["info", "RGT_T_x2"], ["weights"], ["train", "-opt", str(fork.parent / "a.yml")])
    done = [
        subprocess.run([sys.executable, "-m", "rgt_arch.cli", *words], capture_output=True, text=True, env=environment)
        for words in commands
    ]
    assert [run.returncode for run in done] == [0, 0, 0, 2]
    assert done[-1].stderr.startswith(
        f"basicsr train: error: No module named 'basicsr.version' (BasicSR found in {fork}); this command needs BasicSR"
    )
    assert done[-1].stderr.count("\n") == 1


def test_basicsr_of_the_current_folder_that_is_not_used_is_named(fork):
    (fork.parent / "a.yml").touch()
    run = warm.run("-m", "rgt_arch.cli", "train", "-opt", "a.yml", cwd=fork.parent)
    assert f"{fork} is not used; this command uses the BasicSR in " in run.stderr
    assert run.stderr.count("\n") == 2


def test_class_of_a_host_with_our_name_stays_until_our_command_replaces_it(python, tmp_path):
    """The host registers its class while BasicSR is imported."""
    (tmp_path / "fork.py").write_text(
        "from basicsr.utils.registry import ARCH_REGISTRY\n@ARCH_REGISTRY.register()\nclass RGT: pass\n"
    )
    printed = python(
        "import rgt_arch, sys, types\nparent = types.ModuleType('basicsr')\n"
        "import importlib.util as util\n"
        "parent.__path__ = list(util.find_spec('basicsr').submodule_search_locations)\n"
        "sys.modules['basicsr'] = parent\nimport fork\nimport basicsr.archs\n"
        "from basicsr.utils.registry import ARCH_REGISTRY\n"
        "print(ARCH_REGISTRY.get('RGT').__module__)\n"
        "from rgt_arch.basicsr_compat.patches import prefer_ours\n"
        "print(*prefer_ours())\n"
        "print(ARCH_REGISTRY.get('RGT').__module__, *prefer_ours())\n"
    ).splitlines()
    assert printed == ["fork", "RGT of fork is replaced by the one of rgt_arch", "rgt_arch.archs.rgt_arch"]


def test_our_command_replaces_classes_of_a_fork_with_our_names(monkeypatch):
    from basicsr.utils.registry import ARCH_REGISTRY

    monkeypatch.setitem(ARCH_REGISTRY._obj_map, "RGT", type("RGT", (), {"__module__": "fork.archs"}))
    assert prefer_ours() == ["RGT of fork.archs is replaced by the one of rgt_arch"]
    assert ARCH_REGISTRY.get("RGT") is rgt_arch.RGT
    assert prefer_ours() == []
