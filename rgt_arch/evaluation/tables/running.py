"""`rgt table`: plan the images to measure, share them out over ranks, keep scores on disk, make the table."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basicsr.utils import get_root_logger

from rgt_arch.config.validation import usable_gpus
from rgt_arch.data.images import image_size
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.tables.images import Images, MissingError, lr_images, scales_of, sr_images
from rgt_arch.evaluation.tables.measuring import Measurer
from rgt_arch.evaluation.tables.methods import Method, Runnable, read_methods, runnable
from rgt_arch.evaluation.tables.ranks import Ranks, joined_ranks
from rgt_arch.evaluation.tables.results import BENCHMARKS, SCALES, Result, Score, Table
from rgt_arch.evaluation.tables.store import Store, software
from rgt_arch.files import check_output, file_digest
from rgt_arch.progress import Progress

_ENSEMBLE_PASSES = 8


@dataclass(frozen=True)
class TableSettings:
    """What to measure; the defaults are those of `rgt table`."""

    methods: Sequence[str]
    scales: Sequence[int] | None = None
    """None: the scales that each method has."""
    benchmarks: Sequence[str] = tuple(BENCHMARKS)
    data: Path = Path("datasets/benchmark")
    tile: int = 0
    """Side of tiles in LR pixels; 0: whole images, as in the paper."""
    device: str = "auto"
    keep: Path = Path("results/table")
    """Folder of the scores of images."""
    fresh: bool = False
    """Measure again instead of using kept scores."""
    output: Path | None = None
    """The file of the table, checked before anything is measured."""
    overwrite: bool = False


@dataclass
class _Cell:
    """A method at a scale on a set: one result of the table."""

    method: Method
    scale: int
    benchmark: str
    runnable: Runnable | None = None
    images: Images | None = None
    missing: str = ""

    def facts(self, name: str, settings: TableSettings) -> dict[str, Any]:
        """Everything that decides the score of the image with this file name."""
        assert self.runnable is not None
        assert self.images is not None
        pair = next(pair for pair in self.images.pairs if pair.name == name)
        return {
            **self.runnable.facts,
            "scale": self.scale,
            "tile": settings.tile if self.runnable.weights else 0,
            "device": "cuda" if _num_gpu(settings) else "cpu",
            "hr": file_digest(pair.gt),
            "lq": file_digest(pair.lq),
            "software": software(),
        }

    @property
    def place(self) -> str:
        """Folder in the store."""
        return f"{self.method.label.replace('/', '_')}_x{self.scale}/{self.benchmark}"


@dataclass(frozen=True)
class _Plan:
    cells: list[_Cell]
    known: dict[tuple[int, str], Score]
    """By number of the cell and file name."""
    pending: list[tuple[int, str]]


def make_table(settings: TableSettings) -> Table | None:
    """Measure all images whose scores are not kept from earlier runs.

    Under torchrun the ranks share the images, and all ranks except the first return None. Raises UsageError for unfit
    methods, flags or folders, UserError for images that cannot be read and files that cannot be written; kept scores
    stay.
    """
    get_root_logger().setLevel(logging.WARNING)  # BasicSR's lines about each network
    with joined_ranks(cpu=not _num_gpu(settings)) as ranks:
        plan = ranks.on_first(lambda: _plan(settings))
        if ranks.rank == 0 and plan.known:
            total = len(plan.known) + len(plan.pending)
            print(
                f"{len(plan.known)} of {total} images were measured before ({settings.keep}; --fresh measures them "
                "again)",
                file=sys.stderr,
            )
        scores = plan.known | _measure(plan, settings, ranks)
    return _table(plan, scores, settings) if ranks.rank == 0 else None


def _check(settings: TableSettings) -> None:
    if settings.tile < 0 or 0 < settings.tile < 16:
        raise UsageError(f"--tile is {settings.tile}; it must be 0 for whole images, or at least 16")
    for name in settings.benchmarks:
        if not name or Path(name).name != name or name == "..":
            raise UsageError(
                f"--sets {name!r}: is not the name of a folder; give the set's name there, and its place with --data"
            )
        if name not in BENCHMARKS and not (settings.data / name).is_dir():
            raise UsageError(
                f"--sets {name}: there is no such set and no folder {settings.data / name} (sets: "
                f"{', '.join(BENCHMARKS)})"
            )
    if len(set(settings.benchmarks)) < len(settings.benchmarks):
        raise UsageError(f"--sets {' '.join(settings.benchmarks)}: one is named twice; name each once")
    if settings.device == "cuda" and not usable_gpus():
        raise UsageError("--device cuda: PyTorch finds no CUDA GPU here; leave it out to measure on the CPU")


def _num_gpu(settings: TableSettings) -> int:
    return int(settings.device != "cpu" and usable_gpus() > 0)


# --- before ---


def _plan(settings: TableSettings) -> _Plan:
    """Find weights and images, and the scores that are kept."""
    _check(settings)
    cells: list[_Cell] = []
    for method in read_methods(settings.methods):
        for scale in _scales(method, settings):
            cells += _cells(method, scale, settings)
    if settings.output is not None:
        check_output("--output", settings.output, _inputs(cells), overwrite=settings.overwrite)
    store = Store(settings.keep, fresh=settings.fresh)
    known, pending = {}, []
    for number, cell in enumerate(cells):
        for pair in cell.images.pairs if cell.images else ():
            score = store.read(cell.place, Path(pair.name).stem, cell.facts(pair.name, settings))
            if score is None:
                pending.append((number, pair.name))
            else:
                known[number, pair.name] = score
    if pending:
        store.check()
    return _Plan(cells, known, pending)


def _inputs(cells: Sequence[_Cell]) -> Iterator[Path]:
    """All files that are read."""
    for cell in cells:
        if cell.runnable and cell.runnable.weights:
            yield cell.runnable.weights
        for pair in cell.images.pairs if cell.images else ():
            yield from (pair.gt, pair.lq)


def _scales(method: Method, settings: TableSettings) -> list[int]:
    """The scales of a method's rows. Raises UsageError if the method has none of the scales asked for."""
    asked = sorted(set(settings.scales or ()))
    if method.kind == "images":
        found = scales_of(Path(method.source), settings.benchmarks, asked or SCALES)
        if found or len(asked) == 1:
            return asked or found
        raise UsageError(
            f"{method.source}: none of its sub-folders is named after a scale, such as {settings.benchmarks[0]}/x2; "
            "say with --scales which one it is of"
        )
    if method.one_scale and asked and method.scales[0] not in asked:
        raise UsageError(f"{method.source}: is ×{method.scales[0]}; add {method.scales[0]} to --scales")
    return list(method.scales) if method.one_scale or not asked else asked


def _cells(method: Method, scale: int, settings: TableSettings) -> list[_Cell]:
    try:
        ready, lack = runnable(method, scale), ""
    except MissingError as error:
        ready, lack = None, str(error)
    cells = []
    for benchmark in settings.benchmarks:
        cell = _Cell(method, scale, benchmark, ready, missing=lack)
        try:
            if ready and method.kind == "images":
                alone = len(settings.benchmarks) == 1
                cell.images = sr_images(Path(method.source), settings.data, benchmark, scale, alone)
            elif ready:
                cell.images = lr_images(settings.data, benchmark, scale)
        except MissingError as error:
            cell.missing = str(error)
        cells.append(cell)
    return cells


# --- during ---


def _measure(plan: _Plan, settings: TableSettings, ranks: Ranks) -> dict[tuple[int, str], Score]:
    """The pending scores; on rank 0 those of all ranks."""
    store = Store(settings.keep)
    share = plan.pending[ranks.rank :: ranks.count]
    costs = [_cost(plan.cells[number], name) for number, name in share]
    scores: dict[tuple[int, str], Score] = {}
    measurer: Measurer | None = None
    loaded: Runnable | None = None
    title = "measuring" if ranks.count == 1 else f"measuring (1 of {ranks.count} processes)"
    shown = ranks.rank == 0 and bool(share)
    with Progress(sum(costs), title, "op", large=True) if shown else nullcontext() as progress:
        for done, (number, name) in enumerate(share, 1):
            cell = plan.cells[number]
            assert cell.runnable is not None
            assert cell.images is not None
            if measurer is None or loaded is not cell.runnable:
                measurer = None  # frees the one before
                measurer = Measurer(cell.runnable, cell.scale, tile=settings.tile, num_gpu=_num_gpu(settings))
                loaded = cell.runnable
            score = measurer.measure(cell.images, name)
            store.write(cell.place, Path(name).stem, cell.facts(name, settings), score)
            scores[number, name] = score
            if progress:
                progress.reach(sum(costs[:done]))
    return {key: score for part in ranks.gather(scores) for key, score in part.items()}


def _cost(cell: _Cell, name: str) -> int:
    """Multiply-adds of an image, roughly: its pixels times the network's parameters. Progress is counted in them, so
    that the time left is right although images of one set are twenty times as large as another's."""
    assert cell.runnable is not None
    assert cell.images is not None
    pair = next(pair for pair in cell.images.pairs if pair.name == name)
    height, width = image_size(pair.lq) or (256, 256)
    passes = _ENSEMBLE_PASSES if cell.runnable.self_ensemble else 1
    return height * width * cell.runnable.parameters * passes


# --- after ---


def _table(plan: _Plan, scores: dict[tuple[int, str], Score], settings: TableSettings) -> Table:
    results = []
    for number, cell in enumerate(plan.cells):
        images = {}
        if cell.images:
            names = sorted(pair.name for pair in cell.images.pairs)
            images = {cell.images.shown(name): scores[number, name] for name in names}
        results.append(Result(cell.method.label, cell.scale, cell.benchmark, images, cell.missing))
    notes = [
        f"{name} has {len(result.images)} images here, {BENCHMARKS[name]} in the paper: not compared."
        for name, result in {r.benchmark: r for r in results if r.images and not r.complete}.items()
    ]
    grey = {
        cell.benchmark: [cell.images.shown(name) for name in sorted(cell.images.grey)]
        for cell in plan.cells
        if cell.images and cell.images.grey
    }
    notes += [
        f"{name}: {', '.join(files)} is grey. Bicubic is measured on that grey, as in the "
        "field's bicubic rows; everything else on Y of three equal channels, as BasicSR does: 1.32 dB more."
        for name, files in grey.items()
    ]
    if settings.tile and any(cell.runnable and cell.runnable.weights for cell in plan.cells):
        notes.append(f"Measured in tiles of {settings.tile} LR pixels; the paper's numbers are of whole images.")
    return Table(tuple(results), tuple(notes))
