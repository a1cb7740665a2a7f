"""rgt_arch.py copied as a single file into another BasicSR project: it registers, builds and trains."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ARCH_FILE = Path(__file__).parents[2] / "rgt_arch" / "archs" / "rgt_arch.py"

# archs/__init__.py and train.py of projects made from the BasicSR-examples template.
EXAMPLES_ARCHS = """
import importlib
from os import path as osp
from basicsr.utils import scandir
folder = osp.dirname(osp.abspath(__file__))
names = [osp.splitext(osp.basename(v))[0] for v in scandir(folder) if v.endswith('_arch.py')]
modules = [importlib.import_module(f'archs.{name}') for name in names]
"""
TRAIN = """
import sys
from os import path as osp
{imports}
from basicsr.train import train_pipeline
if __name__ == '__main__':
    train_pipeline(osp.dirname(osp.abspath(__file__)))
"""
OPTIONS = """
name: drop_in
model_type: SRModel
scale: 2
num_gpu: 0
manual_seed: 0
datasets:
  train: {name: tiny, type: PairedImageDataset, dataroot_gt: hr, dataroot_lq: lr, io_backend: {type: disk}, gt_size: 32,
          use_hflip: true, use_rot: true, num_worker_per_gpu: 0, batch_size_per_gpu: 1}
network_g: {type: RGT, upscale: 2, embed_dim: 32, depth: [2], num_heads: [2], mlp_ratio: 1.0}
path: {pretrain_network_g: ~, resume_state: ~}
train:
  optim_g: {type: Adam, lr: 0.0001}
  scheduler: {type: MultiStepLR, milestones: [10]}
  total_iter: 2
  pixel_opt: {type: L1Loss}
logger: {print_freq: 1, save_checkpoint_freq: 2, use_tb_logger: false}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with images and a vendored BasicSR, made importable by the one-line edit that README documents."""
    spec = importlib.util.find_spec("basicsr")
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, tmp_path / "basicsr", ignore=shutil.ignore_patterns("__pycache__"))
    broken = tmp_path / "basicsr" / "data" / "degradations.py"
    broken.write_text(broken.read_text().replace("transforms.functional_tensor import", "transforms.functional import"))
    rng = np.random.default_rng(0)
    for folder, size in (("hr", 32), ("lr", 16)):
        (tmp_path / folder).mkdir()
        for number in range(2):
            image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
            assert cv2.imwrite(str(tmp_path / folder / f"{number}.png"), image)
    (tmp_path / "option.yml").write_text(OPTIONS)
    return tmp_path


@pytest.mark.parametrize(("layout", "beside"), [("vendored", "alone"), ("examples", "with rgt_arch installed")])
def test_dropped_in_file_trains(project: Path, layout: str, beside: str) -> None:
    imports = ""
    archs = project / "basicsr" / "archs"
    if layout == "examples":
        archs, imports = project / "archs", "import archs"
        archs.mkdir()
        (archs / "__init__.py").write_text(EXAMPLES_ARCHS)
    shutil.copy(ARCH_FILE, archs)
    if beside == "with rgt_arch installed":
        imports += "\nimport rgt_arch, basicsr\nassert basicsr.__file__.startswith(osp.dirname(osp.abspath(__file__)))"
    else:  # any import of the package fails
        imports = "sys.modules['rgt_arch'] = None\n" + imports
    (project / "train.py").write_text(TRAIN.format(imports=imports))
    run = subprocess.run(
        [sys.executable, "train.py", "-opt", "option.yml"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    output = run.stdout + run.stderr
    assert run.returncode == 0, output[-3000:]
    assert "Network [RGT] is created" in output
    assert "iter:       2" in output
    assert (project / "experiments" / "drop_in" / "models" / "net_g_latest.pth").stat().st_size > 0


def test_copy_that_is_not_used_is_named(tmp_path: Path) -> None:
    shutil.copy(ARCH_FILE, tmp_path / "mine_arch.py")
    code = "import rgt_arch, basicsr.archs, mine_arch"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stderr.startswith(
        f"RGT of {ARCH_FILE} is used, not the one of {tmp_path / 'mine_arch.py'}; for the latter"
    )
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("change", ["sys.version_info = (3, 9)", "del torch.get_autocast_dtype"])
def test_older_python_and_torch_are_refused_in_one_line(change: str) -> None:
    code = f"import runpy, sys, torch\n{change}\nrunpy.run_path({str(ARCH_FILE)!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = run.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {ARCH_FILE}: RGT needs Python 3.10 and torch 2.4 or newer; this is Python 3.")
