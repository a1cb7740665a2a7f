"""Make PNG files from the images of a folder, for `rgt prepare lr`, `degrade` and `subimages`.

A hidden stamp in each output folder holds the settings: the same command continues, another one refuses the folder.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from rgt_arch.data.bicubic import imresize
from rgt_arch.data.images import (
    Size,
    decode,
    header_size,
    image_size,
    is_transparent,
    read_bytes,
    walk_files,
    write_bytes,
    write_png,
)
from rgt_arch.data.pairing import images_below
from rgt_arch.data.parallel import Summary, Task, successes
from rgt_arch.errors import UsageError, UserError

STAMP = ".rgt_prepare"
Box = tuple[int, int, int, int]  # top, left, height, width


@dataclass(frozen=True)
class Cutting:
    """How images are cut. Raises UsageError for values out of range."""

    size: int = 480
    """Side of a crop of HR in pixels."""
    step: int = 240
    """Pixels from one crop of HR to the next."""
    threshold: int = 0
    """At the bottom and right of HR, a rest of at most this many pixels is left out."""

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("step", 1), ("threshold", 0)):
            if (value := getattr(self, name)) < least:
                raise UsageError(f"--{name} is {value}; it must be at least {least}")

    def boxes(self, size: Size) -> list[Box]:
        """Return the crops of an image, row by row.

        As in BasicSR (scripts/data_preparation/extract_subimages.py in its repository): a crop every `step` pixels,
        and one at the far edge if a rest of more than `threshold` pixels is left. An image shorter than a crop is kept
        whole in that direction.
        """
        height, width = (min(self.size, length) for length in size)
        return [(top, left, height, width) for top, left in itertools.product(*map(self._starts, size))]

    def _starts(self, length: int) -> list[int]:
        starts = list(range(0, max(length - self.size, 0) + 1, self.step))
        if length - (starts[-1] + self.size) > self.threshold:
            starts.append(length - self.size)
        return starts


@dataclass(frozen=True)
class Degrading:
    """How LR images are degraded."""

    profile: str
    """`real` or `photo`, as RealRGTModel's `degradation`."""
    seed: int = 0
    """An image is degraded by random numbers of this seed and its name."""


@dataclass(frozen=True)
class Target:
    """An output folder, and how its files are made from each image."""

    folder: Path
    file: str
    """File name with the fields {name} and, for crops, {number}."""
    origin: Path
    """The input folder."""
    multiple: int
    """HR is first cropped at the bottom and right to a multiple of this."""
    source: int = 0
    """Index into `Task.sources`: the image that the files are made from."""
    scale: int = 1
    """HR size divided by the size of that source."""
    shrink: int = 1
    """Factor by which MATLAB's bicubic makes that source smaller."""
    cutting: Cutting | None = None
    degrading: Degrading | None = None
    """How that source is made smaller, instead of by MATLAB's bicubic."""

    @property
    def stamp(self) -> Path:
        """The stamp file. Output files older than it are made again."""
        return self.folder / STAMP

    @property
    def settings(self) -> str:
        """The content of the stamp: all settings that the content of the files depends on."""
        lines = {"images": os.path.realpath(self.origin), "files": self.file, "scale": self.scale * self.shrink}
        lines |= {"HR cropped to multiples of": self.multiple}
        for more in (self.cutting, self.degrading):
            lines |= vars(more) if more else {}
        return "".join(f"{name} {value}\n" for name, value in lines.items())

    def path(self, name: Path, number: int) -> Path:
        """Return the path of an output file. name: the task's. number: the crop's, from 1."""
        return self.folder / name.parent / self.file.format(name=name.name, number=number)


def images_by_name(folder: Path, summary: Summary) -> dict[Path, Path]:
    """Return {relative path without suffix: path} of the images that `images_below` returns.

    Raises UsageError if two images share a name, because their outputs would share it too.
    """
    named: dict[Path, Path] = {}
    for name in images_below(folder, summary.passed_over):
        file = folder / name
        if (other := named.setdefault(Path(name).with_suffix(""), file)) != file:
            raise UsageError(f"{other} and {file} would have the same output name; rename or remove one of them")
    return named


def make_all(
    tasks: Sequence[Task[Path]], targets: Sequence[Target], summary: Summary, title: str, *, jobs: int, overwrite: bool
) -> list[Size]:
    """Make the files of all tasks in all targets. Returns the HR sizes of the tasks that succeeded.

    tasks: HR images, each with its LR images if outputs are made from these too; named as `images_by_name` does.
    Files that are complete, of the right size and newer than their source and stamp are kept, unless `overwrite`. A
    note in the summary counts the HR images with transparency.
    Raises UsageError, before it writes anything, if an input and an output folder overlap or an output folder has
    files of other settings or origin; UserError for a folder that cannot be written to.
    """
    refuse_overlap({target.origin for target in targets}, [target.folder for target in targets])
    for target in targets:
        if not overwrite:
            _check(target)
    for target in targets:
        if overwrite or not target.stamp.exists():
            write_bytes(target.stamp, os.fsencode(target.settings))
    sizes, transparent = [], 0
    for task, (was_there, size) in successes(
        partial(_make, targets, overwrite), tasks, summary, jobs=jobs, title=title
    ):
        summary.kept += was_there
        summary.made += not was_there
        transparent += is_transparent(task.source)
        sizes.append(size)
    if transparent:
        summary.notes.append(f"images with transparency, of which only the colours are kept: {transparent}")
    return sizes


def refuse_overlap(inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
    """Raise UsageError if an output is an input folder, or lies inside or around one."""
    for output, folder in itertools.product(outputs, inputs):
        place, taken = Path(os.path.realpath(output)), Path(os.path.realpath(folder))
        if place.is_relative_to(taken) or taken.is_relative_to(place):
            raise UsageError(f"{output} would lie inside the input folder {folder}, or around it; choose another place")


def crop(size: Size, multiple: int) -> Size:
    """Return the size of an image after it is cropped to a multiple."""
    return size[0] - size[0] % multiple, size[1] - size[1] % multiple


def _check(target: Target) -> None:
    remedy = "choose another folder, or --overwrite its files"
    if target.stamp.exists():
        before, now = (text.splitlines() for text in (os.fsdecode(target.stamp.read_bytes()), target.settings))
        if before != now:
            old, new = ", ".join(x for x in before if x not in now), ", ".join(x for x in now if x not in before)
            raise UsageError(f"{target.folder}: was filled with other settings ({old}; now {new}); {remedy}")
    elif target.folder.is_dir() and (there := next(walk_files(target.folder), None)):
        raise UsageError(f"{there} exists and was not made by this command; {remedy}")


def _plan(targets: Sequence[Target], task: Task[Path], sizes: Sequence[Size]) -> Iterator[tuple[Target, Path, Box]]:
    """Yield each output file of a task with its target and the box of its source. sizes: of the task's sources."""
    for target in targets:
        (height, width), size = sizes[0], sizes[target.source]
        if size != (height // target.scale, width // target.scale):
            raise UserError(
                f"{task.sources[target.source]}: is {size[1]}x{size[0]} pixels; for {task.source} of {width}x{height} "
                f"it should be {width // target.scale}x{height // target.scale}, {target.scale} times smaller"
            )
        if min(sizes[0]) < target.multiple:
            least = f"{target.multiple}x{target.multiple}"
            raise UserError(f"{task.source}: is {width}x{height} pixels, smaller than {least}, which the scales need")
        whole = crop(sizes[0], target.multiple)
        for number, box in enumerate(target.cutting.boxes(whole) if target.cutting else [(0, 0, *whole)], 1):
            top, left, height, width = (value // target.scale for value in box)
            yield target, target.path(task.name, number), (top, left, height, width)


def _make(targets: Sequence[Target], overwrite: bool, task: Task[Path]) -> tuple[bool, Size]:
    """Make the files of a task. Returns whether they were complete already, and the size of the HR image."""
    if not overwrite:
        with contextlib.suppress(UserError):
            sizes = [header_size(source) for source in task.sources]
            if all(_is_complete(task, *part) for part in _plan(targets, task, sizes)):
                return True, sizes[0]
    images = [decode(read_bytes(source), source) for source in task.sources]
    for image, source in zip(images, task.sources, strict=True):
        if image.dtype.kind != "u":
            raise UserError(f"{source}: has {image.dtype} samples; convert it to 8 or 16 bits")
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    plan = list(_plan(targets, task, sizes))
    for target, path, (top, left, height, width) in plan:
        part = images[target.source][top : top + height, left : left + width]
        write_png(path, _shrunk(part, target, task) if target.shrink > 1 else part)
    current = {path for _, path, _ in plan}
    for target in targets:
        if target.cutting:  # remove crops of other settings, or of a larger version of the image
            crops = (target.path(task.name, number) for number in itertools.count(1))
            for path in set(itertools.takewhile(Path.exists, crops)) - current:
                path.unlink()
    return False, sizes[0]


def _shrunk(image: NDArray[Any], target: Target, task: Task[Path]) -> NDArray[Any]:
    if target.degrading is None:
        return imresize(image, 1 / target.shrink)
    from rgt_arch.data.degradations import degrade_image  # imports BasicSR, which no other command needs

    numbers = target.degrading.seed, zlib.crc32(task.name.as_posix().encode())
    try:
        return degrade_image(image, target.shrink, target.degrading.profile, numbers)
    except ValueError as error:
        raise UserError(f"{task.source}: {error}") from error


def _is_complete(task: Task[Path], target: Target, path: Path, box: Box) -> bool:
    """Whether `path` is an undamaged PNG of the right size, written after its source and stamp were last changed.

    A source that another file was moved over counts as changed, whatever its modification time (hence ctime).
    """
    try:
        states = [os.stat(file) for file in (task.sources[target.source], target.stamp)]
        newest = max(max(state.st_mtime_ns, state.st_ctime_ns) for state in states)
        size = box[2] // target.shrink, box[3] // target.shrink
        if image_size(path) != size or path.stat().st_mtime_ns < newest:
            return False
        with Image.open(path, formats=("PNG",)) as image:
            image.verify()
    except Exception:  # Pillow raises many types for damaged files
        return False
    return True
