"""Run `basicsr train` and `basicsr test` in processes of their own, and read the values that trainings wrote."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rgt_arch.errors import UsageError, UserError
from rgt_arch.progress import Progress
from rgt_arch.training.metrics_csv import HEADER
from rgt_arch.training.metrics_csv import NAME as METRICS_FILE

Key = tuple[str, str]
"""BasicSR's name of a value (`l_pix`, `psnr`, `lr`) and the validation set, "" for training."""
Points = dict[int, float]
"""Values by iteration."""

_LOOK_SECONDS = 0.5
_EVENTS = "events.out.tfevents."
_UNNAMED = "validation"


def basicsr_train(option_file: Path, folder: Path, name: str, total_iter: int, overrides: Sequence[str]) -> Path:
    """Train in `folder`, from its newest checkpoint if there is one, with a bar. Returns the run directory.

    name: of the run. overrides: entries of --force_yml. Raises UserError with the command's own message if it fails.
    """
    run = folder / "experiments" / name
    overrides = [*overrides, f"name={name}", "logger:csv=true"]
    with Progress(total_iter, "training", "it") as progress:
        _run("train", option_file, folder, ["--auto_resume", "--force_yml", *overrides], (run / METRICS_FILE, progress))
        progress.reach(total_iter)
    return run


def basicsr_test(option_file: Path, folder: Path) -> None:
    """Test in `folder`. Raises UserError with the command's own message if it fails."""
    _run("test", option_file, folder, [], None)


def _run(name: str, option_file: Path, folder: Path, more: list[str], shown: tuple[Path, Progress] | None) -> None:
    output = folder / f"{name}_output.txt"
    with output.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "rgt_arch.cli", name, "-opt", str(option_file.resolve()), *more],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only this process, which ends the training once, so that it saves
        )
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
                with suppress(UsageError):  # the file may not exist yet
                    if shown:
                        shown[1].reach(max((max(points) for points in read_metrics(shown[0]).values()), default=0))
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        lines = output.read_text("utf-8", errors="replace").strip().splitlines() or ["it printed nothing"]
        raise UserError(
            f"basicsr {name} ended with exit code {process.returncode}: {lines[-1]} (whole output: {output})"
        )


def read_run(path: Path) -> dict[Key, Points]:
    """Read experiments/NAME, tb_logger/NAME, a metrics.csv or a TensorBoard file. Raises UsageError for other paths."""
    if not os.path.exists(path):
        raise UsageError(f"{path}: no such file or folder; name experiments/NAME, tb_logger/NAME or a file in them")
    if (path / METRICS_FILE).is_file():
        return read_metrics(path / METRICS_FILE)
    if path.name.startswith(_EVENTS) or any(path.glob(f"{_EVENTS}*")):
        return _read_events(path)
    if path.is_dir():
        raise UsageError(
            f"{path}: there is no {METRICS_FILE} and no {_EVENTS}* in it; logger: csv: true writes the first, "
            "use_tb_logger: true the second to tb_logger/NAME"
        )
    return read_metrics(path)


def read_metrics(file: Path) -> dict[Key, Points]:
    """Read all values of a metrics.csv, except an incomplete last line. Raises UsageError for other files."""
    series: dict[Key, Points] = {}
    try:
        lines = file.read_text("utf-8").splitlines(keepends=True)
        head, *rows = csv.reader(line for line in lines if line.endswith("\n"))
        if head != list(HEADER):
            raise ValueError(f"does not begin with {','.join(HEADER)}")
        for iteration, dataset, name, value in rows:
            series.setdefault((name, dataset), {})[int(iteration)] = float(value)
    except (OSError, ValueError) as error:  # ValueError also if it is not UTF-8
        raise UsageError(f"{file}: cannot be read as the {METRICS_FILE} of a run: {error}") from error
    return series


def _read_events(path: Path) -> dict[Key, Points]:
    """Read a TensorBoard file or all of a folder. Of a step that a resumed run wrote again, the later value counts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()["scalars"]
    keys = {tag: key for tag in tags if (key := _key(tag, tags))}
    return {key: {event.step: event.value for event in events.Scalars(tag)} for tag, key in keys.items()}


def _key(tag: str, tags: Sequence[str]) -> Key | None:
    """The key of a TensorBoard tag of BasicSR or a project built on it; None for one folder of a set of videos."""
    match tag.split("/"):
        case ["losses", name]:
            return name, ""
        case ["metrics", metric]:  # older versions of BasicSR, and its models of videos
            return metric, _UNNAMED
        case ["metrics", metric, *_] if f"metrics/{metric}" in tags:
            return None
        case ["metrics", *dataset, metric]:
            return metric, "/".join(dataset)
        case [*dataset, name] if name.startswith("m_"):  # projects with a copy of an older BasicSR, such as NAFNet
            return name.removeprefix("m_"), "/".join(dataset) or _UNNAMED
    return tag, ""
