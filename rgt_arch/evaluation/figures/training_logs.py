"""Losses and validation results of BasicSR's runs, from their logs or TensorBoard files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rgt_arch.errors import UsageError, printable

Key = tuple[str, str]
"""What was measured, as BasicSR names it (`l_pix`, `psnr`, `lr`), and the validation set, or ""."""
Points = dict[int, float]
"""Values by iteration."""

_EVENTS = "events.out.tfevents."
# BasicSR utils/logger.py:97: [train..][epoch:  0, iter:     100, lr:(2.000e-04,)] [eta: …] l_pix: 3.4716e-03
_TRAINING = re.compile(r"\[epoch:\s*\d+, iter:\s*([\d,]+), lr:\(([^,)]*)[^)]*\)\]\s*(?:\[eta:[^\]]*\])?(.*)")
_LOSS = re.compile(r"(\S+): (\S+)")
# models/sr_model.py:252: two lines or more, "Validation Set5" and "\t # psnr: 37.0324\tBest: …"
_VALIDATION = re.compile(r"INFO: Validation (.+?)\s*$")
_METRIC = re.compile(r"\s+# (\S+): (\S+)")
_OPTION = re.compile(r"\s+(val_freq|start_iter): (\d+)(?:\.0)?\s*$")
_RESUMED = re.compile(r"Resuming training from epoch: \d+, iter: ([\d,]+)")
# basicsr_compat/training_loop.py, when a run was killed between saving and validating
_OWED = re.compile(r"Validating iteration (\d+), as was due")
_TOTAL = re.compile(r"Total epochs: \d+; iters: (\d+)")
_LAST = "Save the latest model"


@dataclass
class Run:
    """One training."""

    label: str
    path: Path
    series: dict[Key, Points] = field(default_factory=dict)


def read_runs(texts: Sequence[str]) -> list[Run]:
    """Runs from paths, each with LABEL= before it if it shall be called otherwise.

    A path is a folder of a run (experiments/NAME, tb_logger/NAME), a log, or a TensorBoard file. A run that was
    resumed has several files: where they overlap, the later one counts.
    Raises UsageError for what is none of these, and for two runs of one name.
    """
    runs: list[Run] = []
    for text in texts:
        label, named, source = text.partition("=")
        if not named or os.path.exists(text):  # the method of Path fails for names that are too long
            label, source = "", text
        path = Path(source).expanduser()
        run = Run(printable(label or _name(path)), path, _read(path))
        if any(other.label == run.label for other in runs):
            raise UsageError(f"{run.label}: two runs have this name; give them names of their own, as in MINE={path}")
        runs.append(run)
    return runs


def _name(path: Path) -> str:
    """The folder's name, or a log's without BasicSR's train_ and date."""
    if os.path.isdir(path):
        return path.resolve().name
    if path.name.startswith(_EVENTS):
        return path.resolve().parent.name
    return re.sub(r"^train_(.+?)(_\d{8}_\d{6})?$", r"\1", path.stem)


def _read(path: Path) -> dict[Key, Points]:
    files = _files(path)
    merged: dict[Key, Points] = {}
    for file in files:
        found = _read_events(file) if file.name.startswith(_EVENTS) else _read_log(file)
        if not found:
            continue
        start = min(iteration for points in found.values() for iteration in points)
        for points in merged.values():
            for iteration in [iteration for iteration in points if iteration >= start]:
                del points[iteration]
        for key, points in found.items():
            merged.setdefault(key, {}).update(points)
    merged = {key: points for key, points in merged.items() if points}
    if not merged:
        what = "no losses and no validations in" if len(files) == 1 else f"no losses and no validations in {len(files)}"
        raise UsageError(f"{path}: there are {what} its files; a run writes them every logger.print_freq iterations")
    return merged


def _files(path: Path) -> list[Path]:
    """The files of a run in the order they were written in: their names end with the time."""
    if os.path.isfile(path):
        return [path]
    if not os.path.isdir(path):
        raise UsageError(f"{path}: no such file or folder; name experiments/NAME, tb_logger/NAME, or a log")
    for pattern in ("train_*.log", f"{_EVENTS}*"):
        if files := sorted((file for file in path.glob(pattern) if file.is_file()), key=_written):
            return files
    raise UsageError(
        f"{path}: there is no train_*.log and no {_EVENTS}* in it; name experiments/NAME or tb_logger/NAME of a run"
    )


def _written(file: Path) -> tuple[str, str]:
    """The time in a file's name, and the name."""
    found = re.search(r"(\d{8}_\d{6})\.log$", file.name) or re.search(r"tfevents\.(\d+)", file.name)
    return (found[1] if found else "", file.name)


# --- TensorBoard ---


def _read_events(file: Path) -> dict[Key, Points]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(file), size_guidance={"scalars": 0})
    events.Reload()
    result: dict[Key, Points] = {}
    for tag in events.Tags()["scalars"]:
        parts = tag.split("/")
        if parts[0] == "metrics" and len(parts) > 2:  # metrics/Set5/psnr
            key = (parts[-1], "/".join(parts[1:-1]))
        elif parts[0] == "losses" and len(parts) == 2:
            key = (parts[1], "")
        else:
            continue
        result[key] = {event.step: event.value for event in events.Scalars(tag)}
    return result


# --- logs ---


def _read_log(file: Path) -> dict[Key, Points]:
    """A log does not say at which iteration it validates: that follows from val_freq and the lines before."""
    try:
        text = file.read_text("utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from error
    lines = text[: text.rfind("\n") + 1].splitlines()  # a number at the end of a log that was cut may lack digits
    result: dict[Key, Points] = {}
    every, total, now, after_the_end = 0, 0, 0, False
    least, owed_at = 1, 0  # the earliest iteration that the next validation can be of; the one that it is of
    validated: dict[str, int] = {}
    validating = ""
    for line in lines:
        if training := _TRAINING.search(line):
            now = least = int(training[1].replace(",", ""))
            validating = ""
            values = [("lr", training[2]), *_LOSS.findall(training[3])]
            for name, text in values:
                _add(result, (name, ""), now, text)
        elif validation := _VALIDATION.search(line):
            validating = validation[1]
            before = validated.get(validating, 0)
            if after_the_end and total:
                validated[validating] = total
            elif owed_at and not before:
                validated[validating] = owed_at
            elif every:  # the first multiple from `least` on, and after the one before
                validated[validating] = max(math.ceil(least / every) * every, before + every if before else 0)
            else:
                validated[validating] = now
        elif validating and (metric := _METRIC.match(line)):
            _add(result, (metric[1], validating), validated[validating], metric[2])
        elif option := _OPTION.match(line):
            if option[1] == "val_freq":
                every = int(option[2])
            else:
                now, least = int(option[2]), int(option[2]) + 1
        elif resumed := _RESUMED.search(line):
            now = int(resumed[1].replace(",", ""))
            least = now + 1
            validated.clear()  # logs that somebody put together: it goes on from an earlier iteration
        elif owed := _OWED.search(line):
            owed_at = int(owed[1])
        elif length := _TOTAL.search(line):
            total = int(length[1])
        elif _LAST in line:
            after_the_end = True
    return result


def _add(series: dict[Key, Points], key: Key, iteration: int, text: str) -> None:
    try:
        series.setdefault(key, {})[iteration] = float(text)  # nan and inf too
    except ValueError:
        return
