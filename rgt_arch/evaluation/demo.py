"""`rgt demo`: train and test RGT-T on the photographs that scikit-image ships, through BasicSR's own commands."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from basicsr.metrics import calculate_psnr, calculate_ssim
from numpy.typing import NDArray

from rgt_arch.data.bicubic import hr_lr_pair, imresize
from rgt_arch.data.images import write_png
from rgt_arch.data.lmdb import create_lmdb
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.figures.pictures import RGB, read_rgb
from rgt_arch.evaluation.reports import text_table
from rgt_arch.evaluation.tables.results import Score, mean_score
from rgt_arch.evaluation.training_runs import METRICS_FILE, basicsr_test, basicsr_train, read_metrics
from rgt_arch.inference.comparing import write_comparison

SCALE = 2
ITERATIONS = 160
NAME = "demo_RGT_T_x2"

# All of them are part of scikit-image's wheel and in the public domain or CC0; nothing is downloaded. The photographs
# for training are in colour: a network that mostly sees grey learns to ignore colour.
TRAINING = ("astronaut", "stereo_motorcycle", "rocket", "immunohistochemistry")
VALIDATION = "camera"
VALIDATION_SIZE = 192  # HR pixels, cut from the middle: it is measured several times during training
TEST = ("chelsea", "coffee")

_OPTIONS = Path(__file__).parent / "demo_options"
_MARKER = ".rgt_demo"
_OWN = ("data", "experiments", "results", "train.yml", "test.yml", "train_output.txt", "test_output.txt")


@dataclass(frozen=True)
class DemoResult:
    """What a demo measured."""

    validations: dict[int, float]
    """PSNR in dB on the validation photograph by iteration."""
    bicubic: dict[str, Score]
    rgt: dict[str, Score]
    """Per test photograph."""


def run_demo(folder: Path, iterations: int = ITERATIONS) -> DemoResult:
    """Make data, train, test, print a table and write comparison pictures, all in `folder`.

    folder: new, empty, or that of an earlier demo, whose files are replaced. Deterministic on one machine.
    Raises UsageError for a folder with other content or too few iterations, UserError if a step fails.
    """
    if iterations < 2:
        raise UsageError(f"--iterations is {iterations}; it must be at least 2, for a first and a last validation")
    start = time.monotonic()
    _claim(folder)
    print(f"[1/4] photographs of scikit-image: {len(TRAINING)} to train on, 1 to validate, {len(TEST)} to test")
    _make_data(folder / "data")
    train_file, test_file = (shutil.copyfile(_OPTIONS / name, folder / name) for name in ("train.yml", "test.yml"))
    length = [
        f"train:total_iter={iterations}",
        f"train:scheduler:periods=[{iterations}]",
        f"val:val_freq={max(1, iterations // 8)}",
        f"logger:save_checkpoint_freq={iterations}",
    ]
    print(f"[2/4] in {folder}: basicsr train -opt train.yml   ({iterations} iterations, from scratch)")
    run = basicsr_train(train_file, folder, NAME, iterations, [] if iterations == ITERATIONS else length)
    validations = read_metrics(run / METRICS_FILE)["psnr", "validation"]
    first, last = min(validations), max(validations)
    print(
        f"      validation: {validations[first]:.2f} dB at iteration {first}, {validations[last]:.2f} dB at "
        f"iteration {last}"
    )
    print(f"[3/4] in {folder}: basicsr test -opt test.yml")
    basicsr_test(test_file, folder)
    bicubic, rgt = {}, {}
    for name in TEST:
        hr, lr = (read_rgb(folder / "data/test" / place) for place in (f"HR/{name}.png", f"LR/{name}x{SCALE}.png"))
        result = read_rgb(folder / "results" / NAME / "visualization/test" / f"{name}x{SCALE}_RGT-T.png")
        bicubic[name], rgt[name] = _score(imresize(lr, SCALE), hr), _score(result, hr)
        write_comparison(_picture(folder, name), lr, result)
    print("[4/4] pictures: " + ", ".join(str(_picture(folder, name)) for name in TEST))
    print(f"\n{format_table(bicubic, rgt)}\n\n{_verdict(bicubic, rgt, iterations)}")
    print(f"Done in {time.monotonic() - start:.0f} s.")
    return DemoResult(validations, bicubic, rgt)


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


def _photograph(name: str) -> RGB:
    image = getattr(skimage.data, name)()
    image = image[0] if isinstance(image, tuple) else image  # the left one of a stereo pair
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _make_data(folder: Path) -> None:
    """Write HR/LR pairs in the benchmarks' layout, and the pairs for training as LMDB."""
    validation = _photograph(VALIDATION)
    top, left = ((side - VALIDATION_SIZE) // 2 for side in validation.shape[:2])
    validation = validation[top : top + VALIDATION_SIZE, left : left + VALIDATION_SIZE]
    for phase, photographs in (
        ("train", {name: _photograph(name) for name in TRAINING}),
        ("validation", {VALIDATION: validation}),
        ("test", {name: _photograph(name) for name in TEST}),
    ):
        for name, photograph in photographs.items():
            hr, lr = hr_lr_pair(photograph, SCALE)
            write_png(folder / phase / "HR" / f"{name}.png", np.ascontiguousarray(hr[..., ::-1]))
            write_png(folder / phase / "LR" / f"{name}x{SCALE}.png", np.ascontiguousarray(lr[..., ::-1]))
    for kind, ending in (("HR", ""), ("LR", f"x{SCALE}")):
        files = [folder / "train" / kind / f"{name}{ending}.png" for name in TRAINING]
        create_lmdb(files, folder / f"train_{kind}.lmdb", keys=TRAINING, progress=False)


def _picture(folder: Path, name: str) -> Path:
    return folder / f"comparison_{name}.png"


def _score(image: NDArray[np.uint8], hr: NDArray[np.uint8]) -> Score:
    """As the literature measures; images are RGB, BasicSR's metrics take BGR."""
    psnr, ssim = (
        float(metric(image[..., ::-1], hr[..., ::-1], crop_border=SCALE, test_y_channel=True))
        for metric in (calculate_psnr, calculate_ssim)
    )
    return Score(psnr, ssim)


def format_table(bicubic: dict[str, Score], rgt: dict[str, Score]) -> str:
    """A text table, one line per photograph and one for the mean."""
    rows = []
    for name in [*bicubic, "mean"]:
        scores = [mean_score(of.values()) if name == "mean" else of[name] for of in (bicubic, rgt)]
        rows.append([name, *(text for score in scores for text in (f"{score.psnr:.2f}", f"{score.ssim:.4f}"))])
    return text_table(["", "bicubic PSNR-Y", "SSIM-Y", "RGT-T PSNR-Y", "SSIM-Y"], rows)


def _verdict(bicubic: dict[str, Score], rgt: dict[str, Score], iterations: int) -> str:
    ahead = mean_score(rgt.values()).psnr - mean_score(bicubic.values()).psnr
    if ahead > 0:
        return f"RGT-T is {ahead:.2f} dB ahead of bicubic."
    return (
        f"RGT-T is {-ahead:.2f} dB behind bicubic. This is not a fault: {iterations} steps from scratch teach it "
        "little.\nThe demo shows that training works, not how good RGT is."
    )
