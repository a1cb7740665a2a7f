"""The figure of `rgt figure curves`: losses and validation results of runs over their iterations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rgt_arch.errors import UsageError
from rgt_arch.evaluation.figures import plotting
from rgt_arch.evaluation.figures.training_logs import Key, Run, read_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = ("loss", "psnr")
_LINES = ("-", "--", "-.", ":")
_MARKS = "osD^vPX"
_PANEL_HEIGHT = 2.9  # cm
_AXIS_HEIGHT = 0.95
_LEFT, _RIGHT = 1.35, 0.2  # beside the axes
_STEPS = [1, 2, 2.5, 5, 10]  # between ticks
_NAMES = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lr": "learning rate"}
_UNSMOOTHED = ("lr",)


@dataclass(frozen=True)
class CurveSettings:
    """What to draw; the defaults are those of `rgt figure curves`."""

    runs: Sequence[str]
    show: Sequence[str] | None = None
    """`loss` for all losses, or names as in the log; None: `SHOWN`, those that are there."""
    smooth: float = 0.9
    """Weight of what was before, as in TensorBoard; from 0 to below 1."""
    start: int = 0
    """The first iteration drawn."""
    log: bool = False
    """Losses on a logarithmic axis."""
    output: Path = Path("curves.png")
    overwrite: bool = False
    width: float = plotting.COLUMN


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
    runs = read_runs(settings.runs)
    plotting.check_figure(settings.output, [run.path for run in runs], overwrite=settings.overwrite)
    _start_at(runs, settings.start)
    keys = _keys(runs, settings.show)
    with plotting.style():
        plotting.write_figure(draw_curves(runs, keys, settings), settings.output)
    return [_line(run, key) for key in keys for run in runs if key in run.series]


def smoothed(values: Sequence[float], weight: float) -> NDArray[np.float64]:
    """Exponential mean as TensorBoard draws it, without a bias towards 0 at its start; NaN and infinity are skipped."""
    result, mean, total = np.empty(len(values)), 0.0, 0.0
    for number, value in enumerate(values):
        if math.isfinite(value):
            mean, total = weight * mean + (1 - weight) * value, weight * total + (1 - weight)
        result[number] = mean / total if total else math.nan
    return result


def _start_at(runs: Sequence[Run], start: int) -> None:
    for run in runs:
        kept = {
            key: {iteration: value for iteration, value in points.items() if iteration >= start}
            for key, points in run.series.items()
        }
        run.series = {key: points for key, points in kept.items() if points}
        if not run.series:
            raise UsageError(f"--from {start}: {run.path} ends before")


def _keys(runs: Sequence[Run], show: Sequence[str] | None) -> list[Key]:
    """What gets a panel, in order. Raises UsageError for something asked for that no run has."""
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
    return key[0].startswith("l_") and not key[1]  # as BasicSR tells them, utils/logger.py:118


def _line(run: Run, key: Key) -> str:
    points = run.series[key]
    last = max(points)
    name = " ".join(filter(None, (key[1], key[0])))
    text = f"{run.label}: {name}: {len(points)} values, {points[last]:.6g} at {last}"
    numbers = [iteration for iteration, value in points.items() if not math.isnan(value)]
    if key[1] and numbers:
        best = max(numbers, key=lambda iteration: points[iteration])
        text += f", highest {points[best]:.6g} at {best}"
    return text


# --- drawing ---


def draw_curves(runs: Sequence[Run], keys: Sequence[Key], settings: CurveSettings) -> Figure:
    """A panel for each key, one below the other over the same iterations, with one legend above if there are runs."""
    width = settings.width
    columns = max(1, min(len(runs), int((width - 1) / (1.1 + 0.115 * max(len(run.label) for run in runs)))))
    rows = math.ceil(len(runs) / columns) if len(runs) > 1 else 0
    legend_height = rows * plotting.cm_of_text(plotting.FONT, 1.2) + (0.15 if rows else 0)
    gap = 0.25
    height = legend_height + 0.15 + len(keys) * _PANEL_HEIGHT + (len(keys) - 1) * gap + _AXIS_HEIGHT
    figure = plotting.new_figure(width, height)
    last = max(max(points) for run in runs for key, points in run.series.items() if key in keys)
    first = min(min(points) for run in runs for key, points in run.series.items() if key in keys)
    handles: dict[str, Any] = {}
    for number, key in enumerate(keys):
        top = legend_height + 0.15 + number * (_PANEL_HEIGHT + gap)
        axes = plotting.place(figure, _LEFT, top, width - _LEFT - _RIGHT, _PANEL_HEIGHT)
        for index, run in enumerate(runs):
            if key in run.series:
                drawn = _draw_run(axes, run, key, index, settings.smooth)
                if key[1] or run.label not in handles:  # lines of validations have marks too
                    handles[run.label] = drawn
        _dress(axes, key, width, (first, last), bottom=number == len(keys) - 1)
        _limit(axes, runs, key, settings)
    if rows:
        figure.legend(
            handles.values(), handles.keys(), loc="upper center", ncols=columns, frameon=False,
            bbox_to_anchor=(0.5, 1), borderaxespad=0.3, handlelength=2.2, columnspacing=1.2, labelspacing=0.25,
        )  # fmt: skip
    return figure


def _draw_run(axes: Any, run: Run, key: Key, index: int, smooth: float) -> Any:
    iterations = sorted(run.series[key])
    values = [run.series[key][iteration] for iteration in iterations]
    colour, line = plotting.COLOURS[index], _LINES[index % len(_LINES)]
    if key[1]:
        few = max(1, math.ceil(len(values) / 25))
        mark = {"marker": _MARKS[index % len(_MARKS)], "ms": 2.6, "markevery": few}
        return axes.plot(iterations, values, line, color=colour, **mark)[0]
    smooth = 0.0 if key[0] in _UNSMOOTHED else smooth
    if smooth:
        axes.plot(iterations, values, color=colour, lw=0.5, alpha=0.3)
    mark = {"marker": "."} if len(values) == 1 else {}
    return axes.plot(iterations, smoothed(values, smooth), line, color=colour, zorder=3, **mark)[0]


def _dress(axes: Any, key: Key, width: float, span: tuple[int, int], *, bottom: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    name = _NAMES.get(key[0], key[0])
    axes.set_ylabel(f"{name}, {key[1]}" if key[1] else f"loss {name}" if _is_loss(key) else name)
    axes.yaxis.set_label_coords(-0.95 / (width - _LEFT - _RIGHT), 0.5)  # under each other, beside 0.025
    margin = 0.02 * (span[1] - span[0]) or 1
    axes.set_xlim(span[0] - margin, span[1] + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=_STEPS, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(_count))
    axes.grid(color="#DDDDDD", lw=0.4)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if bottom:
        axes.set_xlabel("iteration")
    else:
        axes.tick_params(labelbottom=False)


def _count(value: float, _: int) -> str:
    """Iterations with k for thousands."""
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _limit(axes: Any, runs: Sequence[Run], key: Key, settings: CurveSettings) -> None:
    """Losses: the range of 98 % of the values, so that a spike does not press the rest down."""
    values = np.array([value for run in runs for value in run.series.get(key, {}).values()])
    values = values[np.isfinite(values)]
    if not _is_loss(key) or not len(values):
        return
    low, high = np.percentile(values, (1, 99))
    if settings.log and values.min() > 0:
        from matplotlib.ticker import LogLocator, NullFormatter

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(low / 1.2, high * 1.2)
    elif high > low:
        axes.set_ylim(max(0, low - 0.1 * (high - low)) if low >= 0 else None, high + 0.1 * (high - low))
