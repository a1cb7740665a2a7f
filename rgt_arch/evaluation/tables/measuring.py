"""`rgt table`: measure images, split over ranks, and keep their scores on disk."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import torch.distributed as dist

from rgt_arch.config.metrics import pyiqa_metrics
from rgt_arch.config.problems import suggestion
from rgt_arch.config.validation import usable_gpus
from rgt_arch.data.images import image_size
from rgt_arch.data.pairing import Pair
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.tables.methods import (
    Images,
    Method,
    MissingError,
    Runnable,
    find_images,
    read_methods,
    runnable,
    scales_of,
)
from rgt_arch.evaluation.tables.results import BENCHMARKS, SCALES, Result, Score, Table, software
from rgt_arch.evaluation.tables.scoring import enlarger, score_image
from rgt_arch.files import check_output, check_place, file_digest, write_text
from rgt_arch.launchers import gathered, launcher_here
from rgt_arch.models.pyiqa_metric import load_metric
from rgt_arch.progress import Progress
from rgt_arch.training.ranks import init_dist, leave, let_others_speak, lost_contact, on_rank_zero

# torch's default is half an hour, but on a CPU RGT+ needs longer for one image of Manga109, and a download may too.
# A dead process is noticed without a limit: its connections close, and torchrun ends the others.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class TableSettings:
    """Settings of a table, with the defaults of `rgt table`."""

    methods: Sequence[str]
    scales: Sequence[int] | None = None
    """None: all scales of each method."""
    benchmarks: Sequence[str] = tuple(BENCHMARKS)
    data: Path = Path("datasets/benchmark")
    tile: int = 0
    """Side of tiles in LR pixels; 0: whole images, as in the paper."""
    device: str = "auto"
    keep: Path = Path("results/table")
    """Folder of the kept scores."""
    fresh: bool = False
    """Measure again instead of using kept scores."""
    output: Path | None = None
    """The file of the table, checked before anything is measured."""
    metrics: Sequence[str] = ()
    """Metrics of pyiqa beside PSNR and SSIM."""
    overwrite: bool = False

    @property
    def num_gpu(self) -> int:
        """0 or 1 for each process."""
        return int(self.device != "cpu" and usable_gpus() > 0)


@dataclass(frozen=True)
class Cell:
    """A method, scale and set, ready to be measured: one result of the table."""

    method: Method
    scale: int
    benchmark: str
    ready: Runnable
    images: Images


@dataclass
class Task:
    """An image of a cell."""

    cell: Cell
    pair: Pair
    facts: dict[str, Any]
    """Everything that determines the score, ready for JSON."""
    file: Path
    """Where the score is kept; its name depends on the facts."""
    score: Score | None = None


def make_table(settings: TableSettings) -> Table | None:
    """Measure all images without a kept score, and return the table.

    Under torchrun the ranks share the images, and all ranks except the first return None. Raises UsageError for invalid
    methods, flags or folders, UserError for images that cannot be read and files that cannot be written; kept scores
    stay.
    """
    with _joined_ranks(cpu=not settings.num_gpu) as (rank, count, group):
        results, tasks = on_rank_zero(lambda: _plan(settings), group)
        pending = [task for task in tasks if task.score is None]
        if rank == 0 and len(pending) < len(tasks):
            known = f"{len(tasks) - len(pending)} of {len(tasks)} images were measured before"
            print(f"{known} ({settings.keep}; --fresh measures them again)", file=sys.stderr)
        title = "measuring" if count == 1 else f"measuring (1 of {count} processes)"
        _measure(pending[rank::count], settings, title if rank == 0 else None)
        shares = gathered([task.score for task in pending[rank::count]], group)
    for first, scores in enumerate(shares if rank == 0 else ()):
        for task, score in zip(pending[first::count], scores, strict=True):
            task.score = score
    return _table(results, tasks, settings) if rank == 0 else None


@contextmanager
def _joined_ranks(cpu: bool) -> Iterator[tuple[int, int, dist.ProcessGroup | None]]:
    """Yield rank, number and group of torchrun's processes; 0, 1 and None without torchrun. cpu: use no GPU.

    Raises UserError if another process ended.
    """
    if launcher_here() == "none":
        yield 0, 1, None
        return
    init_dist("pytorch", "gloo", cpu=cpu)  # only scores are exchanged
    try:
        # A second group: the first keeps torch's limit, for processes that do not find each other at the start.
        yield dist.get_rank(), dist.get_world_size(), dist.new_group(timeout=_PATIENCE)  # type: ignore[misc]
    except RuntimeError as error:
        if not lost_contact(error):
            raise
        let_others_speak()
        raise UserError(
            "another process of this table is gone; its own message or torchrun's gives the reason; what was measured "
            "is kept: run it again"
        ) from error
    finally:
        leave()


# --- before ---


def _plan(settings: TableSettings) -> tuple[list[Cell | Result], list[Task]]:
    """Find weights, images and kept scores. Cells without weights or images are Results already."""
    if settings.tile < 0 or 0 < settings.tile < 16:
        raise UsageError(f"--tile is {settings.tile}; it must be 0 for whole images, or at least 16")
    known = pyiqa_metrics().keys() - {"psnr", "ssim"} if settings.metrics else ()
    for name in settings.metrics:
        if name not in known:
            raise UsageError(f"--metrics {name}: pyiqa has no such metric of images; {suggestion(name, known)}")
    if settings.device == "cuda" and not usable_gpus():
        raise UsageError("--device cuda: PyTorch finds no CUDA GPU here; leave it out to measure on the CPU")
    for name in settings.benchmarks:
        if name not in BENCHMARKS and not (settings.data / name / "HR").is_dir():
            hint = suggestion(name, BENCHMARKS)
            raise UsageError(f"--sets {name}: there is no such set and no {settings.data / name / 'HR'}; {hint}")
    results = [
        result
        for method in read_methods(settings.methods)
        for scale in _scales(method, settings)
        for result in _cells(method, scale, settings)
    ]
    pairs = [(cell, pair) for cell in results if isinstance(cell, Cell) for pair in cell.images.pairs]
    if settings.output is not None:
        inputs = [file for cell, pair in pairs for file in (pair.gt, pair.lq, cell.ready.weights) if file]
        check_output("--output", settings.output, dict.fromkeys(inputs), overwrite=settings.overwrite)
    tasks = [_task(cell, pair, settings) for cell, pair in pairs]
    if any(task.score is None for task in tasks):
        try:
            settings.keep.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{settings.keep}: cannot be created ({error.strerror}); choose another --keep") from error
        check_place(settings.keep / "score.json")
    return results, tasks


def _scales(method: Method, settings: TableSettings) -> Sequence[int]:
    """The scales of a method's rows. Raises UsageError if it has none of the requested scales."""
    asked = sorted(set(settings.scales or ()))
    if method.kind == "images":
        found = scales_of(Path(method.source), settings.benchmarks, asked or SCALES)
        if found or len(asked) == 1:
            return asked or found
        raise UsageError(
            f"{method.source}: none of its sub-folders is named after a scale, such as {settings.benchmarks[0]}/x2; "
            "give its scale with --scales"
        )
    if method.one_scale and asked and method.scales[0] not in asked:
        raise UsageError(f"{method.source}: is ×{method.scales[0]}; add {method.scales[0]} to --scales")
    return method.scales if method.one_scale or not asked else asked


def _cells(method: Method, scale: int, settings: TableSettings) -> Iterator[Cell | Result]:
    given, ready, missing = Path(method.source) if method.kind == "images" else None, None, ""
    try:
        ready = runnable(method, scale)
    except MissingError as error:
        missing = str(error)
    for benchmark in dict.fromkeys(settings.benchmarks):
        try:
            if ready:
                yield Cell(method, scale, benchmark, ready, find_images(settings.data, benchmark, scale, given))
                continue
        except MissingError as error:
            missing = str(error)
        yield Result(method.label, scale, benchmark, missing=missing)


def _task(cell: Cell, pair: Pair, settings: TableSettings) -> Task:
    ready = cell.ready
    facts = {
        "network": ready.network,  # also for a file, because the rules that infer it may change
        "weights": ready.weights and file_digest(ready.weights),
        "self_ensemble": ready.self_ensemble,
        "scale": cell.scale,
        "tile": settings.tile if ready.weights else 0,
        "device": "cuda" if settings.num_gpu else "cpu",
        "metrics": {name: version("pyiqa") for name in settings.metrics},
        "hr": file_digest(pair.gt),
        "lq": file_digest(pair.lq),
        "software": software(),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    file = settings.keep / f"{cell.benchmark}_x{cell.scale}" / f"{Path(pair.name).stem}.{digest}.json"
    return Task(cell, pair, facts, file, None if settings.fresh else _kept(file))


def _kept(file: Path) -> Score | None:
    """The score in a file; None for a file that is missing or damaged."""
    try:
        score = {name: float(value) for name, value in json.loads(file.read_text("utf-8"))["score"].items()}
        return score if {"psnr", "ssim"} <= score.keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


# --- during ---


def _measure(tasks: Sequence[Task], settings: TableSettings, title: str | None) -> None:
    """Measure the tasks and keep their scores. title: of the progress bar; None: no bar."""
    work = [_work(task) for task in tasks]
    done = 0
    for name in settings.metrics if tasks else ():  # what they lack is reported before an image is enlarged
        load_metric(name)
    with Progress(sum(work), title, "op", large=True) if title and tasks else nullcontext() as progress:
        for _, group in groupby(tasks, lambda task: id(task.cell)):
            first, *others = group
            cell = first.cell
            enlarge = enlarger(cell.ready, cell.scale, tile=settings.tile, num_gpu=settings.num_gpu)
            for task in (first, *others):
                # MATLAB's bicubic is measured on the grey values; BasicSR would take Y of three equal channels
                on_grey = cell.method.kind == "bicubic" and task.pair.name in cell.images.grey
                where = f"{cell.benchmark} ×{cell.scale}: {task.pair.name}"
                task.score = score_image(
                    enlarge, task.pair, cell.scale, where=where, on_grey=on_grey, metrics=settings.metrics
                )
                task.file.parent.mkdir(parents=True, exist_ok=True)
                content = {"score": task.score, "facts": task.facts}
                write_text(json.dumps(content, indent=1) + "\n", task.file)
                done += 1
                if progress:
                    progress.reach(sum(work[:done]))


def _work(task: Task) -> int:
    """Rough multiply-adds of an image, the unit of progress: images of one set may be 20 times as large as others."""
    height, width = image_size(task.pair.lq) or (256, 256)
    ready = task.cell.ready
    parameters = ready.weights.stat().st_size // 4 if ready.weights else 10_000
    return height * width * parameters * (8 if ready.self_ensemble else 1)


# --- after ---


def _table(planned: Sequence[Cell | Result], tasks: Sequence[Task], settings: TableSettings) -> Table:
    scores: dict[int, dict[str, Score]] = {}
    for task in sorted(tasks, key=lambda task: task.pair.name):
        assert task.score is not None
        scores.setdefault(id(task.cell), {})[task.cell.images.shown(task.pair.name)] = task.score
    cells = [cell for cell in planned if isinstance(cell, Cell)]
    results = tuple(
        Result(cell.method.label, cell.scale, cell.benchmark, scores[id(cell)]) if isinstance(cell, Cell) else cell
        for cell in planned
    )
    notes = [
        f"{r.benchmark} has {len(r.images)} images here, {BENCHMARKS[r.benchmark]} in the paper: not compared."
        for r in results
        if r.images and not r.complete
    ]
    notes += [
        f"{cell.benchmark}: {', '.join(map(cell.images.shown, sorted(cell.images.grey)))} is grey. Bicubic is measured "
        "on that grey, as in the field's bicubic rows; everything else on Y of three equal channels, as BasicSR does: "
        "1.32 dB more."
        for cell in cells
        if cell.images.grey
    ]
    if settings.tile and any(cell.ready.weights for cell in cells):
        notes.append(f"Measured in tiles of {settings.tile} LR pixels; the paper's numbers are of whole images.")
    return Table(results, tuple(dict.fromkeys(notes)))
