"""Upscale files one after the other; a failure is reported and does not stop the rest."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rgt_arch.data.images import passed_over_by_suffix
from rgt_arch.errors import UserError, few, printable
from rgt_arch.files import check_place
from rgt_arch.inference.batches import Batches
from rgt_arch.inference.memory import is_out_of_memory
from rgt_arch.inference.pictures.writing import comparison_path, write_comparison, write_picture
from rgt_arch.inference.planning import CHOSEN_FOR, Job, Output, Plan, plan_jobs
from rgt_arch.inference.sharing import Crew, LostContactError, joined_crew
from rgt_arch.inference.upscaler import Upscaler
from rgt_arch.inference.video.upscaling import upscale_video
from rgt_arch.progress import Progress
from rgt_arch.weights.zoo import DEFAULT_WEIGHTS, ZOO


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
    not_begun: int = 0
    """Number of files that nobody began, because a run of several processes was ended."""
    passed_over: str = ""
    """As `passed_over_by_suffix`."""

    @property
    def exit_code(self) -> int:
        """1 if a file failed or was not begun, else 0."""
        return int(bool(self.failures or self.not_begun))

    def line(self) -> str:
        """Return the counts, the place of the results and, unless a terminal shows them already, the failures."""
        counts = f"{len(self.made)} made, {len(self.there)} already there, {len(self.failures)} failed"
        counts += f", {self.not_begun} not begun" if self.not_begun else ""
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


def upscale_files(
    inputs: Sequence[str | Path], output: Output, weights: str | Path | None = None, **options: Any
) -> Outcome:
    """Plan and run jobs as `plan_jobs` and `run_jobs` do. options: of `Upscaler`; there is one for each weights.

    Processes of torchrun or Slurm share the jobs, the largest first. Rank 0 returns all results; the others exit.
    """

    @cache
    def upscaler_of(weights: str | Path) -> Upscaler:
        with warnings.catch_warnings(record=True) as told:
            upscaler = Upscaler(weights, **options)
        for warning in told:
            print(warning.message, file=sys.stderr)
        return upscaler

    def planned() -> Plan:
        scale = ZOO[DEFAULT_WEIGHTS].scale if weights is None else upscaler_of(weights).scale
        return plan_jobs(inputs, output, scale, weights)

    plan = Plan()
    try:
        with joined_crew(on_gpu=options.get("device") != "cpu") as crew:
            if crew is None:
                return run_jobs(planned(), upscaler_of, output)
            call = repr((os.getcwd(), [*map(str, inputs)], output, weights, options))
            plan = _unpacked(crew.from_rank_zero(lambda: json.dumps(asdict(planned()), default=str), call))
            plan.jobs.sort(key=lambda job: -job.pixels)  # so that all processes end at about the same time
            return run_jobs(plan, upscaler_of, output, crew=crew)
    except LostContactError as error:
        missing = [str(job.source) for job in plan.jobs if not os.path.lexists(job.target)]
        raise UserError(f"{error}{'; not made so far: ' if missing else ''}{few(missing)}") from error


def _unpacked(text: str) -> Plan:
    fields = json.loads(text)
    for job in fields["jobs"]:
        job.update(source=Path(job["source"]), target=Path(job["target"]))
    passed_over = [*map(Path, fields["passed_over"])]
    return Plan(**{**fields, "jobs": [Job(**job) for job in fields["jobs"]], "passed_over": passed_over})


def run_jobs(
    plan: Plan,
    upscaler_of: Callable[[str | Path], Upscaler],
    output: Output,
    bar: Callable[..., Progress] = Progress,
    crew: Crew | None = None,
) -> Outcome:
    """Run all jobs with a progress bar in pixels. A failure is reported on stderr and does not stop the rest.

    upscaler_of: returns the Upscaler for the weights of a job, the same for equal weights. bar: makes the progress bar,
    with the arguments of `Progress`. Their exceptions end the run. crew: shares the jobs; only its rank 0 returns.
    """
    jobs = [job for job in plan.jobs if output.overwrite or not job.exists]
    there = [job.target for job in plan.jobs if job.exists and not output.overwrite]
    outcome, done = Outcome([], there, [*plan.failures], passed_over=passed_over_by_suffix(plan.passed_over)), 0
    leads = crew is None or crew.rank == 0
    title = "upscaling" if crew is None else f"upscaling ({crew.size} processes)"
    with bar(sum(job.pixels for job in jobs), title, "px", large=True, shown=leads) as progress:

        def note(text: str) -> None:
            if leads:
                progress.note(text)

        def tell(number: int, result: Sequence[Any]) -> None:
            failure, notices = result
            if failure:
                outcome.failures.append(failure)
                note(failure)
                progress.leave_out(jobs[number].pixels)
                return
            outcome.made.append(jobs[number].target)
            outcome.notices += len(notices)
            for notice in notices:
                note(notice)

        def name_unfinished() -> None:
            numbers, outcome.not_begun = crew.unfinished() if crew else ([], 0)
            for number in numbers:
                outcome.failures.append(f"{jobs[number].source}: not finished; run the same command again")
                progress.note(outcome.failures[-1])

        def end() -> None:
            name_unfinished()
            print(outcome.line(), flush=True)

        def advance(pixels: int, _all: int) -> None:
            reach(done + pixels)

        numbers: AbstractContextManager[Iterable[int]] = nullcontext(range(len(jobs)))
        reach, finish = progress.reach, tell
        if crew:
            numbers, finish = crew.sharing(len(jobs), tell, progress.reach, end), crew.finish
            reach = crew.reach
        with numbers as own:
            upscalers = [upscaler_of(job.weights) for job in jobs]
            chosen = dict.fromkeys(str(job.weights) for job in jobs) if plan.weights_are_chosen else ()
            names = [f"weights for {CHOSEN_FOR[weights]}: {weights}; -w chooses others" for weights in chosen]
            for text in [*plan.failures, *names]:
                note(text)
            most = max(1, len(jobs) // crew.size) if crew else len(jobs)
            batches = Batches(own, jobs, upscalers, output, most)
            for number in batches:
                if crew and crew.is_ended:  # `number` was taken earlier, with a batch
                    break
                failure, notices = _attempt(batches, number, advance)
                finish(number, (failure, notices))
                done += 0 if failure else jobs[number].pixels
                if not batches.is_ahead():  # the bar is not moved back
                    reach(done)
        if not leads:
            raise SystemExit(0)
        name_unfinished()
    return outcome


def _attempt(batches: Batches, number: int, advance: Callable[[int, int], None]) -> tuple[str, list[str]]:
    """Upscale one file. Returns the failure, or an empty text, and notices; both name the file."""
    job = batches.jobs[number]
    try:
        # written by another process, or an earlier target under another name on a disk that ignores case
        if not job.exists and os.path.lexists(job.target):
            raise UserError(f"{job.target}: another program made it during this run, and it was not replaced")
        _make_folder(job)
        with warnings.catch_warnings(record=True) as told, _no_wider_than(job.source):
            warnings.simplefilter("default", UserWarning)  # each text once: a video has thousands of frames
            notices = _run(batches, number, advance)
        notices = list(dict.fromkeys([*notices, *(str(warning.message) for warning in told)]))
        return "", [_named(job, notice) for notice in notices]
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        if not isinstance(error, (UserError, OSError)) and not is_out_of_memory(error):
            raise
        reason = str(error) if isinstance(error, (UserError, OSError)) else "does not fit into memory"
        return _named(job, reason), []


def _named(job: Job, text: str) -> str:
    return text if str(job.source) in text else f"{job.source}: {text}"


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


def _run(batches: Batches, number: int, advance: Callable[[int, int], None]) -> list[str]:
    """Upscale one file and return notices for the user."""
    job, output = batches.jobs[number], batches.output
    notices: list[str] = []
    check_place(job.target)
    if job.is_video:
        if output.compare:
            notices.append("--compare works for pictures only, not for videos")
        upscale_video(
            job.source,
            job.target,
            batches.upscalers[number],
            outscale=output.scaling(),
            crf=output.crf,
            # the number of pixels in the job is an estimate, too
            progress=lambda done, total: advance(job.pixels * done // max(1, total), job.pixels),
            notify=notices.append,
        )
        return notices
    picture, pixels = batches.enlarged(number, advance)
    notices += [*picture.notices, *write_picture(job.target, picture.enlarged(pixels), quality=output.quality)]
    comparison = comparison_path(job.target)
    if output.compare and os.path.lexists(comparison) and not output.overwrite:
        notices.append(f"{comparison} exists and was left as it is; --overwrite replaces it")
    elif output.compare:
        write_comparison(comparison, picture.pixels, pixels)
    return notices
