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
from rgt_arch.evaluation.training_runs import Key, Points, read_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = ("loss", "psnr")
_LINES = ("-", "--", "-.", ":")
_MARKS = "osD^vPX"
_PANEL_HEIGHT = 3.1  # cm
_NAMES = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lr": "learning rate"}


@dataclass(frozen=True)
class CurveSettings:
    """Settings of training curves, with the defaults of `rgt figure curves`."""

    runs: Sequence[str]
    show: Sequence[str] | None = None
    """`loss` for all losses, or names as in the file; None: `SHOWN`, where they exist."""
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
    """Read the runs and write the figure. Returns a line for each curve: the last value and, for validations, the best.

    Raises UsageError for invalid input.
    """
    if not 0 <= settings.smooth < 1:
        raise UsageError(f"--smooth {settings.smooth:g}: must be from 0 (not at all) to below 1")
    if len(settings.runs) > len(plotting.COLOURS):
        raise UsageError(f"{len(settings.runs)} runs are too many to be told apart; {len(plotting.COLOURS)} at most")
    runs = read_runs(settings.runs, settings.start)
    inputs = [run.path for run in runs]
    plotting.check_figure(settings.output, inputs, width=settings.width, overwrite=settings.overwrite)
    keys = _keys(runs, settings.show)
    with plotting.style():
        plotting.write_figure(_draw(runs, keys, settings), settings.output)
    return [*(_line(run, key) for key in keys for run in runs if key in run.series), f"{settings.output}: written"]


def read_runs(texts: Sequence[str], start: int = 0) -> list[Run]:
    """Read runs from [LABEL=]PATH as `read_run` does, from iteration `start` on. Raises UsageError for equal names."""
    runs: list[Run] = []
    for text in texts:
        label, named, source = text.partition("=")
        if not named or os.path.exists(text):  # Path.exists fails for names that are too long
            label, source = "", text
        path = Path(source).expanduser()
        points = {key: {i: value for i, value in of.items() if i >= start} for key, of in read_run(path).items()}
        series = {key: of for key, of in points.items() if of}
        if not series:
            raise UsageError(f"--from {start}: {path} ends before" if start else f"{path}: has no values yet")
        folder = path if os.path.isdir(path) else path.parent
        run = Run(printable(label or folder.resolve().name), path, series)
        if any(other.label == run.label for other in runs):
            raise UsageError(f"{run.label}: two runs have this name; give them names of their own, as in MINE={path}")
        runs.append(run)
    return runs


def smoothed(values: Sequence[float], weight: float) -> NDArray[np.float64]:
    """Return TensorBoard's exponential mean, without a bias towards 0 at the start; NaN and infinity are skipped."""
    result, mean, total = np.empty(len(values)), 0.0, 0.0
    for number, value in enumerate(values):
        if math.isfinite(value):
            mean, total = weight * mean + (1 - weight) * value, weight * total + (1 - weight)
        result[number] = mean / total if total else math.nan
    return result


def _keys(runs: Sequence[Run], show: Sequence[str] | None) -> list[Key]:
    """Keys of the panels, in order. Raises UsageError for a name that no run has."""
    there = sorted({key for run in runs for key in run.series})
    keys: dict[Key, None] = {}
    for name in show or SHOWN:
        found = [key for key in there if (_is_loss(key) if name == "loss" else key[0] == name)]
        if show and not found:
            names = sorted({name for key in there for name in (key[0], *["loss"] * _is_loss(key))})
            raise UsageError(f"--show {name}: the runs have no such values; they have {', '.join(names)}")
        keys |= dict.fromkeys(found)
    return list(keys) or there


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


def _draw(runs: Sequence[Run], keys: Sequence[Key], settings: CurveSettings) -> Figure:
    """Draw a panel for each key, one below the other on one axis of iterations; several runs have a legend above."""
    columns = max(1, min(len(runs), int((settings.width - 1) / (1.1 + 0.115 * max(len(run.label) for run in runs)))))
    rows = math.ceil(len(runs) / columns) if len(runs) > 1 else 0
    figure = plotting.new_figure(settings.width, len(keys) * _PANEL_HEIGHT + 0.9 + 0.35 * rows)
    panels = figure.subplots(len(keys), 1, sharex=True, squeeze=False)[:, 0]
    handles: dict[str, Any] = {}
    for axes, key in zip(panels, keys, strict=True):
        for index, run in enumerate(runs):
            if key in run.series:
                drawn = _draw_run(axes, run, key, index, settings.smooth)
                if key[1] or run.label not in handles:  # the legend shows lines of validations, which have marks
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
    iterations, values = zip(*sorted(run.series[key].items()), strict=True)
    style: dict[str, Any] = {"color": plotting.COLOURS[index], "linestyle": _LINES[index % len(_LINES)]}
    if key[1]:
        every = max(1, math.ceil(len(values) / 25))
        return axes.plot(iterations, values, marker=_MARKS[index % len(_MARKS)], ms=2.6, markevery=every, **style)[0]
    smooth = 0.0 if key[0] == "lr" else smooth
    if smooth:
        axes.plot(iterations, values, color=style["color"], lw=0.5, alpha=0.3)
    marker = "." if len(values) == 1 else None
    return axes.plot(iterations, smoothed(values, smooth), marker=marker, zorder=3, **style)[0]


def _limit(axes: Any, runs: Sequence[Run], key: Key, *, logarithmic: bool) -> None:
    """Limit the axis to the range of 98 % of the losses, so that a spike does not flatten the rest."""
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
