"""Overlapping crops of HR images and of the LR images that belong to them: `rgt prepare subimages`."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rgt_arch.data.images import Size, files_by_name, image_size
from rgt_arch.data.outputs import Claim, Output, Task, location, make_all
from rgt_arch.data.pairing import guess_template, pair_names
from rgt_arch.data.parallel import Summary
from rgt_arch.errors import UsageError, UserError

_LARGEST_SCALE = 16


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
class _Task(Task):
    """Crops of an HR image and its LR images, which lie under one name in every folder."""

    folders: tuple[Path, ...]
    scales: tuple[int, ...]  # 1 for HR
    name: Path
    cutting: Cutting
    multiple: int
    """What the sides of HR are cropped to multiples of, so that every crop is whole pixels in every LR."""
    problem: str

    def path(self, folder: Path, number: int) -> Path:
        return folder / self.name.parent / f"{self.name.name}_s{number:03d}.png"

    def plan(self, sizes: Sequence[Size]) -> list[Output]:
        if self.problem:
            raise UserError(self.problem)
        height, width = sizes[0]
        for source, size, scale in zip(self.sources, sizes, self.scales, strict=True):
            if size != _shrunk(sizes[0], scale):
                raise UserError(
                    f"{source}: is {size[1]}x{size[0]} pixels; for {self.source} of {width}x{height} it should be "
                    f"{width // scale}x{height // scale}, {scale} times smaller"
                )
        boxes = self.cutting.boxes(self.cropped(sizes[0], self.multiple))
        outputs = []
        for index, (folder, scale) in enumerate(zip(self.folders, self.scales, strict=True)):
            for number, box in enumerate(boxes, 1):
                top, left, high, wide = (value // scale for value in box)
                outputs.append(Output(self.path(folder, number), folder, index, (top, left, high, wide)))
        return outputs

    def stale(self, plan: Sequence[Output]) -> list[Path]:
        first = len(plan) // len(self.folders) + 1
        return [
            path
            for folder in self.folders
            for path in itertools.takewhile(os.path.lexists, (self.path(folder, n) for n in itertools.count(first)))
        ]


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
            **vars(cutting),
        }
        claims.append(Claim(root, settings, [root / name.parent / f"{name.name}_s001.png" for name in named]))
    report = SubImageReport(roots)
    for file in others:
        report.summary.fail(f"{file}: is not an image")
    for folder in lr:
        for file in folder.orphans:
            report.summary.fail(f"{file}: there is no HR image for it in {hr_folder}")
    tasks = []
    for name, file in named.items():
        missing = next((folder.folder for folder in lr if name not in folder.files), None)
        problem = f"{file}: there is no LR image for it in {missing}" if missing else ""
        sources = (file, *(folder.files[name] for folder in lr if not missing))
        tasks.append(_Task(sources, overwrite, tuple(roots), (1, *scales), name, cutting, multiple, problem))
    inputs = {hr_folder: [*named.values(), *others]}
    inputs.update({folder.folder: [*folder.files.values(), *folder.orphans] for folder in lr})
    for done in make_all(tasks, claims, inputs, report.summary, jobs=jobs, overwrite=overwrite, title="sub-images"):
        report.crops += done.outputs // len(roots)
        report.small += min(side - side % multiple for side in done.size) < cutting.size
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
