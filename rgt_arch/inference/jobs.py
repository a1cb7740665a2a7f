"""Files to upscale: found from files, folders and patterns, done one after the other, none of the user's lost."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rgt_arch.data.images import walk_files
from rgt_arch.errors import UsageError, UserError, printable
from rgt_arch.inference.comparing import comparison_path, write_comparison
from rgt_arch.inference.memory import is_out_of_memory
from rgt_arch.inference.pictures import (
    PICTURE_SUFFIXES,
    WRITABLE_SUFFIXES,
    check_writable,
    picture_size,
    read_picture,
    write_picture,
)
from rgt_arch.inference.upscaler import Upscaler
from rgt_arch.inference.video import VIDEO_SUFFIXES, probe_video, target_suffix, upscale_video
from rgt_arch.progress import Progress

_READABLE = PICTURE_SUFFIXES | frozenset(VIDEO_SUFFIXES)
_WRITABLE = frozenset(WRITABLE_SUFFIXES) | frozenset(VIDEO_SUFFIXES)
EXTENSIONS = ("auto", "png", "jpg", "webp", "tif")


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write."""

    source: Path
    target: Path

    @property
    def is_video(self) -> bool:
        """Whether it is told to be a video by its suffix."""
        return self.source.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class Output:
    """What is written, and under which names. Raises UsageError for numbers out of range."""

    place: Path | None = None
    """A file, for a single input; else a folder. None: beside the input, for a folder in one named like it."""
    suffix: str = "auto"
    """Follows the name: photo.jpg becomes photo_x4.jpg; "auto" is x and the scale, "" is nothing."""
    extension: str = "auto"
    """Of pictures: auto keeps the input's, or takes png where that format can only be read."""
    outscale: float | None = None
    quality: int = 95
    """Of JPEG and WebP, 1 to 100."""
    crf: int | None = None
    """Of videos: constant rate factor of the encoder, lower is better; None for what `upscale_video` takes."""
    overwrite: bool = False
    compare: bool = False
    """Also write a picture of both side by side, the left one by bicubic."""

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise UsageError(f"--quality is {self.quality}; it must be from 1 to 100")
        if self.outscale is not None and not 0 < self.outscale <= 32:
            raise UsageError(f"--outscale is {self.outscale}; it must be above 0 and at most 32")
        if self.crf is not None and not 0 <= self.crf <= 63:
            raise UsageError(f"--crf is {self.crf}; it must be from 0 to 63")
        if set(self.suffix) & {"/", "\\", "\0"}:
            raise UsageError(f"--suffix is {self.suffix!r}; it is a part of a name: name folders with -o")


@dataclass
class Outcome:
    """What came of the files."""

    made: int = 0
    skipped: int = 0
    """Outputs that existed."""
    failures: list[str] = field(default_factory=list)
    """One line for each file that failed."""

    @property
    def exit_code(self) -> int:
        """1 if a file failed, else 0."""
        return int(bool(self.failures))

    def line(self) -> str:
        """Counts, and again the files that failed: what was printed first has scrolled away."""
        counts = f"{self.made} made, {self.skipped} already there, {len(self.failures)} failed"
        return "\n".join([counts, *(f"  {printable(failure)}" for failure in self.failures)])


def plan_jobs(inputs: Sequence[str | Path], output: Output, scale: int) -> list[Job]:
    """The files that the inputs stand for, in order, and where their results go.

    inputs: files, folders (with their sub-folders; what is no picture or video by its suffix is passed over, and so
    are hidden files and the output folder), or patterns such as `photos/*.png`. What an earlier run made of one of them
    is no input, unless outputs are to be replaced. scale: for the names.
    Raises UsageError if there is nothing to do, a folder cannot be listed, an output would be one of the inputs, or two
    outputs one file.
    """
    factor = output.outscale or scale
    suffix = f"x{factor:g}" if output.suffix == "auto" else output.suffix
    found = [(Path(name), match) for name in inputs for match in _matches(name)]
    single = len(found) == 1 and found[0][1].is_file()
    place = output.place
    if place is not None and place.suffix.lower() in _READABLE and not os.path.isdir(place):
        if place.suffix.lower() not in _WRITABLE:
            raise UsageError(f"-o {place}: {place.suffix} can be read only; name a .png, or a folder")
        if not single:
            raise UsageError(f"-o {place}: is a file name, but there are several inputs; name a folder")
        jobs = [Job(found[0][1], place)]
    else:
        every = (job for _, match in found for job in _jobs_of(match, place, suffix, output.extension))
        # the same file may be named twice, by patterns for instance
        jobs = list({(os.path.realpath(job.source), os.path.realpath(job.target)): job for job in every}.values())
    if not output.overwrite:  # then what is there already is skipped, so nothing can be lost
        jobs = _without_results(jobs)
    if not jobs:
        raise UsageError(f"{', '.join(map(str, inputs))}: no pictures or videos there")
    _refuse_collisions(jobs, output.compare)
    return jobs


def _without_results(jobs: list[Job]) -> list[Job]:
    """Without those whose source is the result, or the comparison, of another job: `rgt upscale *.jpg`, run again."""
    results: dict[str, Job] = {}
    for job in jobs:
        for result in (job.target, comparison_path(job.target)):
            results[os.path.realpath(result)] = job
    return [job for job in jobs if results.get(os.path.realpath(job.source), job) is job]


def _matches(name: str | Path) -> list[Path]:
    if not str(name):
        raise UsageError("an input is empty; name a file or a folder, such as . for the current one")
    path = Path(os.path.expanduser(name))  # that of Path fails for users who do not exist
    if os.path.lexists(path):
        return [path]
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    if not matches:
        raise UsageError(f"{name}: no such file or folder")
    return matches


def _jobs_of(match: Path, place: Path | None, suffix: str, extension: str) -> list[Job]:
    if not match.is_dir():
        return [Job(match, _target(match, place or match.parent, Path(match.name), suffix, extension))]
    folder = place if place is not None else match.resolve().with_name(f"{match.resolve().name}_{suffix or 'out'}")
    files = sorted(file for file in walk_files(match) if file.suffix.lower() in _READABLE)
    parents = {parent for file in files for parent in file.parents if parent != match and match in parent.parents}
    results = {parent for parent in parents if _same(parent, folder)}
    return [
        Job(file, _target(file, folder, file.relative_to(match), suffix, extension))
        for file in files
        if results.isdisjoint(file.parents)
    ]


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _target(source: Path, folder: Path, name: Path, suffix: str, extension: str) -> Path:
    ending = source.suffix
    if ending.lower() in VIDEO_SUFFIXES:
        ending = target_suffix(ending)
    elif extension != "auto":
        ending = f".{extension}"
    elif ending.lower() not in WRITABLE_SUFFIXES:
        ending = ".png"
    return folder / name.parent / f"{name.stem}{'_' if suffix else ''}{suffix}{ending}"


def _refuse_collisions(jobs: Sequence[Job], compare: bool) -> None:
    # by identity too: hard links, and names that differ in case or accents' coding alone where the disk ignores that
    sources: set[object] = {os.path.realpath(job.source) for job in jobs} | {_identity(job.source) for job in jobs}
    sources.discard(None)
    owners: dict[str, Path] = {}
    for job in jobs:
        for target in (job.target, *([comparison_path(job.target)] if compare and not job.is_video else [])):
            real = os.path.realpath(target)
            if real in sources or _identity(target) in sources:
                raise UsageError(f"{target}: is an input; name another output with -o or --suffix")
            if real in owners:
                raise UsageError(
                    f"{job.source} and {owners[real]} would both become {target}; use --ext auto, or rename"
                )
            owners[real] = job.source


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells an existing file from all others, whatever it is called; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def run_jobs(jobs: Sequence[Job], upscaler: Upscaler, output: Output) -> Outcome:
    """Do all jobs with a bar over their pixels; a file that fails is named on stderr and does not stop the others."""
    outcome = Outcome()
    todo = [job for job in jobs if output.overwrite or not os.path.lexists(job.target)]
    outcome.skipped = len(jobs) - len(todo)
    sizes = [_pixels(job) for job in todo]
    made: set[tuple[int, int]] = set()
    with Progress(sum(sizes), "upscaling", "px", large=True) as progress:
        done = 0
        for job, size in zip(todo, sizes, strict=True):
            advance = _Advance(progress, done, size)
            try:
                if _identity(job.target) in made:  # where the disk takes two names for one
                    raise UserError(f"{job.target}: is already the result of another input; rename one of them")
                if not output.overwrite and os.path.lexists(job.target):
                    raise UserError(f"{job.target}: was made by somebody else in the meantime, and is left as it is")
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("default", UserWarning)  # each text once: a video has thousands of frames
                    notices = _run(job, upscaler, output, advance)
                if identity := _identity(job.target):
                    made.add(identity)
                for notice in dict.fromkeys([*notices, *(str(warning.message) for warning in told)]):
                    progress.note(notice if str(job.source) in notice else f"{job.source}: {notice}")
                outcome.made += 1
            except (UserError, MemoryError, RuntimeError) as error:
                if not isinstance(error, UserError) and not is_out_of_memory(error):
                    raise
                reason = str(error) if isinstance(error, UserError) else "does not fit into memory"
                text = reason if str(job.source) in reason else f"{job.source}: {reason}"
                outcome.failures.append(text)
                progress.note(text)
            done += size
            progress.reach(done)
    return outcome


class _Advance:
    """Turns (done, all) of one file into pixels of the whole work."""

    def __init__(self, progress: Progress, before: int, size: int) -> None:
        self.progress, self.before, self.size = progress, before, size

    def __call__(self, done: int, total: int) -> None:
        self.progress.reach(self.before + self.size * done // max(1, total))


def _pixels(job: Job) -> int:
    """Input pixels of a file, 1 if it cannot be told: its turn will say why."""
    try:
        if job.is_video:
            info = probe_video(job.source)
            return max(1, info.width * info.height * info.frames)
        height, width = picture_size(job.source)
        return height * width
    except UserError:
        return 1


def _run(job: Job, upscaler: Upscaler, output: Output, advance: Callable[[int, int], None]) -> list[str]:
    """One file; returns what the user should know."""
    notices: list[str] = []
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{job.target.parent}: cannot be made ({error.strerror})") from error
    if job.is_video:
        upscale_video(
            job.source,
            job.target,
            upscaler,
            outscale=output.outscale,
            crf=output.crf,
            progress=advance,
            notify=notices.append,
        )
        return notices
    picture = read_picture(job.source)
    height, width = picture.pixels.shape[:2]
    notices += picture.notices
    channels = picture.channels - (upscaler.alpha == "drop" and picture.has_alpha)
    size = upscaler.output_size(height, width, output.outscale)
    notices += check_writable(job.target, size, channels, picture.pixels.dtype)
    pixels = upscaler.upscale(picture.pixels, output.outscale, advance)
    notices += write_picture(job.target, picture.replace_pixels(pixels), quality=output.quality)
    comparison = comparison_path(job.target)
    if output.compare and comparison.exists() and not output.overwrite:
        notices.append(f"{comparison} exists and was left as it is; --overwrite replaces it")
    elif output.compare:
        write_comparison(comparison, picture.pixels, pixels)
    return notices
