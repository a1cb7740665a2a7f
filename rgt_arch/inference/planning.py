"""Find the files to upscale, and name their results so that no input is overwritten and no two results collide."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rgt_arch.data.images import passed_over_by_suffix, walk_files
from rgt_arch.errors import UsageError, UserError
from rgt_arch.inference.pictures.reading import is_lossy, picture_pixels
from rgt_arch.inference.pictures.writing import PICTURE_SUFFIXES, WRITABLE_SUFFIXES, comparison_path
from rgt_arch.inference.upscaler import Outscale
from rgt_arch.inference.video.reading import VIDEO_SUFFIXES, is_video, video_pixels
from rgt_arch.inference.video.writing import TARGET_SUFFIXES, target_suffix
from rgt_arch.weights.zoo import DEFAULT_WEIGHTS, PHOTO_WEIGHTS

_READABLE = PICTURE_SUFFIXES | frozenset(VIDEO_SUFFIXES)
_LARGEST_FACTOR = 32
_SIDES: dict[str, Callable[[int, int], int]] = {
    "width": lambda _, width: width,
    "height": lambda height, _: height,
    "long_side": max,
}
EXTENSIONS = ("auto", "png", "jpg", "webp", "avif", "tif")
CHOSEN_FOR = {PHOTO_WEIGHTS: "JPEG, lossy WebP, AVIF and videos", DEFAULT_WEIGHTS: "PNG and other pictures"}
"""The weights that `plan_jobs` chooses, and for which files."""


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write."""

    source: Path
    target: Path
    is_video: bool = False
    """Whether the source is a video, by its content."""
    weights: str | Path = DEFAULT_WEIGHTS
    """A name or a file."""
    exists: bool = False
    """Whether there was a target when the run was planned."""
    pixels: int = 1
    """Input pixels according to the header; 1 if it cannot be read, or if the target exists and is kept."""


@dataclass
class Plan:
    """The files to upscale, and what a search in folders found besides."""

    jobs: list[Job] = field(default_factory=list)
    passed_over: list[Path] = field(default_factory=list)
    """Files in folders, except hidden ones, that neither are a video nor have the suffix of a picture."""
    failures: list[str] = field(default_factory=list)
    """One line for each folder that cannot be listed."""
    weights_are_chosen: bool = False
    """Whether the jobs have weights by the content of their sources, not by the user's choice."""


@dataclass(frozen=True)
class Output:
    """Names, formats and options of the results. Raises UsageError for values out of range."""

    place: str | Path | None = None
    """A file for a single input, else a folder; a text that ends with a slash is a folder.

    None: beside the input; results of a folder go into a new folder beside it, named after it.
    """
    suffix: str = "auto"
    """Added to the name: photo.jpg becomes photo_x4.jpg. auto: x and the scale; empty: nothing."""
    extension: str = "auto"
    """Format of pictures. auto: the input's, or png if that cannot be written."""
    outscale: float | None = None
    width: int | None = None
    height: int | None = None
    long_side: int | None = None
    """At most one of these four: the result is resized to a factor, or to pixels on one side; the aspect is kept."""
    quality: int | str | None = None
    """Of JPEG, WebP and AVIF: 1 to 100, or "lossless". None: 95, or lossless for a lossless WebP."""
    crf: int | None = None
    """Constant rate factor of the video encoder, lower is better. None: the default of `upscale_video`."""
    overwrite: bool = False
    compare: bool = False
    """Also write a comparison: bicubic on the left, the result on the right."""

    def __post_init__(self) -> None:
        if self.quality not in (None, "lossless", *range(1, 101)):
            raise UsageError(f"--quality is {self.quality}; it must be from 1 to 100, or lossless")
        if self.place is not None and not str(self.place):
            raise UsageError("-o is empty; name a file or a folder, such as . for the current one")
        if str(self.place).rstrip("/") == "-":
            raise UsageError("-o -: results are not written to stdout; name a file or a folder, or ./- for that folder")
        if self.outscale is not None and not 0 < self.outscale <= _LARGEST_FACTOR:
            raise UsageError(f"--outscale is {self.outscale}; it must be above 0 and at most {_LARGEST_FACTOR}")
        sides = self._sides()
        if len(sides) + (self.outscale is not None) > 1:
            raise UsageError("--outscale, --width, --height and --long-side exclude each other; give one of them")
        for name, pixels in sides.items():
            if pixels < 1:
                raise UsageError(f"{_flag(name)} is {pixels}; it must be 1 or more")
        if self.crf is not None and not 0 <= self.crf <= 63:
            raise UsageError(f"--crf is {self.crf}; it must be from 0 to 63")
        if set(self.suffix) & {"/", "\\", "\0"}:
            raise UsageError(f"--suffix is {self.suffix!r}; it is a part of a name: name folders with -o")

    def _sides(self) -> dict[str, int]:
        return {name: pixels for name in _SIDES if (pixels := getattr(self, name)) is not None}

    def scaling(self) -> Outscale:
        """Return the factor of results, or a function that returns it for a picture of (height, width).

        The function raises UserError for factors above the largest `outscale`.
        """
        for name, pixels in self._sides().items():
            return partial(_factor, name, pixels)
        return self.outscale

    def ending(self, scale: int) -> str:
        """Return the end of output names; scale: of the network."""
        if self.suffix != "auto":
            return self.suffix
        sides = [f"{name.removesuffix('_side')}{pixels}" for name, pixels in self._sides().items()]
        return sides[0] if sides else f"x{self.outscale or scale:g}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _factor(name: str, pixels: int, height: int, width: int) -> float:
    side = _SIDES[name](height, width)
    if pixels > _LARGEST_FACTOR * side:
        raise UserError(f"{_flag(name)} {pixels} is more than {_LARGEST_FACTOR} times its {side} pixels; take less")
    return pixels / side


def plan_jobs(inputs: Sequence[str | Path], output: Output, scale: int, weights: str | Path | None = None) -> Plan:
    """Return the files to upscale, in the order of the inputs, with the paths of their results.

    inputs: files, folders (with sub-folders; hidden files, the output folder, and files that neither are a video nor
    have the suffix of a picture or video are skipped), or patterns such as `photos/*.png`. Results of an earlier run of
    the same inputs are skipped, unless outputs are replaced. scale: used in names. weights: of all jobs; None: each has
    those for its kind of file.
    Raises UsageError if there is nothing to do, an output is also an input, or two outputs have the same path.
    """
    plan = Plan(weights_are_chosen=weights is None)
    suffix = output.ending(scale)
    found = [match for name in inputs for match in _matches(name)]
    place = None if output.place is None else os.path.expanduser(output.place)
    single = len(found) == 1 and found[0].is_file()
    if place is not None and _is_file_name(place, single):
        if not single:
            raise UsageError(f"-o {place}: is a file name, but there are several inputs; name a folder")
        jobs = [_named_job(found[0], Path(place), output.extension)]
    else:
        every = (job for match in found for job in _jobs_of(match, place, suffix, output.extension, plan))
        # the same file may be named twice, by patterns for instance
        different = {(_identity(job.source), _identity(job.target)): job for job in every}
        jobs = _told_apart(list(different.values()), output.compare)
    plan.passed_over = list(dict.fromkeys(plan.passed_over))  # folders may overlap
    if not output.overwrite:  # skip earlier results, as when `rgt upscale *.jpg` is run again
        results = {_identity(path): job for job in jobs for path in (job.target, comparison_path(job.target))}
        jobs = [job for job in jobs if results.get(_identity(job.source), job) is job]
    if not jobs and not plan.failures:
        besides = "; ".join(["", passed_over_by_suffix(plan.passed_over)] if plan.passed_over else [])
        raise UsageError(f"{', '.join(map(str, inputs))}: no pictures or videos to upscale{besides}")
    _refuse_collisions(jobs, output.compare)
    plan.jobs = [_completed(job, weights, output.overwrite) for job in jobs]
    return plan


def _completed(job: Job, weights: str | Path | None, overwrite: bool) -> Job:
    if weights is None:  # CHOSEN_FOR says the same in words
        weights = PHOTO_WEIGHTS if job.is_video or is_lossy(job.source) else DEFAULT_WEIGHTS
    exists, pixels = os.path.lexists(job.target), 1
    if overwrite or not exists:
        with suppress(UserError, OSError):  # raised again when the file is read
            pixels = max(1, video_pixels(job.source) if job.is_video else picture_pixels(job.source))
    return replace(job, weights=weights, exists=exists, pixels=pixels)


def _named_job(source: Path, target: Path, extension: str) -> Job:
    job = Job(source, target, is_video(source))
    known = TARGET_SUFFIXES if job.is_video else WRITABLE_SUFFIXES
    if target.suffix.lower() not in known:
        text = f"a {'video' if job.is_video else 'picture'} can be written as {', '.join(known)}"
        raise UsageError(f"-o {target}: {text}; name one of these, or end a folder's name with a /")
    if extension != "auto" and not job.is_video:
        raise UsageError(f"-o {target} names the format, and so does --ext {extension}; leave one of them out")
    return job


def _is_file_name(named: str, single: bool) -> bool:
    """Whether -o names a file: by a known suffix or, for one input, by any text that looks like a suffix."""
    suffix = Path(named).suffix.lower()
    if os.path.isdir(named) or named.endswith(("/", os.sep)):
        return False
    return suffix in _READABLE or (single and re.fullmatch(r"\.[a-z]{2,4}", suffix) is not None)


def _told_apart(jobs: Sequence[Job], compare: bool) -> list[Job]:
    """Where results would have one name, add the source's suffix: anim.gif becomes anim_gif_x4.png beside anim.png.

    compare: their comparisons too, so photo.jpg becomes photo_jpg_x4.jpg beside photo.png. Files beside an input count
    too, so that its result has the same name in every run.
    """

    def written(job: Job) -> Path:
        return comparison_path(job.target) if compare and not job.is_video else job.target

    counts = Counter(_identity(written(job)) for job in jobs)
    apart = []
    for job in jobs:
        stem, kind, suffix = job.source.stem, job.source.suffix, written(job).suffix
        beside = job.source.with_suffix(suffix)
        is_taken = counts[_identity(written(job))] > 1 or (os.path.lexists(beside) and beside != job.target)
        if is_taken and kind.lower() != suffix.lower():
            job = replace(job, target=job.target.with_name(f"{stem}_{kind[1:]}{job.target.name[len(stem) :]}"))
        apart.append(job)
    return apart


def _matches(name: str | Path) -> list[Path]:
    if not str(name):
        raise UsageError("an input is empty; name a file or a folder, such as . for the current one")
    path = Path(os.path.expanduser(name))  # Path.expanduser fails for users who do not exist
    if os.path.lexists(path):
        return [path]
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    if not matches:
        raise UsageError(f"{name}: no such file or folder")
    return matches


def _jobs_of(match: Path, place: str | None, suffix: str, extension: str, plan: Plan) -> list[Job]:
    """Return the jobs of a file or folder; files and folders that are left out are added to the plan."""
    if not match.is_dir():
        return [_job(match, is_video(match), Path(place or match.parent), Path(match.name), suffix, extension)]
    folder = Path(place or f"{match.resolve()}_{suffix or 'out'}")

    def leave_out(error: OSError) -> None:
        plan.failures.append(f"{error.filename}: cannot be listed ({error.strerror})")

    files = sorted(walk_files(match, leave_out))
    parents = {parent for file in files for parent in file.parents if match in parent.parents}
    results = {parent for parent in parents if _identity(parent) == _identity(folder)}
    files = [file for file in files if results.isdisjoint(file.parents)]
    videos = {file for file in files if is_video(file)}
    passed_over = {file for file in files if file.suffix.lower() not in _READABLE} - videos
    plan.passed_over += passed_over
    return [
        _job(file, file in videos, folder, file.relative_to(match), suffix, extension)
        for file in files
        if file not in passed_over
    ]


def _job(source: Path, video: bool, folder: Path, name: Path, suffix: str, extension: str) -> Job:
    ending = source.suffix
    if video:
        ending = target_suffix(source)
    elif extension != "auto":
        ending = f".{extension}"
    elif ending.lower() not in WRITABLE_SUFFIXES:
        ending = ".png"
    return Job(source, folder / name.parent / f"{name.stem}{'_' if suffix else ''}{suffix}{ending}", video)


def _refuse_collisions(jobs: Sequence[Job], compare: bool) -> None:
    sources = {_identity(job.source) for job in jobs}
    owners: dict[object, Path] = {}
    for job in jobs:
        for target in (job.target, *([comparison_path(job.target)] if compare and not job.is_video else [])):
            key = _identity(target)
            if key in sources:
                raise UsageError(f"{target}: is an input; name another output with -o or --suffix")
            if key in owners:
                raise UsageError(
                    f"{job.source} and {owners[key]} would both become {target}; rename one of them, or upscale them "
                    "one after the other, each to a folder of its own with -o"
                )
            owners[key] = job.source


def _identity(path: Path) -> tuple[int, int] | str:
    """(device, inode) of an existing file, the same for links and other spellings; else the real path."""
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino
