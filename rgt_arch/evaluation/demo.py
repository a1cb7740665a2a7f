"""`rgt demo`: train and test RGT-T on the photographs that scikit-image ships, through `basicsr train` and `test`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import skimage.data

from rgt_arch.data.bicubic import hr_lr_pair, imresize
from rgt_arch.data.images import write_png
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.figures.plotting import RGB, read_rgb
from rgt_arch.evaluation.reports import number, text_table
from rgt_arch.evaluation.tables.results import mean_score
from rgt_arch.evaluation.tables.scoring import score_pair
from rgt_arch.evaluation.training_runs import METRICS_FILE, basicsr_test, basicsr_train, read_metrics
from rgt_arch.inference.pictures.writing import write_comparison
from rgt_arch.inference.upscaler import Upscaler

SCALE = 2
ITERATIONS = 160
WEIGHTS = "RGT_T_x2"
NAME = "demo_RGT_T_x2"

# All of them are part of scikit-image's wheel and in the public domain or CC0; nothing is downloaded. The photographs
# for training are in colour: a network that mostly sees grey learns to ignore colour.
TRAINING = ("astronaut", "stereo_motorcycle", "rocket", "immunohistochemistry")
VALIDATION = "camera"
VALIDATION_SIZE = 192  # HR pixels, cut from the middle: it is measured several times during training
TEST = ("chelsea", "coffee")

_OPTIONS = Path(__file__).parent / "demo_options"
_FROM_SCRATCH = ["path:pretrain_network_g=~", "train:init=interpolation", "train:optim_g:lr=5e-4"]
_MARKER = ".rgt_demo"
_PICTURES = {name: f"comparison_{name}.png" for name in TEST}
_OWN = ("data", "experiments", "results", "train.yml", "test.yml", "train_output.txt", "test_output.txt")


def run_demo(folder: Path, iterations: int = ITERATIONS, from_scratch: bool = False) -> None:
    """Make data, train, test, print a table and write comparison pictures, all in `folder`.

    folder: new, empty, or of an earlier demo, whose files are replaced. from_scratch: start from interpolation, not
    from the weights that ship. Deterministic on one machine. Raises UsageError for a folder with other content or too
    few iterations, UserError if a step fails.
    """
    if iterations < 2:
        raise UsageError(f"--iterations is {iterations}; it must be at least 2, for a first and a last validation")
    start = time.monotonic()
    _claim(folder)
    print(f"[1/4] photographs of scikit-image: {len(TRAINING)} to train on, 1 to validate, {len(TEST)} to test")
    _make_data(folder / "data")
    train_file, test_file = (shutil.copyfile(_OPTIONS / name, folder / name) for name in ("train.yml", "test.yml"))
    overrides = _FROM_SCRATCH if from_scratch else []
    if iterations != ITERATIONS:
        overrides = [
            *overrides,
            f"train:total_iter={iterations}",
            f"train:scheduler:periods=[{iterations}]",
            f"val:val_freq={max(1, iterations // 8)}",
            f"logger:save_checkpoint_freq={iterations}",
        ]
    command = " ".join(["basicsr train -opt train.yml", *(["--force_yml", *overrides] if overrides else [])])
    origin = "scratch" if from_scratch else WEIGHTS
    print(f"[2/4] in {folder}: {command}   ({iterations} iterations, from {origin})")
    run = basicsr_train(train_file, folder, NAME, iterations, overrides)
    validations = read_metrics(run / METRICS_FILE)["psnr", "validation"]
    first, last = (f"{validations[i]:.2f} dB at iteration {i}" for i in (min(validations), max(validations)))
    print(f"      validation: {first}, {last}")
    print(f"[3/4] in {folder}: basicsr test -opt test.yml")
    basicsr_test(test_file, folder)
    methods: dict[str, Callable[[RGB], RGB]] = {"bicubic": partial(imresize, scale=SCALE)}
    if not from_scratch:
        methods[WEIGHTS] = Upscaler(WEIGHTS).upscale
    scores = {}
    for name in TEST:
        hr, lr = (read_rgb(folder / "data/test" / place) for place in (f"HR/{name}.png", f"LR/{name}x{SCALE}.png"))
        result = read_rgb(folder / "results" / NAME / "visualization/test" / f"{name}x{SCALE}_RGT-T.png")
        images = [*(upscale(lr) for upscale in methods.values()), result]
        scores[name] = [score_pair(image[..., ::-1], hr[..., ::-1], SCALE) for image in images]
        write_comparison(folder / _PICTURES[name], lr, result)
    print("[4/4] pictures: " + ", ".join(str(folder / picture) for picture in _PICTURES.values()) + "\n")
    scores["mean"] = [mean_score(list(of)) for of in zip(*(scores[name] for name in TEST), strict=True)]
    rows = [[name, *(text for one in of for text in (number(one["psnr"], 2), number(one["ssim"], 4)))]
            for name, of in scores.items()]  # fmt: skip
    heads = [head for method in (*methods, f"from {origin}") for head in (f"{method} PSNR-Y", "SSIM-Y")]
    print(text_table(["", *heads], rows) + "\n")
    ahead = scores["mean"][-1]["psnr"] - scores["mean"][0]["psnr"]
    print(f"RGT-T, trained from {origin}, is {abs(ahead):.2f} dB {'ahead of' if ahead > 0 else 'behind'} bicubic.")
    if ahead <= 0:
        print(f"This is not a fault: {iterations} steps from scratch teach it little.")
        print("The demo shows that training works, not how good RGT is.")
    print(f"Done in {time.monotonic() - start:.0f} s.")


def _claim(folder: Path) -> None:
    """Create `folder`, or remove an earlier demo's files from it. Raises UsageError if it has other content."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / _MARKER).is_file():
            raise UsageError(f"{folder} is not empty and no earlier demo made it; choose another folder with -o")
        (folder / _MARKER).touch()
        for name in (*_OWN, *_PICTURES.values()):
            shutil.rmtree(folder / name, ignore_errors=True)  # only folders; unlink removes files and links
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be used ({error.strerror}); choose another folder with -o") from error


def _photograph(name: str) -> RGB:
    image = getattr(skimage.data, name)()
    image = image[0] if isinstance(image, tuple) else image  # the left one of a stereo pair
    if name == VALIDATION:
        top, left = ((side - VALIDATION_SIZE) // 2 for side in image.shape[:2])
        image = image[top : top + VALIDATION_SIZE, left : left + VALIDATION_SIZE]
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _make_data(folder: Path) -> None:
    """Write the photographs for training, and the others as HR/LR pairs in the benchmarks' layout."""
    for name in TRAINING:
        write_png(folder / "train" / f"{name}.png", np.ascontiguousarray(_photograph(name)[..., ::-1]))
    for phase, names in (("validation", (VALIDATION,)), ("test", TEST)):
        for name in names:
            hr, lr = hr_lr_pair(_photograph(name), SCALE)
            write_png(folder / phase / "HR" / f"{name}.png", np.ascontiguousarray(hr[..., ::-1]))
            write_png(folder / phase / "LR" / f"{name}x{SCALE}.png", np.ascontiguousarray(lr[..., ::-1]))
