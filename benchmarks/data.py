"""Reading rate of training data, and the time that training waits for it: our loader next to plain BasicSR's."""

from __future__ import annotations

import rgt_arch  # noqa: F401  (makes BasicSR importable)

# isort: split

import argparse
import itertools
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import skimage.data
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.prefetch_dataloader import CPUPrefetcher
from basicsr.models import build_model
from basicsr.utils import get_root_logger
from basicsr.utils.file_client import FileClient, LmdbBackend
from common import add_report_flags, describe_machine, device_of, positive, run_script, whole

from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.data.downsampling import make_lr_images
from rgt_arch.data.images import write_png
from rgt_arch.data.lmdb import create_lmdb
from rgt_arch.data.loading import TrainingDataset
from rgt_arch.data.outputs import Cutting
from rgt_arch.data.parallel import default_jobs
from rgt_arch.data.sampling import IterationSampler
from rgt_arch.data.sub_images import make_sub_images
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.reports import deliver, text_table
from rgt_arch.progress import Progress

EPOCH_STEPS = 8
"""Steps of an epoch while training: few, so that a short run passes several epoch ends."""
LR_PATCH = 64
LOADERS = ("ours", "BasicSR")
FULL_SIZE = (1356, 2040)
"""Height and width of most images of DIV2K."""
# Photographs of scikit-image that are larger than a cell of the mosaic. Each cell shows another part: one photograph
# laid out several times would compress, and decode, as no photograph does.
_PHOTOGRAPHS = ("astronaut", "stereo_motorcycle", "rocket", "immunohistochemistry", "coffee")
_CELLS = (4, 6)
_CELL = (FULL_SIZE[0] // _CELLS[0], FULL_SIZE[1] // _CELLS[1])


@dataclass(frozen=True)
class Pairs:
    """HR and LR images of the same names: two folders or two LMDBs."""

    hr: Path
    lr: Path
    count: int


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = argparse.ArgumentParser(
        description="Make 2K images, sub-images and LMDBs in a temporary folder, and measure (1) the images that one "
        "core reads in a second, (2) the share of RGT-T's training time that is spent waiting for data. Each is "
        "measured with the loader of `basicsr train` and with plain BasicSR's, in turns. Takes some minutes.",
    )
    result.add_argument("--images", metavar="DIR", type=Path, help="HR images (default: mosaics of photographs)")
    for flag, default, least, text in (
        ("scale", 2, 2, "HR pixels for an LR pixel"),
        ("full-images", 4, 1, "2K images to make"),
        ("size", 480, 2, "HR pixels along a side of a sub-image"),
        ("batch", 4, 1, "images in a training step"),
        ("workers", 4, 1, "worker processes that read data while training"),
        ("steps", 40, EPOCH_STEPS + 1, "training steps of a run"),
        ("samples", 160, 1, "sub-images read in a run of part 1; of full images an eighth"),
        ("rounds", 3, 1, "runs with each loader"),
        ("seed", 10, 0, "for the choice of pixels, patches and weights"),
    ):
        result.add_argument(f"--{flag}", metavar="N", type=whole(least), default=default, help=f"{text} (%(default)s)")
    result.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: the GPU, if any)")
    result.add_argument("--step-ms", metavar="MS", type=positive, help="sleep instead of training: a faster GPU's wait")
    result.add_argument("--work-dir", metavar="DIR", type=Path, help="for the temporary folder")
    add_report_flags(result)
    return result


def main(args: argparse.Namespace) -> None:
    """Make data, measure, print. The data is removed in the end."""
    if args.size % args.scale or not LR_PATCH * args.scale <= args.size <= min(FULL_SIZE):
        raise UsageError(
            f"--size is {args.size}; give a multiple of --scale {args.scale} from {LR_PATCH * args.scale} to "
            f"{min(FULL_SIZE)}"
        )
    for flag, folder in (("--images", args.images), ("--work-dir", args.work_dir)):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{flag} {folder}: no such folder")
    device = device_of(args.device)
    get_root_logger().setLevel("WARNING")
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # the number of workers is asked for
    with tempfile.TemporaryDirectory(prefix="rgt_bench_", dir=args.work_dir) as place:
        forms = make_material(Path(place), args)
        rates = measure_rates(forms, args)
        waits = measure_waits(forms["epoch"], args, device)
    machine = describe_machine(device)
    head = ["images per second of CPU time", *LOADERS, "ours / BasicSR"]
    body = [[name, *(f"{of[one]:.1f}" for one in LOADERS), f"{of['ours'] / of['BasicSR']:.2f}"]
            for name, of in rates.items()]  # fmt: skip
    rows = [[name, *(f"{waits[one][name]:.2f}" for one in LOADERS)] for name in waits["ours"]]
    what = "RGT-T" if args.step_ms is None else f"a sleep of {args.step_ms:g} ms"
    deliver(
        {"command": "data", "machine": machine, "reading": rates, "training": waits},
        f"{machine}\n\nReading pairs of LR {LR_PATCH}×{LR_PATCH} patches, one thread, files in memory\n\n"
        f"{text_table(head, body)}\n\nTraining ({what}) ×{args.scale} on LMDB sub-images, batch {args.batch}, "
        f"{args.workers} workers, {EPOCH_STEPS} steps an epoch\n\n{text_table(['', *LOADERS], rows)}",
        args.json,
    )


# --- the data ---


def make_material(folder: Path, args: argparse.Namespace) -> dict[str, Pairs]:
    """The same pixels as full images, sub-images and LMDB, made as `rgt prepare` makes them; "epoch": some of the LMDB.

    Deterministic under --seed. Raises UserError for images that cannot be used and if writing fails.
    """
    random = np.random.default_rng(args.seed)
    hr = args.images or folder / "full/HR"
    if args.images is None:
        height, width = (side // args.scale * args.scale for side in FULL_SIZE)
        for number in range(args.full_images):
            write_png(hr / f"{number:04}.png", _mosaic(random)[:height, :width])
    lr = make_lr_images(hr, folder / "full", [args.scale], layout="LR/{name}.png", jobs=default_jobs())
    cutting = Cutting(args.size, max(args.scale, args.size // 2 // args.scale * args.scale))
    subs = make_sub_images(hr, folder / "sub", [folder / "full/LR"], cutting=cutting, jobs=default_jobs())
    if failures := lr.failures + subs.failures:  # for instance a full disk
        raise UserError(failures[0])
    sub_hr, sub_lr = folder / "sub/HR", folder / f"sub/LR_bicubic/X{args.scale}"
    names = sorted(path.stem for path in sub_hr.glob("*.png"))
    if len(names) < EPOCH_STEPS * args.batch:
        raise UsageError(f"{len(names)} sub-images are less than an epoch of {EPOCH_STEPS} steps; add --full-images")
    sub = Pairs(sub_hr, sub_lr, len(names))
    chosen = sorted(random.permutation(names)[: EPOCH_STEPS * args.batch].tolist())
    return {
        "full images, disk": Pairs(hr, folder / "full/LR", args.full_images),
        "sub-images, disk": sub,
        "sub-images, LMDB": _lmdbs(sub, names, folder / "all"),
        "epoch": _lmdbs(sub, chosen, folder / "epoch"),
    }


def _mosaic(random: np.random.Generator) -> np.ndarray:
    height, width = _CELL
    cells = []
    for number in random.permutation(_CELLS[0] * _CELLS[1]):
        image = getattr(skimage.data, _PHOTOGRAPHS[number % len(_PHOTOGRAPHS)])()
        image = image[0] if isinstance(image, tuple) else image  # the left one of a stereo pair
        top, left = (int(random.integers(have - want + 1)) for have, want in zip(image.shape, _CELL, strict=False))
        cells.append(image[top : top + height, left : left + width, ::-1])
    rows = [np.hstack(cells[row * _CELLS[1] : (row + 1) * _CELLS[1]]) for row in range(_CELLS[0])]
    return np.ascontiguousarray(np.vstack(rows))


def _lmdbs(images: Pairs, names: list[str], folder: Path) -> Pairs:
    pairs = Pairs(folder / "HR.lmdb", folder / "LR.lmdb", len(names))
    for source, target in ((images.hr, pairs.hr), (images.lr, pairs.lr)):
        create_lmdb([source / f"{name}.png" for name in names], target, progress=False)
    return pairs


# --- the two loaders ---


def options(pairs: Pairs, args: argparse.Namespace, *, batch: int, workers: int, steps: int, num_gpu: int) -> Any:
    """Options like those of options/train_RGT_T_x2.yml, as far as they concern loading data and a training step."""
    return {
        "name": "bench_data", "model_type": "RGTModel", "scale": args.scale, "num_gpu": num_gpu,
        "manual_seed": args.seed, "is_train": True, "dist": False, "rank": 0, "world_size": 1,
        "datasets": {
            "train": {
                "name": "bench", "type": "PairedImageDataset", "phase": "train", "scale": args.scale,
                "dataroot_gt": str(pairs.hr), "dataroot_lq": str(pairs.lr), "gt_size": LR_PATCH * args.scale,
                "io_backend": {"type": "lmdb" if pairs.hr.suffix == ".lmdb" else "disk"},
                "use_hflip": True, "use_rot": True, "num_worker_per_gpu": workers, "batch_size_per_gpu": batch,
            }
        },
        "network_g": {"type": "RGT", "upscale": args.scale, **PRESETS["RGT-T"]},
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "total_iter": steps,
            "optim_g": {"type": "Adam", "lr": 5e-4, "weight_decay": 0, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [steps], "gamma": 0.5},
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        },
    }  # fmt: skip


def batches(loader: str, opt: Any) -> Iterator[dict[str, Any]]:
    """Batches as `basicsr train`, or BasicSR 1.4.2 without this package, reads them. Closing it ends the workers."""
    return our_batches(opt) if loader == "ours" else plain_batches(opt)


def our_batches(opt: Any) -> Iterator[dict[str, Any]]:
    """Those of `basicsr train`: one pass over all iterations, with the same workers over the ends of epochs."""
    data, seed = opt["datasets"]["train"], opt["manual_seed"]
    dataset = TrainingDataset(build_dataset(data), seed)
    batch, steps = data["batch_size_per_gpu"], opt["train"]["total_iter"]
    sampler = IterationSampler(len(dataset), batch_size=batch, start_iter=0, total_iter=steps, seed=seed)
    yield from build_dataloader(dataset, data, num_gpu=opt["num_gpu"], dist=False, sampler=sampler, seed=seed)


def plain_batches(opt: Any) -> Iterator[dict[str, Any]]:
    """Those of BasicSR 1.4.2 by itself: basicsr/train.py:29-51 and :128."""
    data = opt["datasets"]["train"]
    with _plain_lmdb():
        dataset = build_dataset(data)
        sampler = EnlargedSampler(dataset, 1, 0, 1)
        loader = build_dataloader(
            dataset, data, num_gpu=opt["num_gpu"], dist=False, sampler=sampler, seed=opt["manual_seed"]
        )
        prefetcher = CPUPrefetcher(loader)
        for epoch in itertools.count():  # basicsr/train.py:152-156 and :192
            sampler.set_epoch(epoch)
            prefetcher.reset()
            while (batch := prefetcher.next()) is not None:
                yield batch


@contextmanager
def _plain_lmdb() -> Iterator[None]:
    """BasicSR's own LMDB client, which basicsr_compat replaces."""
    ours = FileClient._backends["lmdb"]
    FileClient._backends["lmdb"] = LmdbBackend
    try:
        yield
    finally:
        FileClient._backends["lmdb"] = ours


# --- measuring ---


def measure_rates(forms: dict[str, Pairs], args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Images per second of one core's time by form and loader: medians, in turns, each in a process of its own."""
    rates: dict[str, dict[str, list[float]]] = {name: {one: [] for one in LOADERS} for name in forms if name != "epoch"}
    with Progress(args.rounds * len(rates) * len(LOADERS), "reading", "run") as progress:
        for turn in range(args.rounds):
            for name, of in rates.items():
                samples = max(1, args.samples // 8) if name.startswith("full") else args.samples
                batch = min(args.batch, forms[name].count)
                steps = -(-samples // batch)
                opt = options(forms[name], args, batch=batch, workers=0, steps=steps + 1, num_gpu=0)
                for loader in LOADERS[:: 1 if turn % 2 == 0 else -1]:
                    context = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
                    with ProcessPoolExecutor(1, context, _one_thread) as process:
                        of[loader].append(process.submit(_images_per_second, loader, opt, steps).result())
                    progress.advance()
    return {name: {loader: median(values) for loader, values in of.items()} for name, of in rates.items()}


def _one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _images_per_second(loader: str, opt: Any, steps: int) -> float:
    with closing(batches(loader, opt)) as stream:  # type: ignore[type-var]
        next(stream)  # opens the LMDB
        start = time.process_time()
        for _ in range(steps):
            next(stream)
        return float(steps * opt["datasets"]["train"]["batch_size_per_gpu"] / (time.process_time() - start))


def measure_waits(pairs: Pairs, args: argparse.Namespace, device: torch.device) -> dict[str, dict[str, float]]:
    """Waits and steps of training runs by loader, in turns; the first wait of an epoch counts as an epoch end."""
    num_gpu = int(device.type == "cuda")
    opt = options(pairs, args, batch=args.batch, workers=args.workers, steps=args.steps, num_gpu=num_gpu)
    step = _training(opt) if args.step_ms is None else lambda _number, _batch: time.sleep(args.step_ms / 1000)
    found: dict[str, dict[str, list[float]]] = {one: {"inside": [], "ends": [], "steps": []} for one in LOADERS}
    with Progress(args.rounds * args.steps * len(LOADERS), "training", "it") as progress:
        for turn in range(args.rounds):
            for loader in LOADERS[:: 1 if turn % 2 == 0 else -1]:
                with closing(batches(loader, opt)) as stream:  # type: ignore[type-var]
                    next_batch = next(stream)
                    for number in range(1, args.steps + 1):
                        start = time.perf_counter()
                        step(number, next_batch)
                        stepped = time.perf_counter()
                        found[loader]["steps"].append(stepped - start)
                        if number < args.steps:
                            next_batch = next(stream)
                            kind = "inside" if number % EPOCH_STEPS else "ends"
                            found[loader][kind].append(time.perf_counter() - stepped)
                        progress.advance()
    result = {}
    for loader, times in found.items():
        waiting = sum(times["inside"]) + sum(times["ends"])
        result[loader] = {
            "waiting for data, % of time": 100 * waiting / (waiting + sum(times["steps"])),
            "longest wait at an epoch end, ms": 1000 * max(times["ends"]),
            "median wait at an epoch end, ms": 1000 * median(times["ends"]),
            "median wait inside an epoch, ms": 1000 * median(times["inside"]),
            "longest wait inside an epoch, ms": 1000 * max(times["inside"]),
            "training step, ms": 1000 * median(times["steps"]),
        }
    return result


def _training(opt: Any) -> Callable[[int, dict[str, Any]], None]:
    """Steps of RGT-T: forward, L1, backward, Adam. The first, which allocates, is made here and not measured."""
    torch.manual_seed(opt["manual_seed"])
    model = build_model(opt)
    size, side = opt["datasets"]["train"]["batch_size_per_gpu"], LR_PATCH * opt["scale"]

    def step(iteration: int, batch: dict[str, Any]) -> None:
        model.update_learning_rate(iteration, warmup_iter=-1)
        model.feed_data(batch)
        model.optimize_parameters(iteration)  # reads the loss: on a GPU this waits until it is done

    step(1, {"lq": torch.rand(size, 3, LR_PATCH, LR_PATCH), "gt": torch.rand(size, 3, side, side)})
    return step


if __name__ == "__main__":
    raise SystemExit(run_script(parser(), main))
