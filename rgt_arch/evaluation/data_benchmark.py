"""`rgt bench data`: how fast training data is read, and how long training waits for it, next to plain BasicSR."""

from __future__ import annotations

import math
import multiprocessing
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import torch
from basicsr.models import build_model

from rgt_arch.errors import UsageError
from rgt_arch.evaluation.data_benchmark_loaders import (
    LOADERS,
    LR_PATCH,
    Batch,
    Loader,
    Options,
    batches,
    quiet,
    training_options,
)
from rgt_arch.evaluation.data_benchmark_material import Material, Pairs, make_material
from rgt_arch.evaluation.machine import describe_machine
from rgt_arch.progress import Progress

EPOCH_STEPS = 8
"""Steps of an epoch in part 2: few, so that a short run passes several epoch ends."""

TARGET = 0.05
"""Largest share of training time that waiting for data may take."""


@dataclass(frozen=True)
class BenchSettings:
    """What to measure; the defaults are those of `rgt bench data`."""

    images: Path | None = None
    """A folder of photographs; None for those of scikit-image."""
    scale: int = 2
    full_images: int = 4
    """2K images to make."""
    size: int = 480
    """HR pixels along a side of a sub-image."""
    batch: int = 4
    workers: int = 4
    steps: int = 40
    """Training steps of a run."""
    samples: int = 160
    """Sub-images read in a run of part 1; of full images an eighth."""
    rounds: int = 3
    device: str = "auto"
    step_ms: float | None = None
    """Sleep so long instead of training a network: a stand-in for a fast GPU."""
    work_dir: Path | None = None
    seed: int = 10

    def check(self) -> None:
        """Raise UsageError for values that cannot be measured with."""
        for flag, value, least in (
            ("--scale", self.scale, 1),
            ("--full-images", self.full_images, 1),
            ("--batch", self.batch, 1),
            ("--workers", self.workers, 1),
            ("--samples", self.samples, 1),
            ("--rounds", self.rounds, 1),
            ("--seed", self.seed, 0),
            ("--size", self.size, LR_PATCH * self.scale),  # a sub-image must hold a patch
            ("--steps", self.steps, EPOCH_STEPS + 1),  # at least one epoch end
            ("--step-ms", self.step_ms or 0.0, 0),
        ):
            if not least <= value < math.inf:
                raise UsageError(f"{flag} is {value}; it must be at least {least}")
        if self.work_dir is not None and not self.work_dir.is_dir():
            raise UsageError(f"--work-dir {self.work_dir}: no such folder")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--device cuda: PyTorch finds no CUDA GPU here; leave it out to train on the CPU")


@dataclass(frozen=True)
class Waits:
    """Times of one training run, in seconds."""

    start_up: float
    """Until the first batch, making the loader included."""
    inside: list[float]
    """Waits for the batches inside an epoch."""
    epoch_ends: list[float]
    """Waits for the first batches of an epoch, but for the first epoch's."""
    steps: list[float]

    @property
    def share(self) -> float:
        """Share of the time after the first batch that was spent waiting for data."""
        waiting = sum(self.inside) + sum(self.epoch_ends)
        return waiting / (waiting + sum(self.steps))


def run_data_benchmark(settings: BenchSettings) -> None:
    """Make data in a temporary folder, measure, and print two tables. The folder is removed, whatever happens.

    Raises UsageError for settings that do not fit, UserError if data cannot be written.
    """
    settings.check()
    device = torch.device("cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu")
    print(describe_machine(device), flush=True)
    with tempfile.TemporaryDirectory(prefix="rgt_bench_", dir=settings.work_dir) as folder, quiet():
        material = make_material(
            Path(folder),
            settings.images,
            scale=settings.scale,
            size=settings.size,
            full_images=settings.full_images,
            epoch_images=EPOCH_STEPS * settings.batch,
            seed=settings.seed,
        )
        print(
            f"{material.source}, 2040×1356; {material.sub_images.count} sub-images of {settings.size}×{settings.size}; "
            f"LR bicubic ×{settings.scale}\n",
            flush=True,
        )
        print(format_rates(measure_rates(material, settings), settings), flush=True)
        print(flush=True)
        print(format_waits(measure_waits(material.epoch, settings, device), settings), flush=True)


# --- part 1: reading ---


def measure_rates(material: Material, settings: BenchSettings) -> dict[str, dict[Loader, float]]:
    """Images per second of one core's time for each source and loader: medians of `rounds` runs, in turns."""
    full, sub = max(1, settings.samples // 8), settings.samples
    sources = {
        "full images, disk": (material.full, full),
        "sub-images, disk": (material.sub_images, sub),
        "sub-images, LMDB": (material.lmdb, sub),
    }
    rates: dict[str, dict[Loader, list[float]]] = {name: {loader: [] for loader in LOADERS} for name in sources}
    with Progress(settings.rounds * len(sources) * len(LOADERS), "reading", "run") as progress:
        for turn in range(settings.rounds):
            for name, (pairs, samples) in sources.items():
                for loader in _in_turns(turn):
                    rates[name][loader].append(_rate(loader, pairs, samples, settings))
                    progress.advance()
    return {name: {loader: median(values) for loader, values in of.items()} for name, of in rates.items()}


def _in_turns(turn: int) -> tuple[Loader, ...]:
    return LOADERS if turn % 2 == 0 else LOADERS[::-1]


def _rate(loader: Loader, pairs: Pairs, samples: int, settings: BenchSettings) -> float:
    """One run in a process of its own with one thread: nothing that a loader keeps open helps or hinders the next."""
    batch = min(settings.batch, pairs.count)
    steps = -(-samples // batch)
    opt = _options(pairs, settings, batch=batch, workers=0, steps=steps + 1, num_gpu=0)
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(1, context, _one_thread) as process:
        return process.submit(_images_per_second, loader, opt, steps).result()


def _one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _images_per_second(loader: Loader, opt: Options, steps: int) -> float:
    with quiet(), closing(batches(loader, opt)) as stream:
        next(stream)  # opens the LMDB
        start = time.process_time()  # with the files in memory it is the real time of a machine that does nothing else
        for _ in range(steps):
            next(stream)
        seconds = time.process_time() - start
    return float(steps * opt["datasets"]["train"]["batch_size_per_gpu"] / seconds)


def format_rates(rates: dict[str, dict[Loader, float]], settings: BenchSettings) -> str:
    """The table of part 1."""
    lines = [
        f"Reading pairs of LR {LR_PATCH}×{LR_PATCH} patches, flipped and turned: images per second of CPU time "
        f"(one thread, files in memory, median of {settings.rounds})",
        f"{'':20}{'ours':>9}{'BasicSR':>9}{'ours/BasicSR':>14}{'ours/full':>11}",
    ]
    slowest = rates["full images, disk"]["ours"]
    for name, rate in rates.items():
        ours, plain = rate["ours"], rate["BasicSR"]
        lines.append(f"{name:20}{ours:9.1f}{plain:9.1f}{ours / plain:14.2f}{ours / slowest:11.1f}")
    return "\n".join(lines)


# --- part 2: training ---


def measure_waits(pairs: Pairs, settings: BenchSettings, device: torch.device) -> dict[Loader, list[Waits]]:
    """Training runs with each loader, in turns."""
    runs: dict[Loader, list[Waits]] = {loader: [] for loader in LOADERS}
    opt = _options(
        pairs,
        settings,
        batch=settings.batch,
        workers=settings.workers,
        steps=settings.steps,
        num_gpu=int(device.type == "cuda"),
    )
    step = _sleeping(settings.step_ms) if settings.step_ms is not None else _training(opt)
    with Progress(settings.rounds * settings.steps * len(LOADERS), "training", "it") as progress:
        for turn in range(settings.rounds):
            for loader in _in_turns(turn):
                runs[loader].append(_train(loader, opt, step, progress))
    return runs


def _options(pairs: Pairs, settings: BenchSettings, *, batch: int, workers: int, steps: int, num_gpu: int) -> Options:
    return training_options(
        pairs, scale=settings.scale, batch=batch, workers=workers, steps=steps, num_gpu=num_gpu, seed=settings.seed
    )


def _sleeping(milliseconds: float) -> Callable[[int, Batch], None]:
    return lambda iteration, batch: time.sleep(milliseconds / 1000)


def _training(opt: Options) -> Callable[[int, Batch], None]:
    """Steps of `basicsr train` on RGT-T: forward, L1, backward, Adam. One is made, and not measured: it allocates."""
    torch.manual_seed(opt["manual_seed"])
    model = build_model(opt)
    patch = LR_PATCH, LR_PATCH * opt["scale"]

    def step(iteration: int, batch: Batch) -> None:
        model.update_learning_rate(iteration, warmup_iter=-1)
        model.feed_data(batch)
        model.optimize_parameters(iteration)  # reads the loss: on a GPU this waits until it is done

    size = opt["datasets"]["train"]["batch_size_per_gpu"]
    step(1, {key: torch.rand(size, 3, side, side) for key, side in zip(("lq", "gt"), patch, strict=True)})
    return step


def _train(loader: Loader, opt: Options, step: Callable[[int, Batch], None], progress: Progress) -> Waits:
    start = time.perf_counter()
    with closing(batches(loader, opt)) as stream:
        batch = next(stream)
        waits = Waits(time.perf_counter() - start, [], [], [])
        total = opt["train"]["total_iter"]
        for iteration in range(1, total + 1):
            start = time.perf_counter()
            step(iteration, batch)
            stepped = time.perf_counter()
            waits.steps.append(stepped - start)
            progress.advance()
            if iteration < total:
                stepped = time.perf_counter()
                batch = next(stream)
                kind = waits.inside if iteration % EPOCH_STEPS else waits.epoch_ends
                kind.append(time.perf_counter() - stepped)
    return waits


def format_waits(runs: dict[Loader, list[Waits]], settings: BenchSettings) -> str:
    """The table of part 2, and whether the target is met."""
    ours, plain = (
        [
            ("waiting for data, % of time", 100 * median(run.share for run in of), 2),
            ("longest wait at an epoch end, ms", 1000 * max(max(run.epoch_ends) for run in of), 1),
            ("median wait at an epoch end, ms", 1000 * median(w for run in of for w in run.epoch_ends), 1),
            ("median wait inside an epoch, ms", 1000 * median(w for run in of for w in run.inside), 1),
            ("longest wait inside an epoch, ms", 1000 * max(max(run.inside) for run in of), 1),
            ("until the first batch, ms", 1000 * median(run.start_up for run in of), 1),
            ("training step, ms", 1000 * median(s for run in of for s in run.steps), 1),
        ]
        for of in (runs["ours"], runs["BasicSR"])
    )
    what = "RGT-T" if settings.step_ms is None else f"Simulated (a sleep of {settings.step_ms:g} ms a step)"
    ends = len(runs["ours"][0].epoch_ends)
    lines = [
        f"{what} ×{settings.scale} training on LMDB sub-images, batch {settings.batch}, LR patch {LR_PATCH}, "
        f"{settings.workers} workers:",
        f"{settings.rounds} runs each, of {settings.steps} steps with {ends} epoch ends (an epoch has {EPOCH_STEPS} "
        "steps)",
        f"{'':34}{'ours':>10}{'BasicSR':>10}{'ours/BasicSR':>14}",
    ]
    for (name, value, digits), (_, other, _) in zip(ours, plain, strict=True):
        lines.append(f"{name:34}{value:10.{digits}f}{other:10.{digits}f}{value / other if other else math.inf:14.3f}")
    share = ours[0][1] / 100
    verdict = "met" if share < TARGET else "missed: use more --workers, or sub-images of a smaller --size"
    lines.append(f"Target: waiting takes less than {TARGET:.0%} of the time with our loader: {verdict}.")
    return "\n".join(lines)
