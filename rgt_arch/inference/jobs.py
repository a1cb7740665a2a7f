"""Upscale files one after the other; a failure is reported and does not stop the rest."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rgt_arch.data.images import passed_over_by_suffix
from rgt_arch.errors import UserError, printable
from rgt_arch.files import check_place
from rgt_arch.inference.batches import Batches, Enlarged
from rgt_arch.inference.comparing import comparison_path, write_comparison
from rgt_arch.inference.memory import is_out_of_memory
from rgt_arch.inference.pictures import picture_pixels, write_picture
from rgt_arch.inference.planning import Job, Output, Plan
from rgt_arch.inference.upscaler import Upscaler
from rgt_arch.inference.video import upscale_video, video_pixels
from rgt_arch.progress import Progress


@dataclass
class Outcome:
    """Results of a run over several files."""

    made: list[Path] = field(default_factory=list)
    """Outputs written by this run."""
    there: list[Path] = field(default_factory=list)
    """Existing outputs, left unchanged."""
    failures: list[str] = field(default_factory=list)
    """One line for each failed file, and each folder that cannot be listed."""
    notices: int = 0
    """Number of lines about losses that were printed."""
    passed_over: str = ""
    """As `passed_over_by_suffix`."""

    @property
    def exit_code(self) -> int:
        """1 if a file failed, else 0."""
        return int(bool(self.failures))

    def line(self) -> str:
        """Return the counts, the place of the results and, unless a terminal shows them already, the failures."""
        counts = f"{len(self.made)} made, {len(self.there)} already there, {len(self.failures)} failed"
        counts += f", {self.notices} notice{'s' * (self.notices > 1)}" if self.notices else ""
        lines = [f"already there{_place(self.there)}; --overwrite replaces"] if self.there else []
        lines += [self.passed_over] if self.passed_over else []
        lines += [] if sys.stdout.isatty() and sys.stderr.isatty() else self.failures
        lines = [f"  {printable(line)}" for line in lines]
        return "\n".join([printable(counts + _place(self.made)), *lines])


def _place(files: Sequence[Path]) -> str:
    """Return a colon and the only file, or a colon and the folder that contains all files; empty if there is none."""
    if len(files) < 2:
        return "".join(f": {file}" for file in files)
    folder = Path(os.path.commonpath([os.path.abspath(file.parent) for file in files]))
    return f": {folder}" if folder != folder.parent else ""


def run_jobs(plan: Plan, upscaler: Upscaler, output: Output) -> Outcome:
    """Run all jobs with a progress bar in pixels. A failure is reported on stderr and does not stop the rest."""
    jobs = plan.jobs
    existing = {job.target for job in jobs if os.path.lexists(job.target)}
    todo = [job for job in jobs if output.overwrite or job.target not in existing]
    outcome = Outcome(failures=plan.failures, passed_over=passed_over_by_suffix(plan.passed_over))
    outcome.there += [] if output.overwrite else [job.target for job in jobs if job.target in existing]
    sizes = [_pixels(job) for job in todo]
    done = 0
    with Progress(sum(sizes), "upscaling", "px", large=True) as progress:
        for failure in plan.failures:
            progress.note(failure)
        batches = Batches(range(len(todo)), todo, sizes, [upscaler] * len(todo), output)
        for number in batches:
            job, size = todo[number], sizes[number]
            try:
                # written by another process, or an earlier target under another name on a disk that ignores case
                if job.target not in existing and os.path.lexists(job.target):
                    raise UserError(f"{job.target}: another program made it during this run, and it was not replaced")
                _make_folder(job)
                with warnings.catch_warnings(record=True) as told, _no_wider_than(job.source):
                    warnings.simplefilter("default", UserWarning)  # each text once: a video has thousands of frames
                    advance = partial(_advance, progress, done, size)
                    notices = _run(job, upscaler, output, advance, partial(batches.enlarged, number))
                notices = list(dict.fromkeys([*notices, *(str(warning.message) for warning in told)]))
                outcome.notices += len(notices)
                for notice in notices:
                    progress.note(_named(job, notice))
                outcome.made.append(job.target)
                done += size
            except (UserError, OSError, MemoryError, RuntimeError) as error:
                if not isinstance(error, (UserError, OSError)) and not is_out_of_memory(error):
                    raise
                reason = str(error) if isinstance(error, (UserError, OSError)) else "does not fit into memory"
                outcome.failures.append(_named(job, reason))
                progress.note(outcome.failures[-1])
                progress.leave_out(size)
            if not batches.is_ahead():  # the bar is not moved back
                progress.reach(done)
    return outcome


def _named(job: Job, text: str) -> str:
    return text if str(job.source) in text else f"{job.source}: {text}"


def _advance(progress: Progress, before: int, size: int, done: int, total: int) -> None:
    """Report a file's (done, total) as pixels of all files."""
    progress.reach(before + size * done // max(1, total))


def _pixels(job: Job) -> int:
    """Input pixels of a file; 1 if it cannot be read, which `_run` reports later."""
    try:
        return max(1, video_pixels(job.source) if job.is_video else picture_pixels(job.source))
    except (UserError, OSError):
        return 1


@contextmanager
def _no_wider_than(source: Path) -> Iterator[None]:
    """Deny group and others, for everything that is made meanwhile, the permissions that they lack for `source`."""
    before = os.umask(0o077)
    with suppress(OSError):
        os.umask(before | (~os.stat(source).st_mode & 0o077))
    try:
        yield
    finally:
        os.umask(before)


def _make_folder(job: Job) -> None:
    """Make the folder of the result, no more accessible than that of the source."""
    try:
        with _no_wider_than(job.source.parent):
            job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be made ({error.strerror}); name another place with -o") from error


def _run(
    job: Job,
    upscaler: Upscaler,
    output: Output,
    advance: Callable[[int, int], None],
    enlarged: Callable[[Callable[[int, int], None]], Enlarged],
) -> list[str]:
    """Upscale one file and return notices for the user."""
    notices: list[str] = []
    check_place(job.target)
    if job.is_video:
        if output.compare:
            notices.append("--compare works for pictures only, not for videos")
        options = {"outscale": output.scaling(), "crf": output.crf, "progress": advance, "notify": notices.append}
        upscale_video(job.source, job.target, upscaler, **options)  # type: ignore[arg-type]
        return notices
    picture, notices, pixels = enlarged(advance)
    notices += write_picture(job.target, picture.enlarged(pixels), quality=output.quality)
    comparison = comparison_path(job.target)
    if output.compare and os.path.lexists(comparison) and not output.overwrite:
        notices.append(f"{comparison} exists and was left as it is; --overwrite replaces it")
    elif output.compare:
        write_comparison(comparison, picture.pixels, pixels)
    return notices
