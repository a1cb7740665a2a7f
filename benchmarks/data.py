"""Reading rate of training data, and the time that training waits for it: our loader next to plain BasicSR's."""

from __future__ import annotations

import rgt_arch  # noqa: F401  (makes BasicSR importable)

# isort: split

import argparse
import itertools
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, redirect_stdout
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import cv2
import numpy as np
import skimage.data
import torch
from basicsr.data import build_dataloader
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.data.prefetch_dataloader import CPUPrefetcher
from basicsr.utils.file_client import FileClient, LmdbBackend
from common import Result, device_of, make_parser, positive, run_script, seconds
from networks import Case
from torch.utils.data import Subset

from rgt_arch import cli
from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.data.images import write_png
from rgt_arch.data.loading import TrainingDataset
from rgt_arch.data.sampling import IterationSampler
from rgt_arch.errors import UserError
from rgt_arch.evaluation.complexity import Size
from rgt_arch.progress import Progress

SEED = 10
EPOCH_STEPS = 8
"""Steps of an epoch: few, so that a short run passes several epoch ends."""
LOADERS = ("ours", "BasicSR")
HR, LR = "HR", "LR_bicubic/X2"
FORMS = {"full images, disk": "{}", "sub-images, disk": "sub/{}", "sub-images, LMDB": "sub/{}.lmdb"}
"""Folder of HR or LR, which replaces {}, by form of the data."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = make_parser(
        "Make 2K images, sub-images and LMDBs in a temporary folder, and measure (1) the images that one core reads in "
        "a second, (2) the share of RGT-T's training time that is spent waiting for data. Each is measured with the "
        "loader of `basicsr train` and with plain BasicSR's, in turns. Takes some minutes."
    )
    parser.add_argument("--images", metavar="DIR", help="HR images (default: 2K images made of photographs)")
    for flag, default, text in (
        ("batch", 4, "images in a training step"),
        ("workers", 4, "worker processes that read data while training"),
        ("steps", 40, "training steps of a run"),
        ("rounds", 3, "runs with each loader"),
    ):
        parser.add_argument(f"--{flag}", metavar="N", type=positive, default=default, help=f"{text} (%(default)s)")
    parser.add_argument("--step-ms", metavar="MS", type=positive, help="sleep instead of training: a faster GPU's wait")
    return run_script(parser, measure, argv)


def measure(args: argparse.Namespace) -> Result:
    """Return a row for each rate and each wait. The data is removed at the end."""
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # the number of workers is a flag
    rows = []
    with tempfile.TemporaryDirectory(prefix="rgt_bench_") as place:
        make_data(Path(place), args.images)
        for form, folder in FORMS.items():
            steps = max(1, args.steps // 8) if form.startswith("full") else args.steps
            data = dataset_options(Path(place) / folder, args.batch, workers=0)
            rates = measure_rates(data, steps, args.rounds)
            rows.append({"measured": f"images per second of CPU time: {form}", **rates})
        rows += measure_waits(dataset_options(Path(place) / folder, args.batch, args.workers), args)
    what = "RGT-T" if args.step_ms is None else f"a sleep of {args.step_ms} ms"
    heading = (
        f"Pairs of 64×64 LR patches at ×2. Rates: one thread, files in memory. Waits: training ({what}) on LMDBs, "
        f"batch {args.batch}, {args.workers} workers, {EPOCH_STEPS} steps an epoch"
    )
    return heading, {"rows": rows}


def make_data(folder: Path, images: str | None) -> None:
    """Make HR and LR as full images, sub-images and LMDBs with `rgt prepare`. Raises UserError if that fails."""
    random = np.random.default_rng(SEED)
    for number in range(0 if images else 4):
        write_png(folder / f"photographs/{number}.png", photograph(random))
    hr, lr, sub = f"{folder}/{HR}", f"{folder}/{LR}", f"{folder}/sub"
    to_lr = ("--scale", "2", "--layout", f"{LR}/{{name}}.png", "--hr-out", hr)
    for command in (
        ("lr", images or f"{folder}/photographs", "-o", str(folder), *to_lr),
        ("subimages", hr, "--lr", lr, "-o", sub),
        ("lmdb", f"{sub}/{HR}"),
        ("lmdb", f"{sub}/{LR}"),
    ):
        with redirect_stdout(sys.stderr):
            if cli.main(["prepare", *command]):
                raise UserError(f"rgt prepare {command[0]} failed, see above; nothing was measured")


def photograph(random: np.random.Generator) -> np.ndarray:
    """Return an image of 1356×2040, as most of DIV2K: rows of four photographs, in another order in each row.

    A photograph repeated next to itself would compress and decode unlike real photographs.
    """
    names = ("astronaut", "rocket", "immunohistochemistry", "coffee")
    parts = [getattr(skimage.data, name)()[:400, :, ::-1] for name in names]
    rows = [np.hstack([parts[part] for part in random.permutation(4)])[:, :2040] for _ in range(4)]
    return np.ascontiguousarray(np.vstack(rows)[:1356])


def dataset_options(folder: Path, batch: int, workers: int) -> dict[str, Any]:
    """Return the section datasets:train of an option file; {} in `folder` becomes HR or LR."""
    return {
        "name": "bench", "type": "PairedImageDataset", "phase": "train", "scale": 2, "gt_size": 128,
        "dataroot_gt": str(folder).format(HR), "dataroot_lq": str(folder).format(LR),
        "io_backend": {"type": "lmdb" if folder.suffix == ".lmdb" else "disk"},
        "use_hflip": True, "use_rot": True, "batch_size_per_gpu": batch, "num_worker_per_gpu": workers,
    }  # fmt: skip


# --- the two loaders ---


def batches(loader: str, data: dict[str, Any], steps: int) -> Iterator[dict[str, Any]]:
    """Yield batches as `basicsr train` reads them, or BasicSR 1.4.2 without this package. Closing ends the workers."""
    size, build = data["batch_size_per_gpu"], partial(build_dataloader, dataset_opt=data, seed=SEED)
    with mock.patch.dict(FileClient._backends, {} if loader == "ours" else {"lmdb": LmdbBackend}):
        images = PairedImageDataset(data)
        dataset: Any = Subset(images, [number % len(images) for number in range(EPOCH_STEPS * size)])
        if loader == "ours":
            sampler = IterationSampler(len(dataset), batch_size=size, start_iter=0, total_iter=steps, seed=SEED)
            yield from build(TrainingDataset(dataset, SEED), sampler=sampler)
            return
        epochs = EnlargedSampler(dataset, 1, 0, 1)
        prefetcher = CPUPrefetcher(build(dataset, sampler=epochs))
        for epoch in itertools.count():  # basicsr/train.py:152-156 and :192
            epochs.set_epoch(epoch)
            prefetcher.reset()
            while (batch := prefetcher.next()) is not None:
                yield batch


# --- measuring ---


def in_turns(rounds: int) -> list[str]:
    """Return the order of `rounds` runs of each loader, alternately reversed, so that a busy moment affects both."""
    return [loader for turn in range(rounds) for loader in LOADERS[:: 1 if turn % 2 == 0 else -1]]


def measure_rates(data: dict[str, Any], steps: int, rounds: int) -> dict[str, float]:
    """Return images per second of one core's time by loader: medians of runs in turns, each in its own process."""
    rates: dict[str, list[float]] = {loader: [] for loader in LOADERS}
    for loader in in_turns(rounds):
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as process:
            rates[loader].append(process.submit(_images_per_second, loader, data, steps).result())
    return {loader: median(values) for loader, values in rates.items()}


def _images_per_second(loader: str, data: dict[str, Any], steps: int) -> float:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with closing(batches(loader, data, steps + 1)) as stream:  # type: ignore[type-var]
        next(stream)  # opens the LMDB
        start = time.process_time()
        for _ in range(steps):
            next(stream)
        return float(steps * data["batch_size_per_gpu"] / (time.process_time() - start))


def measure_waits(data: dict[str, Any], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure waits of training runs by loader, in turns, in ms; the first wait of an epoch counts as its end."""
    device = device_of(args.device)
    config = {"upscale": 2, "in_chans": 3, **PRESETS["RGT-T"]}
    case = Case("ours", "fp32", Size(64, 64), config, device, args.batch, train=True)
    step: Any = partial(time.sleep, args.step_ms / 1000) if args.step_ms else case.work(case.build())
    found: dict[str, dict[str, list[float]]] = {loader: {"inside": [], "end": [], "step": []} for loader in LOADERS}
    with Progress(args.rounds * args.steps * len(LOADERS), "training", "it") as progress:
        for loader in in_turns(args.rounds):
            with closing(batches(loader, data, args.steps + 1)) as stream:  # type: ignore[type-var]
                next(stream)
                for number in range(1, args.steps + 1):
                    found[loader]["step"].append(1000 * seconds(step, device))
                    wait = 1000 * seconds(partial(next, stream), device)
                    found[loader]["inside" if number % EPOCH_STEPS else "end"].append(wait)
                    progress.advance()
    waits = {loader: sum(of["inside"]) + sum(of["end"]) for loader, of in found.items()}
    shares = {loader: 100 * waits[loader] / (waits[loader] + sum(found[loader]["step"])) for loader in LOADERS}
    rows: list[dict[str, Any]] = [{"measured": "waiting for data, % of time", **shares}]
    for name, kind, of in (
        ("longest wait at an epoch end, ms", "end", max),
        ("median wait at an epoch end, ms", "end", median),
        ("median wait inside an epoch, ms", "inside", median),
        ("training step, ms", "step", median),
    ):
        rows.append(
            {"measured": name, **{loader: of(found[loader][kind]) for loader in LOADERS if found[loader][kind]}}
        )
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
