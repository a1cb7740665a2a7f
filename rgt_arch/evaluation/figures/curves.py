"""The figure of `rgt figure curves`: losses and validation results of runs over their iterations."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rgt_arch.errors import UsageError, printable
from rgt_arch.evaluation.figures import plotting
from rgt_arch.evaluation.training_runs import METRICS_FILE, Key, Points, read_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = ("loss", "psnr")
_EVENTS = "events.out.tfevents."
_LINES = ("-", "--", "-.", ":")
_MARKS = "osD^vPX"
_PANEL_HEIGHT = 3.1  # cm
_NAMES = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lr": "learning rate"}


@dataclass(frozen=True)
class CurveSettings:
    """What to draw; the defaults are those of `rgt figure curves`."""

    runs: Sequence[str]
    show: Sequence[str] | None = None
    """`loss` for all losses, or names as in the file; None: `SHOWN`, those that are there."""
    smooth: float = 0.9
    """Weight of earlier values, as in TensorBoard; from 0 to below 1."""
    start: int = 0
    """The first iteration drawn."""
    log: bool = False
    """Losses on a logarithmic axis."""
    output: Path = Path("curves.png")
    overwrite: bool = False
    width: float = plotting.COLUMN


@dataclass(frozen=True)
class Run:
    """One training."""

    label: str
    path: Path
    series: dict[Key, Points]


def make_curves(settings: CurveSettings) -> list[str]:
    """Read the runs and write the figure. Returns a line for each curve: its last value, and the best of a validation.

    Raises UsageError for input that does not fit.
    """
    plotting.require_matplotlib()
    plotting.check_width(settings.width)
    if not 0 <= settings.smooth < 1:
        raise UsageError(f"--smooth {settings.smooth:g}: must be from 0 (not at all) to below 1")
    if len(settings.runs) > len(plotting.COLOURS):
        raise UsageError(f"{len(settings.runs)} runs are too many to be told apart; {len(plotting.COLOURS)} at most")
    runs = read_runs(settings.runs, settings.start)
    plotting.check_figure(settings.output, [run.path for run in runs], overwrite=settings.overwrite)
    keys = _keys(runs, settings.show)
    with plotting.style():
        plotting.write_figure(draw_curves(runs, keys, settings), settings.output)
    return [_line(run, key) for key in keys for run in runs if key in run.series]


# --- reading ---


def read_runs(texts: Sequence[str], start: int = 0) -> list[Run]:
    """Runs from paths, each with LABEL= before it if it gets another name; values from iteration `start` on.

    A path is experiments/NAME with its metrics.csv, tb_logger/NAME with TensorBoard files, or one such file.
    Raises UsageError for other paths, and for two runs of one name.
    """
    runs: list[Run] = []
    for text in texts:
        label, named, source = text.partition("=")
        if not named or os.path.exists(text):  # the method of Path fails for names that are too long
            label, source = "", text
        path = Path(source).expanduser()
        series = {
            key: kept
            for key, points in _read(path).items()
            if (kept := {iteration: value for iteration, value in points.items() if iteration >= start})
        }
        if not series:
            raise UsageError(f"--from {start}: {path} ends before" if start else f"{path}: has no values yet")
        folder = path if os.path.isdir(path) else path.parent
        run = Run(printable(label or folder.resolve().name), path, series)
        if any(other.label == run.label for other in runs):
            raise UsageError(f"{run.label}: two runs have this name; give them names of their own, as in MINE={path}")
        runs.append(run)
    return runs


def _read(path: Path) -> dict[Key, Points]:
    if not os.path.exists(path):
        raise UsageError(f"{path}: no such file or folder; name experiments/NAME, tb_logger/NAME or a file in them")
    if os.path.isdir(path):
        if (path / METRICS_FILE).is_file():
            return read_metrics(path / METRICS_FILE)
        if any(path.glob(f"{_EVENTS}*")):
            return _read_events(path)
        raise UsageError(
            f"{path}: there is no {METRICS_FILE} and no {_EVENTS}* in it; logger: csv: true writes the first, "
            "use_tb_logger: true the second to tb_logger/NAME"
        )
    if path.name.startswith(_EVENTS):
        return _read_events(path)
    if path.suffix == ".log":
        raise UsageError(f"{path}: is a log; name the {METRICS_FILE} beside it, which logger: csv: true writes")
    return read_metrics(path)


def _read_events(path: Path) -> dict[Key, Points]:
    """A TensorBoard file, or all of a folder. Where a resumed run wrote a step again, the later value counts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path), size_guidance={"scalars": 0})
    events.Reload()
    result: dict[Key, Points] = {}
    for tag in events.Tags()["scalars"]:
        group, _, name = tag.partition("/")
        dataset, _, metric = name.rpartition("/")
        if name and (group == "losses" or (group == "metrics" and dataset)):  # losses/l_pix, metrics/Set5/psnr
            result[metric, dataset] = {event.step: event.value for event in events.Scalars(tag)}
    return result


# --- what is shown ---


def smoothed(values: Sequence[float], weight: float) -> NDArray[np.float64]:
    """Exponential mean as TensorBoard draws it, without a bias towards 0 at its start; NaN and infinity are skipped."""
    result, mean, total = np.empty(len(values)), 0.0, 0.0
    for number, value in enumerate(values):
        if math.isfinite(value):
            mean, total = weight * mean + (1 - weight) * value, weight * total + (1 - weight)
        result[number] = mean / total if total else math.nan
    return result


def _keys(runs: Sequence[Run], show: Sequence[str] | None) -> list[Key]:
    """What gets a panel, in order. Raises UsageError for a name that no run has."""
    there = sorted({key for run in runs for key in run.series})
    keys: list[Key] = []
    for name in show or SHOWN:
        found = [key for key in there if (_is_loss(key) if name == "loss" else key[0] == name)]
        if show and not found:
            names = sorted({"loss" if _is_loss(key) else key[0] for key in there} | {key[0] for key in there})
            raise UsageError(f"--show {name}: the runs have no such values; they have {', '.join(names)}")
        keys += [key for key in found if key not in keys]
    return keys or there


def _is_loss(key: Key) -> bool:
    return key[0].startswith("l_") and not key[1]  # as BasicSR recognises them, utils/logger.py:118


def _line(run: Run, key: Key) -> str:
    points = run.series[key]
    last = max(points)
    text = f"{run.label}: {f'{key[1]} {key[0]}'.strip()}: {len(points)} values, {points[last]:.6g} at {last}"
    numbers = [iteration for iteration, value in points.items() if not math.isnan(value)]
    if key[1] and numbers:
        best = max(numbers, key=lambda iteration: points[iteration])
        text += f", highest {points[best]:.6g} at {best}"
    return text


# --- drawing ---


def draw_curves(runs: Sequence[Run], keys: Sequence[Key], settings: CurveSettings) -> Figure:
    """A panel for each key, one below the other over the same iterations, with one legend above if there are runs."""
    columns = max(1, min(len(runs), int((settings.width - 1) / (1.1 + 0.115 * max(len(run.label) for run in runs)))))
    rows = math.ceil(len(runs) / columns) if len(runs) > 1 else 0
    height = len(keys) * _PANEL_HEIGHT + 0.9 + 0.35 * rows
    figure = plotting.new_figure(settings.width, height)
    panels = figure.subplots(len(keys), 1, sharex=True, squeeze=False)[:, 0]
    handles: dict[str, Any] = {}
    for axes, key in zip(panels, keys, strict=True):
        for index, run in enumerate(runs):
            if key in run.series:
                drawn = _draw_run(axes, run, key, index, settings.smooth)
                if key[1] or run.label not in handles:  # lines of validations have marks too
                    handles[run.label] = drawn
        name = _NAMES.get(key[0], key[0])
        axes.set_ylabel(f"{name}, {key[1]}" if key[1] else f"loss {name}" if _is_loss(key) else name)
        axes.grid(color="#DDDDDD", lw=0.4)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if _is_loss(key):
            _limit(axes, runs, key, logarithmic=settings.log)
    panels[-1].set_xlabel("iteration")
    panels[-1].xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}")
    figure.align_ylabels(panels)
    if rows:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _draw_run(axes: Any, run: Run, key: Key, index: int, smooth: float) -> Any:
    iterations = sorted(run.series[key])
    values = [run.series[key][iteration] for iteration in iterations]
    colour, line = plotting.COLOURS[index], _LINES[index % len(_LINES)]
    if key[1]:
        few = max(1, math.ceil(len(values) / 25))
        mark = {"marker": _MARKS[index % len(_MARKS)], "ms": 2.6, "markevery": few}
        return axes.plot(iterations, values, line, color=colour, **mark)[0]
    smooth = 0.0 if key[0] == "lr" else smooth
    if smooth:
        axes.plot(iterations, values, color=colour, lw=0.5, alpha=0.3)
    mark = {"marker": "."} if len(values) == 1 else {}
    return axes.plot(iterations, smoothed(values, smooth), line, color=colour, zorder=3, **mark)[0]


def _limit(axes: Any, runs: Sequence[Run], key: Key, *, logarithmic: bool) -> None:
    """The range of 98 % of the losses, so that a spike does not press the rest down."""
    values = np.array([value for run in runs for value in run.series.get(key, {}).values()])
    values = values[np.isfinite(values)]
    if not len(values):
        return
    low, high = np.percentile(values, (1, 99))
    if logarithmic and values.min() > 0:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.2, high * 1.2)
    elif high > low:
        axes.set_ylim(max(0, low - 0.1 * (high - low)) if low >= 0 else None, high + 0.1 * (high - low))
