"""Files upscaled one after the other: a failure is reported and does not stop the others."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rgt_arch.errors import UserError, printable
from rgt_arch.files import check_place
from rgt_arch.inference.comparing import comparison_path, write_comparison
from rgt_arch.inference.memory import is_out_of_memory
from rgt_arch.inference.pictures import MAX_PIXELS, check_writable, picture_size, read_picture, write_picture
from rgt_arch.inference.planning import Job, Output, identity
from rgt_arch.inference.upscaler import Upscaler
from rgt_arch.inference.video import upscale_video, video_pixels
from rgt_arch.progress import Progress


@dataclass
class Outcome:
    """What came of the files."""

    results: list[Path] = field(default_factory=list)
    """Outputs that were made."""
    there: list[Path] = field(default_factory=list)
    """Outputs that existed, and were left."""
    failures: list[str] = field(default_factory=list)
    """One line for each file that failed."""

    @property
    def made(self) -> int:
        """How many outputs were made."""
        return len(self.results)

    @property
    def skipped(self) -> int:
        """How many outputs existed."""
        return len(self.there)

    @property
    def exit_code(self) -> int:
        """1 if a file failed, else 0."""
        return int(bool(self.failures))

    def line(self) -> str:
        """Counts, where the results are, and again the files that failed: what was printed first has scrolled away."""
        counts = f"{self.made} made, {self.skipped} already there, {len(self.failures)} failed{_place(self.results)}"
        kept = f"already there{_place(self.there)}; --overwrite replaces" if self.there else ""
        lines = [kept, *self.failures] if self.there else self.failures
        return "\n".join([printable(counts), *(f"  {printable(line)}" for line in lines)])


def _place(files: Sequence[Path]) -> str:
    """What follows a count of files: a colon and the only one, or the folder that holds all, itself or in folders."""
    if len(files) < 2:
        return "".join(f": {file}" for file in files)
    folder = Path(os.path.commonpath([os.path.abspath(file.parent) for file in files]))
    return f": {folder}" if folder != folder.parent else ""


def run_jobs(jobs: Sequence[Job], upscaler: Upscaler, output: Output) -> Outcome:
    """Do all jobs with a bar over their pixels; a file that fails is named on stderr and does not stop the others."""
    outcome = Outcome()
    there = {job for job in jobs if not output.overwrite and os.path.lexists(job.target)}
    outcome.there = [job.target for job in jobs if job in there]
    todo = [job for job in jobs if job not in there or _lacks_comparison(job, output)]
    sizes = [1 if job in there else _pixels(job) for job in todo]
    made: set[tuple[int, int]] = set()
    with Progress(sum(sizes), "upscaling", "px", large=True) as progress:
        done = 0
        for job, size in zip(todo, sizes, strict=True):
            advance = partial(_advance, progress, done, size)
            try:
                if identity(job.target) in made:  # where the disk takes two names for one
                    raise UserError(f"{job.target}: is already the result of another input; rename one of them")
                if job not in there and not output.overwrite and os.path.lexists(job.target):
                    raise UserError(f"{job.target}: was made by somebody else in the meantime, and is left as it is")
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("default", UserWarning)  # each text once: a video has thousands of frames
                    notices = _compare(job) if job in there else _run(job, upscaler, output, advance)
                if found := identity(job.target):
                    made.add(found)
                for notice in dict.fromkeys([*notices, *(str(warning.message) for warning in told)]):
                    progress.note(notice if str(job.source) in notice else f"{job.source}: {notice}")
                if job not in there:
                    outcome.results.append(job.target)
                done += size
            except (UserError, MemoryError, RuntimeError) as error:
                if not isinstance(error, UserError) and not is_out_of_memory(error):
                    raise
                reason = str(error) if isinstance(error, UserError) else "does not fit into memory"
                text = reason if str(job.source) in reason else f"{job.source}: {reason}"
                outcome.failures.append(text)
                progress.note(text)
                progress.leave_out(size)
            progress.reach(done)
    return outcome


def _advance(progress: Progress, before: int, size: int, done: int, total: int) -> None:
    """Report (done, total) of one file as pixels of the whole work."""
    progress.reach(before + size * done // max(1, total))


def _pixels(job: Job) -> int:
    """Input pixels of a file, 1 if it cannot be told or is nonsense: its turn will say why."""
    try:
        if job.is_video:
            return max(1, video_pixels(job.source))
        height, width = picture_size(job.source)
    except UserError:
        return 1
    return height * width if height * width <= MAX_PIXELS else 1


def _lacks_comparison(job: Job, output: Output) -> bool:
    return output.compare and not job.is_video and not os.path.lexists(comparison_path(job.target))


def _compare(job: Job) -> list[str]:
    """The comparison of a result that was there already; returns what the user should know."""
    comparison = comparison_path(job.target)
    write_comparison(comparison, read_picture(job.source).pixels, read_picture(job.target).pixels)
    return [f"{job.target} was there already and is compared as it is: {comparison}"]


def _run(job: Job, upscaler: Upscaler, output: Output, advance: Callable[[int, int], None]) -> list[str]:
    """One file; returns what the user should know."""
    notices: list[str] = []
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        above = next((folder for folder in (job.target.parent, *job.target.parents) if os.path.isfile(folder)), None)
        reason = f"cannot be made ({error.strerror})" if above is None else f"{above} is a file, not a folder"
        raise UserError(f"{job.target.parent}: {reason}; name another place with -o") from error
    check_place(job.target)
    if job.is_video:
        if output.compare:
            notices.append("is a video: --compare makes pictures of pictures only")
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
