"""Overlapping crops of HR images and of the LR images that belong to them: `rgt prepare subimages`."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rgt_arch.data.images import decode_integers, files_by_name, image_size, is_complete_png, read_bytes, write_png
from rgt_arch.data.output_folders import Claim, claim_folders, location, refuse_overlap, remove_leftovers
from rgt_arch.data.pairing import guess_template, pair_names
from rgt_arch.data.parallel import Summary, successes
from rgt_arch.errors import UsageError, UserError

_LARGEST_SCALE = 16

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Cutting:
    """How images are cut."""

    size: int = 480
    """Side of a crop of HR in pixels."""
    step: int = 240
    """Distance from one crop of HR to the next."""
    threshold: int = 0
    """Rests of HR of up to so many pixels at the bottom and right are left out."""

    def boxes(self, size: Size) -> list[tuple[int, int, int, int]]:
        """(top, left, height, width) of every crop of an image, row by row.

        As BasicSR cuts (scripts/data_preparation/extract_subimages.py in its repository): a crop every `step` pixels,
        and one at the far edge if a rest of more than `threshold` pixels is left. An image shorter than a crop is kept
        whole in that direction.
        """
        height, width = (min(self.size, length) for length in size)
        tops, lefts = map(self._starts, size)
        return [(top, left, height, width) for top, left in itertools.product(tops, lefts)]

    def _starts(self, length: int) -> list[int]:
        if length <= self.size:
            return [0]
        starts = list(range(0, length - self.size + 1, self.step))
        if length - (starts[-1] + self.size) > self.threshold:
            starts.append(length - self.size)
        return starts


@dataclass
class SubImageReport:
    """What came of the images of a folder."""

    folders: list[Path]
    """Where sub-images are: of HR, then of each LR folder."""
    summary: Summary = field(default_factory=Summary)
    crops: int = 0
    """Sub-images in each of the folders."""
    small: int = 0
    """Images that are smaller than a crop in a direction, in which they were kept whole."""


@dataclass(frozen=True)
class _LrFolder:
    folder: Path
    scale: int
    files: Mapping[Path, Path]  # by the name of the HR image
    orphans: Sequence[Path]


@dataclass(frozen=True)
class _Part:
    """An HR or LR image, and where its crops go."""

    source: Path
    root: Path
    stamp: Path
    name: Path
    scale: int  # 1: HR

    def path(self, number: int) -> Path:
        return self.root / self.name.parent / f"{self.name.name}_s{number:03d}.png"

    def remove_from(self, number: int) -> None:
        """Remove the crops with this number and above."""
        surplus = list(itertools.takewhile(os.path.lexists, map(self.path, itertools.count(number))))
        # from the last on: a run killed meanwhile leaves no gap, which the next one would take for the end
        for path in reversed(surplus):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Task:
    source: Path
    parts: tuple[_Part, ...]  # HR first
    cutting: Cutting
    multiple: int
    """What the sides of HR are cropped to multiples of, so that every crop is whole pixels in every LR."""
    anew: bool
    problem: str | None = None


@dataclass(frozen=True)
class _Done:
    kept: bool
    boxes: list[tuple[int, int, int, int]]


def make_sub_images(
    hr_folder: Path,
    out_folder: Path,
    lr_folders: Sequence[Path] = (),
    *,
    cutting: Cutting | None = None,
    jobs: int = 1,
    overwrite: bool = False,
) -> SubImageReport:
    """Cut all images below `hr_folder`, and the same places out of their LR images, into PNG files of equal names.

    Crops of `a/b.png` are HR/a/b_s001.png, … in `out_folder`, and LR_bicubic/X2/a/b_s001.png, … of an LR folder whose
    images are named `a/bx2` or `a/b` and are 2 times smaller. HR is first cropped to a multiple of every scale.

    Crops that are complete, of the right size and newer than their source are kept, unless `overwrite`. An image that
    fails, in HR or LR, has no crops afterwards in any folder.
    Raises UsageError for wrong arguments, names that collide, LR folders that do not belong to HR, and folders filled
    with something else; UserError for folders that cannot be written to.
    """
    cutting = cutting or Cutting()
    named, others = files_by_name(hr_folder)
    lr = [_lr_folder(folder, hr_folder, named) for folder in lr_folders]
    scales = [folder.scale for folder in lr]
    _check_arguments(cutting, lr)
    multiple = math.lcm(*scales)

    roots = [out_folder / "HR", *(out_folder / "LR_bicubic" / f"X{scale}" for scale in scales)]
    claims = []
    for root, source in zip(roots, [hr_folder, *lr_folders], strict=True):
        settings: dict[str, object] = {
            "command": "subimages",
            "images": location(source, root),
            "HR": location(hr_folder, root),
            "HR cropped to multiples of": multiple,
            "size": cutting.size,
            "step": cutting.step,
            "threshold": cutting.threshold,
        }
        firsts = [_Part(file, root, root, name, 1).path(1) for name, file in named.items()]
        claims.append(Claim(root, settings, firsts))
    inputs = {hr_folder: [*named.values(), *others]}
    inputs.update({folder.folder: [*folder.files.values(), *folder.orphans] for folder in lr})
    refuse_overlap(inputs, [path for claim in claims for path in claim.outputs])
    claim_folders(claims, overwrite=overwrite)

    tasks = []
    for name, file in named.items():
        sources = [file, *(folder.files.get(name, folder.folder) for folder in lr)]
        parts = tuple(
            _Part(source, claim.folder, claim.stamp, name, scale)
            for source, claim, scale in zip(sources, claims, [1, *scales], strict=True)
        )
        missing = next((folder.folder for folder in lr if name not in folder.files), None)
        problem = f"{file}: there is no LR image for it in {missing}" if missing else None
        tasks.append(_Task(file, parts, cutting, multiple, overwrite, problem))
    report = SubImageReport(roots)
    for file in others:
        report.summary.fail(f"{file}: is not an image")
    for folder in lr:
        for file in folder.orphans:
            report.summary.fail(f"{file}: there is no HR image for it in {hr_folder}")
    for _, done in successes(_cut, tasks, report.summary, jobs=jobs, title="sub-images"):
        report.summary.kept += done.kept
        report.summary.made += not done.kept
        report.crops += len(done.boxes)
        report.small += min(done.boxes[0][2:]) < cutting.size
    for claim in claims:  # of workers of a killed run that were still writing when this one began
        remove_leftovers(claim)
    return report


def _check_arguments(cutting: Cutting, lr: Sequence[_LrFolder]) -> None:
    for option, value, least in (
        ("--size", cutting.size, 1),
        ("--step", cutting.step, 1),
        ("--threshold", cutting.threshold, 0),
    ):
        if value < least:
            raise UsageError(f"{option} is {value}; it must be at least {least}")
    for folder in lr:
        for option, value in (("--size", cutting.size), ("--step", cutting.step)):
            if value % folder.scale:
                raise UsageError(
                    f"{option} is {value}, no multiple of {folder.scale}, by which the images in {folder.folder} are "
                    f"smaller than HR; take {value - value % folder.scale or folder.scale}"
                )
        if same := next((other for other in lr if other.scale == folder.scale and other is not folder), None):
            raise UsageError(
                f"{folder.folder} and {same.folder} are both {folder.scale} times smaller than HR; "
                "cut them one after the other, into different folders"
            )


def _lr_folder(folder: Path, hr_folder: Path, hr: Mapping[Path, Path]) -> _LrFolder:
    """The LR images of HR images, by one template and one scale for the whole folder: those that fit the most."""
    named, others = files_by_name(folder)
    relative = {file.relative_to(folder).as_posix(): file for file in named.values()}
    names = {hr[name].relative_to(hr_folder).as_posix(): name for name in hr}
    template = guess_template(names, relative)
    if template is None:
        raise UsageError(f"{folder}: none of its images is named like one in {hr_folder}, with or without x2, x3, …")
    files = {names[gt]: relative[lq] for gt, lq in pair_names(names, relative, template).all_pairs}
    fitting: Counter[int] = Counter()
    for name, file in files.items():
        large, small = image_size(hr[name]), image_size(file)
        if large and small:
            fitting.update(scale for scale in range(2, _LARGEST_SCALE + 1) if _shrunk(large, scale) == small)
    if not fitting:
        raise UsageError(
            f"{folder}: none of its images is 2 to {_LARGEST_SCALE} times smaller than that of its name in {hr_folder}"
        )
    used = set(files.values())
    orphans = [file for file in (*named.values(), *others) if file not in used]
    return _LrFolder(folder, min(fitting, key=lambda scale: (-fitting[scale], scale)), files, orphans)


def _shrunk(size: Size, scale: int) -> Size:
    return size[0] // scale, size[1] // scale


def _cut(task: _Task) -> _Done:
    if not task.anew and task.problem is None and (boxes := _complete(task)):
        return _Done(True, boxes)
    try:
        return _Done(False, _write(task))
    except Exception:
        for part in task.parts:
            with contextlib.suppress(OSError):
                part.remove_from(1)
        raise


def _complete(task: _Task) -> list[tuple[int, int, int, int]]:
    """The crops of an image if all are there, in every folder, and none is left of an earlier version; else none."""
    if not all(part.path(1).exists() for part in task.parts):  # the common case of a first run: nothing to read
        return []
    try:
        boxes = _boxes(task, [_size(part.source) for part in task.parts])
    except UserError:
        return []
    for part in task.parts:
        if part.path(len(boxes) + 1).exists():
            return []
        for number, (_, _, height, width) in enumerate(boxes, 1):
            size = (height // part.scale, width // part.scale)
            if not is_complete_png(part.path(number), size, part.source, part.stamp):
                return []
    return boxes


def _size(source: Path) -> Size:
    size = image_size(source)
    if size is None:  # its header could not be read
        image = decode_integers(read_bytes(source), source)
        size = (image.shape[0], image.shape[1])
    return size


def _write(task: _Task) -> list[tuple[int, int, int, int]]:
    if task.problem:
        raise UserError(task.problem)
    images = [decode_integers(read_bytes(part.source), part.source) for part in task.parts]
    boxes = _boxes(task, [(image.shape[0], image.shape[1]) for image in images])
    for part, image in zip(task.parts, images, strict=True):
        for number, box in enumerate(boxes, 1):
            top, left, height, width = (value // part.scale for value in box)
            write_png(part.path(number), image[top : top + height, left : left + width])
        part.remove_from(len(boxes) + 1)
    return boxes


def _boxes(task: _Task, sizes: Sequence[Size]) -> list[tuple[int, int, int, int]]:
    height, width = sizes[0]
    for part, size in zip(task.parts, sizes, strict=True):
        if size != _shrunk(sizes[0], part.scale):
            raise UserError(
                f"{part.source}: is {size[1]}x{size[0]} pixels; for {task.source} of {width}x{height} it should be "
                f"{width // part.scale}x{height // part.scale}, {part.scale} times smaller"
            )
    cropped = (height - height % task.multiple, width - width % task.multiple)
    if min(cropped) == 0:
        raise UserError(
            f"{task.source}: is {width}x{height} pixels, smaller than {task.multiple}x{task.multiple}, which the "
            "scales need"
        )
    return task.cutting.boxes(cropped)
