"""A project folder with a few small photographs and an option file that trains a tiny EDSR in a second."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from skimage import data

from rgt_arch.cli.basicsr_command import main
from rgt_arch.data.lmdb import create_lmdb_of_folder

from .. import warm

SCALE = 2
HERE = str(Path(__file__).parent)
TRAIN = ("train", "-opt", "options.yml", "--import", "watched")


def _pairs(folder: Path, count: int, size: int) -> None:
    """`count` crops of a photograph as HR images of size×size, and their halves as LR images, as files and as LMDBs."""
    for kind, side in (("hr", size), ("lr", size // SCALE)):
        (folder / kind).mkdir(parents=True)
        for index in range(count):
            crop = data.astronaut()[40 * index : 40 * index + size, 100 : 100 + size, ::-1]
            cv2.imwrite(f"{folder}/{kind}/img{index}.png", cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA))
        create_lmdb_of_folder(folder / kind)


def _dataset(folder: str, **options: Any) -> dict[str, Any]:
    return {
        "type": "PairedImageDataset",
        "dataroot_gt": f"{folder}/hr",
        "dataroot_lq": f"{folder}/lr",
        "io_backend": {"type": "disk"},
        **options,
    }


def edsr_options() -> dict[str, Any]:
    """Options like those of BasicSR's own EDSR files, for a GPU."""
    return {
        "name": "tiny",
        "model_type": "SRModel",
        "scale": SCALE,
        "num_gpu": 1,
        "manual_seed": 0,
        "datasets": {
            "train": _dataset(
                "train",
                name="photographs",
                gt_size=32,
                use_hflip=True,
                use_rot=True,
                num_worker_per_gpu=0,
                batch_size_per_gpu=8,
                dataset_enlarge_ratio=1,
                prefetch_mode=None,
            ),
            "val": _dataset("val", name="held_out"),
        },
        "network_g": {
            "type": "EDSR",
            "num_in_ch": 3,
            "num_out_ch": 3,
            "num_feat": 8,
            "num_block": 1,
            "upscale": SCALE,
        },
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [3], "gamma": 0.5},
            "total_iter": 5,
            "warmup_iter": -1,
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        },
        "val": {
            "val_freq": 100,
            "save_img": False,
            "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True}},
        },
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False},
        "dist_params": {"backend": "nccl", "port": 29500},
    }


class Project:
    """The current directory of the commands under test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.options = edsr_options()

    @property
    def run_folder(self) -> Path:
        return self.root / "experiments" / self.options["name"]

    def write(self, name: str = "options.yml") -> str:
        """Write the options to a file; returns its name."""
        (self.root / name).write_text(yaml.safe_dump(self.options, sort_keys=False))
        return name

    def use_lmdb(self) -> None:
        """Read every data set from the training LMDBs."""
        for dataset in self.options["datasets"].values():
            dataset.update(dataroot_gt="train/hr.lmdb", dataroot_lq="train/lr.lmdb", io_backend={"type": "lmdb"})

    def begin(self, *arguments: str, **variables: str | list[str]) -> list[warm.Process]:
        """Start `python -m rgt_arch.cli ARGUMENTS` here, with stderr on stdout; watched.py can be imported.

        variables: environment variables. A list holds one value per process.
        """
        settings: dict[str, Any] = {"cwd": self.root, "merged": True, "PYTHONPATH": HERE}
        return warm.start_ranks("-m", "rgt_arch.cli", *arguments, **settings, **variables)

    def start(self, *command: str, code: int = 0, **environment: str) -> str:
        """Run `basicsr …` or `rgt …` in the project, which must return `code`. Returns stdout and stderr together."""
        [process] = self.begin(*command[1:], **environment)
        assert process.wait() == code, process.stdout
        return process.stdout

    def train(self, *arguments: str, code: int = 0, blows: Sequence[dict[str, Any]] = ()) -> str:
        """As `start`, for `basicsr train` with the current options and watched.py."""
        self.write()
        return self.start("basicsr", *TRAIN, *arguments, code=code, BLOWS=json.dumps(blows))

    def start_from_shell(self, *command: str, code: int = 0, **environment: str) -> str:
        """As `start`, for any command as users start it."""
        env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        run = subprocess.run(command, cwd=self.root, env=env, timeout=300, check=False, **pipes)
        assert run.returncode == code, run.stdout
        return str(run.stdout)

    def logged_iterations(self) -> list[int]:
        """Iterations in the newest log, in order."""
        log = max(self.run_folder.glob("train_*.log"), key=lambda path: path.stat().st_mtime)
        return [int(number.replace(",", "")) for number in re.findall(r"iter: *([\d,]+), lr", log.read_text())]


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train` (6 pairs) and `val` (2 pairs), each with hr, lr, hr.lmdb and lr.lmdb."""
    folder = tmp_path_factory.mktemp("photographs")
    _pairs(folder / "train", count=6, size=48)
    _pairs(folder / "val", count=2, size=32)
    return folder


@pytest.fixture
def project(photographs: Path, tmp_path: Path) -> Project:
    """A fresh project folder with the photographs in it."""
    shutil.copytree(photographs, tmp_path, dirs_exist_ok=True)
    return Project(tmp_path)


@pytest.fixture
def basicsr_command(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """basicsr_command(*arguments, command="train", code=0): output of `basicsr` here, which must return `code`."""
    monkeypatch.chdir(project.root)
    monkeypatch.setattr("sys.path", [*sys.path])

    def call(*arguments: str, command: str = "train", code: int = 0) -> str:
        capfd.readouterr()
        try:
            ended = main([command, "-opt", project.write(), *arguments])
        except SystemExit as leaving:
            ended = int(leaving.code or 0)
        printed = "".join(capfd.readouterr())
        assert ended == code, printed
        return printed

    return call


@pytest.fixture
def run(project: Project) -> Project:
    """The project with a tiny RGT that draws random numbers in every step, and runs of 8 iterations."""
    network = {"type": "RGT", "upscale": SCALE, "depth": [2], "embed_dim": 12, "num_heads": [2], "mlp_ratio": 1}
    project.options.update(model_type="RGTModel", network_g={**network, "drop_path_rate": 0.5})
    project.options["train"].update(total_iter=8, ema_decay=0.9, grad_clip=1.0)
    project.options["datasets"]["train"].update(batch_size_per_gpu=2)
    project.options["logger"].update(save_checkpoint_freq=3, csv=True, use_tb_logger=True)
    project.options["val"]["val_freq"] = 3
    return project
