"""`rgt demo`: train and test RGT-T on the photographs that scikit-image ships, through BasicSR's own commands."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
import torch
import yaml
from basicsr.metrics import calculate_psnr, calculate_ssim
from numpy.typing import NDArray

from rgt_arch.data.bicubic import hr_lr_pair, imresize
from rgt_arch.data.lmdb import create_lmdb
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.figures import Box, Panel, comparison_figure, save_figure
from rgt_arch.evaluation.subprocesses import basicsr_test, basicsr_train

SCALE = 2
ITERATIONS = 160
NAME = "demo_RGT_T_x2"

# All of them lie in scikit-image's wheel and are in the public domain or CC0; nothing is downloaded. Those to train on
# are in colour: a network that mostly sees grey learns to ignore colour.
TRAINING = ("astronaut", "stereo_motorcycle", "rocket", "immunohistochemistry")
VALIDATION = "camera"
VALIDATION_SIZE = 192  # HR pixels, cut from the middle: it is looked at several times during training
TEST = {"chelsea": Box(130, 84, 72, 54), "coffee": Box(316, 232, 96, 72)}  # and what the pictures magnify

_MARKER = ".rgt_demo"
_OWN = ("data", "experiments", "results", "train.yml", "test.yml", "train_output.txt", "test_output.txt")


@dataclass(frozen=True)
class Score:
    """PSNR in dB and SSIM, both on Y of YCbCr with a border of `SCALE` pixels cut off."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class DemoResult:
    """What a demo measured."""

    validations: list[tuple[int, float]]
    """(iteration, PSNR in dB on the validation photograph), in order."""
    bicubic: dict[str, Score]
    rgt: dict[str, Score]
    """Per test photograph."""
    pictures: list[Path]


def run_demo(folder: Path, iterations: int = ITERATIONS) -> DemoResult:
    """Make data, train, test, print a table and draw comparison pictures, all in `folder`.

    folder: new, empty, or that of an earlier demo, whose files are replaced. Deterministic on one machine.
    Raises UsageError for a folder with other content or too few iterations, UserError if a step fails.
    """
    if iterations < 2:
        raise UsageError(f"--iterations is {iterations}; it must be at least 2, for a first and a last validation")
    start = time.monotonic()
    _claim(folder)

    print(f"[1/4] photographs of scikit-image: {len(TRAINING)} to train on, 1 to validate, {len(TEST)} to test")
    _make_data(folder / "data")
    train_file, test_file = folder / "train.yml", folder / "test.yml"
    _write_options(train_file, _train_options(iterations))
    _write_options(test_file, _test_options())

    print(f"[2/4] in {folder}: basicsr train -opt {train_file.name}   ({iterations} iterations, from scratch)")
    validations = basicsr_train(train_file, iterations)
    (first, first_psnr), (last, last_psnr) = validations[0], validations[-1]
    print(f"      validation: {first_psnr:.2f} dB at iteration {first}, {last_psnr:.2f} dB at iteration {last}")

    print(f"[3/4] in {folder}: basicsr test -opt {test_file.name}")
    basicsr_test(test_file)
    bicubic, rgt, pictures = _compare(folder)

    print("[4/4] pictures: " + ", ".join(str(picture) for picture in pictures))
    print()
    print(format_table(bicubic, rgt))
    print()
    print(_verdict(bicubic, rgt, iterations))
    print(f"Done in {time.monotonic() - start:.0f} s.")
    return DemoResult(validations, bicubic, rgt, pictures)


def _claim(folder: Path) -> None:
    """Make `folder` this demo's, emptied of an earlier demo's files; refuse it if something else is in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / _MARKER).is_file():
            raise UsageError(f"{folder} is not empty and no earlier demo made it; choose another folder with -o")
        (folder / _MARKER).touch()
        for path in [*(folder / name for name in _OWN), *(_picture(folder, name) for name in TEST)]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be used ({error.strerror}); choose another folder with -o") from error


def _photograph(name: str) -> NDArray[np.uint8]:
    """A photograph of scikit-image as (H, W, 3) RGB."""
    image = getattr(skimage.data, name)()
    image = image[0] if isinstance(image, tuple) else image  # the left one of a stereo pair
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _make_data(folder: Path) -> None:
    """Write HR/LR pairs in the benchmarks' layout, and those for training as LMDB."""
    validation = _photograph(VALIDATION)
    top, left = ((side - VALIDATION_SIZE) // 2 for side in validation.shape[:2])
    validation = validation[top : top + VALIDATION_SIZE, left : left + VALIDATION_SIZE]
    for phase, photographs in (
        ("train", {name: _photograph(name) for name in TRAINING}),
        ("validation", {VALIDATION: validation}),
        ("test", {name: _photograph(name) for name in TEST}),
    ):
        for kind in ("HR", "LR"):
            (folder / phase / kind).mkdir(parents=True)
        for name, photograph in photographs.items():
            hr, lr = hr_lr_pair(photograph, SCALE)
            _write_rgb(folder / phase / "HR" / f"{name}.png", hr)
            _write_rgb(folder / phase / "LR" / f"{name}x{SCALE}.png", lr)
    for kind, ending in (("HR", ""), ("LR", f"x{SCALE}")):
        files = [folder / "train" / kind / f"{name}{ending}.png" for name in TRAINING]
        create_lmdb(files, folder / f"train_{kind}.lmdb", keys=TRAINING, progress=False)


def _train_options(iterations: int) -> dict[str, Any]:
    """Options of a run on two CPU cores: LR patches of 64, the smallest whose recursion depth is that of the test."""
    return {
        **_common_options(),
        "datasets": {
            "train": {
                "name": "photographs",
                "type": "PairedImageDataset",
                "dataroot_gt": "data/train_HR.lmdb",
                "dataroot_lq": "data/train_LR.lmdb",
                "io_backend": {"type": "lmdb"},
                "gt_size": 64 * SCALE,
                "use_hflip": True,
                "use_rot": True,
                "num_worker_per_gpu": 1,
                "batch_size_per_gpu": 2,
            },
            "val": _folder_dataset("validation"),
        },
        "path": {"pretrain_network_g": None, "resume_state": None},
        "train": {
            "total_iter": iterations,
            "warmup_iter": -1,
            "init": "interpolation",
            "optim_g": {"type": "Adam", "lr": 5e-4, "weight_decay": 0, "betas": [0.9, 0.99]},
            "scheduler": {
                "type": "CosineAnnealingRestartLR",
                "periods": [iterations],
                "restart_weights": [1],
                "eta_min": 1e-5,
            },
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        },
        "val": {"val_freq": max(1, iterations // 8), "save_img": False, "metrics": _metrics()},
        "logger": {"print_freq": 1, "save_checkpoint_freq": iterations, "use_tb_logger": False},
    }


def _test_options() -> dict[str, Any]:
    return {
        **_common_options(),
        "datasets": {"test": _folder_dataset("test")},
        "path": {"pretrain_network_g": f"experiments/{NAME}/models/net_g_latest.pth", "strict_load_g": True},
        "val": {"save_img": True, "suffix": "RGT-T", "metrics": _metrics()},
    }


def _common_options() -> dict[str, Any]:
    return {
        "name": NAME,
        "model_type": "RGTModel",
        "scale": SCALE,
        "num_gpu": 1 if torch.cuda.is_available() else 0,
        "manual_seed": 10,
        "network_g": {  # RGT-T
            "type": "RGT",
            "upscale": SCALE,
            "in_chans": 3,
            "img_size": 64,
            "img_range": 1.0,
            "depth": [4, 4],
            "embed_dim": 96,
            "num_heads": [6, 6],
            "mlp_ratio": 2,
            "resi_connection": "1conv",
            "split_size": [8, 16],
            "drop_path_rate": 0.0,  # regularisation has nothing to do in so short a run
        },
    }


def _folder_dataset(phase: str) -> dict[str, Any]:
    return {
        "name": phase,
        "type": "PairedImageDataset",
        "dataroot_gt": f"data/{phase}/HR",
        "dataroot_lq": f"data/{phase}/LR",
        "filename_tmpl": f"{{}}x{SCALE}",
        "io_backend": {"type": "disk"},
    }


def _metrics() -> dict[str, Any]:
    shared = {"crop_border": SCALE, "test_y_channel": True}
    return {"psnr": {"type": "calculate_psnr", **shared}, "ssim": {"type": "calculate_ssim", **shared}}


def _write_options(path: Path, options: dict[str, Any]) -> None:
    heading = f"# Written by `rgt demo`. To run it again, in this folder:  basicsr {path.stem} -opt {path.name}"
    heading += "  --restart\n\n" if path.stem == "train" else "\n\n"
    path.write_text(heading + yaml.safe_dump(options, sort_keys=False), encoding="utf-8")


def _compare(folder: Path) -> tuple[dict[str, Score], dict[str, Score], list[Path]]:
    """Scores of bicubic and of RGT-T on the test photographs, and a picture of each."""
    bicubic, rgt, pictures = {}, {}, []
    for name, box in TEST.items():
        hr = _read_rgb(folder / "data/test/HR" / f"{name}.png")
        lr = _read_rgb(folder / "data/test/LR" / f"{name}x{SCALE}.png")
        enlarged = imresize(lr, SCALE)
        result = _read_rgb(folder / "results" / NAME / "visualization/test" / f"{name}x{SCALE}_RGT-T.png")
        bicubic[name], rgt[name] = _score(enlarged, hr), _score(result, hr)
        panels = [
            Panel("LR", lr),
            Panel(f"bicubic\n{bicubic[name].psnr:.2f} dB / {bicubic[name].ssim:.4f}", enlarged),
            Panel(f"RGT-T, this demo\n{rgt[name].psnr:.2f} dB / {rgt[name].ssim:.4f}", result),
            Panel("HR", hr),
        ]
        pictures.append(_picture(folder, name))
        save_figure(comparison_figure(hr, panels, box), pictures[-1])
    return bicubic, rgt, pictures


def _picture(folder: Path, name: str) -> Path:
    return folder / f"comparison_{name}.png"


def _score(image: NDArray[np.uint8], hr: NDArray[np.uint8]) -> Score:
    """As the literature measures; images are RGB, BasicSR's metrics take BGR."""
    arguments = {"crop_border": SCALE, "test_y_channel": True}
    image, hr = image[..., ::-1], hr[..., ::-1]
    return Score(float(calculate_psnr(image, hr, **arguments)), float(calculate_ssim(image, hr, **arguments)))


def format_table(bicubic: dict[str, Score], rgt: dict[str, Score]) -> str:
    """A text table, one line per photograph and one for the mean."""
    lines = [f"{'':14}{'bicubic':^14}    {'RGT-T':^14}", f"{'':14}" + "    ".join(["PSNR-Y  SSIM-Y"] * 2)]
    for name in [*bicubic, "mean"]:
        cells = [_mean(list(scores.values())) if name == "mean" else scores[name] for scores in (bicubic, rgt)]
        lines.append(f"{name:14}" + "    ".join(f"{cell.psnr:6.2f}  {cell.ssim:6.4f}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines)


def _mean(scores: Sequence[Score]) -> Score:
    return Score(sum(s.psnr for s in scores) / len(scores), sum(s.ssim for s in scores) / len(scores))


def _verdict(bicubic: dict[str, Score], rgt: dict[str, Score], iterations: int) -> str:
    ahead = _mean(list(rgt.values())).psnr - _mean(list(bicubic.values())).psnr
    if ahead > 0:
        return f"RGT-T is {ahead:.2f} dB ahead of bicubic."
    return (
        f"RGT-T is {-ahead:.2f} dB behind bicubic. That is no fault: so few steps from scratch teach it little.\n"
        f"This run of {iterations} iterations shows that training works, not how good RGT is."
    )


def _write_rgb(path: Path, image: NDArray[np.uint8]) -> None:
    cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))


def _read_rgb(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{path}: cannot be read; run the demo again")
    return np.asarray(image[..., ::-1], np.uint8)
