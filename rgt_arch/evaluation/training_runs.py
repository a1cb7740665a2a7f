"""Runs of `basicsr train` and `basicsr test` as processes of their own, and the numbers that trainings leave behind."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rgt_arch.errors import UsageError, UserError
from rgt_arch.progress import Progress
from rgt_arch.training.metrics_csv import HEADER
from rgt_arch.training.metrics_csv import NAME as METRICS_FILE

Key = tuple[str, str]
"""Name as BasicSR has it (`l_pix`, `psnr`, `lr`) and validation set, "" for training."""
Points = dict[int, float]
"""Values by iteration."""

_LOOK_SECONDS = 0.5


def basicsr_train(option_file: Path, folder: Path, name: str, total_iter: int, overrides: Sequence[str]) -> Path:
    """Train in `folder`, from the newest checkpoint there if there is one, and show a bar. Returns the run's folder.

    name: of the run. overrides: entries of --force_yml. Raises UserError with the command's own message if it fails.
    """
    run = folder / "experiments" / name
    arguments = ["train", "-opt", str(option_file.resolve()), "--auto_resume", "--force_yml", *overrides]
    with Progress(total_iter, "training", "it") as progress:
        _run([*arguments, f"name={name}", "logger:csv=true"], folder, (run / METRICS_FILE, progress))
        progress.reach(total_iter)
    return run


def basicsr_test(option_file: Path, folder: Path) -> None:
    """Test in `folder`. Raises UserError with the command's own message if it fails."""
    _run(["test", "-opt", str(option_file.resolve())], folder, None)


def _run(arguments: list[str], folder: Path, shown: tuple[Path, Progress] | None) -> None:
    output = folder / f"{arguments[0]}_output.txt"
    # Threads that wait busily for each other halve the speed as soon as another program needs a core.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    with output.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "rgt_arch.cli", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this process, which ends the training once, so that it saves
        )
        try:
            while True:
                try:
                    process.wait(_LOOK_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if shown:
                        shown[1].reach(_last_iteration(shown[0]))
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        lines = output.read_text("utf-8", errors="replace").strip().splitlines() or ["it printed nothing"]
        raise UserError(
            f"basicsr {arguments[0]} ended with exit code {process.returncode}: {lines[-1]} (whole output: {output})"
        )


def _last_iteration(file: Path) -> int:
    try:
        return max((max(points) for points in read_metrics(file).values()), default=0)
    except UsageError:
        return 0


def read_metrics(file: Path) -> dict[Key, Points]:
    """All values of a metrics.csv. A last line that is cut or being written is left out. Raises UsageError."""
    try:
        lines = file.read_text("utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read as the {METRICS_FILE} of a run") from error
    rows = list(csv.reader(line for line in lines if line.endswith("\n")))
    if rows[:1] != [list(HEADER)]:
        raise UsageError(f"{file}: does not begin with {','.join(HEADER)}; give the {METRICS_FILE} of a run")
    series: dict[Key, Points] = {}
    try:
        for iteration, dataset, name, value in rows[1:]:
            series.setdefault((name, dataset), {})[int(iteration)] = float(value)
    except ValueError as error:
        raise UsageError(f"{file}: cannot be read as the {METRICS_FILE} of a run: {error}") from error
    return series
