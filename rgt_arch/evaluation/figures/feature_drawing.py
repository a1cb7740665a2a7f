"""Drawing what `rgt figure features` found: heat over the image, small maps, curves of α."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rgt_arch.evaluation.figures import plotting
from rgt_arch.evaluation.figures.attention import Place, WindowAttention
from rgt_arch.evaluation.figures.pictures import RGB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GAP = 0.15  # cm
_HEADING = 0.42
_HEAT = "viridis"  # even in brightness, the same to every eye
_QUERY = "#D55E00"
_OPACITY = 0.75
_MAPS_IN_A_ROW = 8
_SMALLEST_MAP = 0.9
_HAI_HEIGHT = 2.6
_LEGEND = 0.4


@dataclass(frozen=True)
class Attended:
    """Attention of a query. query: (x, y). head: from 1, or None for the mean over heads."""

    image: RGB
    query: tuple[int, int]
    local_place: Place | None
    windows: Sequence[WindowAttention]
    global_place: Place | None
    over_map: Tensor | None
    """(heads, h, w) over the representative map."""
    cell: int
    """Pixels of the image a side for a position of that map; what is left over at the right and bottom is not seen."""
    head: int | None


Draw = Callable[["Figure", float, str], None]


def draw_features(
    width: float,
    attended: Attended | None,
    maps: Mapping[Place, Tensor],
    hai: Mapping[Place, Tensor],
    is_global: Mapping[Place, bool],
) -> Figure:
    """The figure of those parts that are not empty, one below the other, with letters where there are several.

    maps: X_r (1, h, w, c) by block. hai: α (C,) by block. is_global: for all blocks, whether they are RG-SA.
    """
    parts: list[tuple[float, Draw]] = []
    if attended:
        parts.append((_attention_height(width, attended), partial(_draw_attention, width=width, attended=attended)))
    if maps:
        parts.append((_maps_height(width, maps), partial(_draw_maps, width=width, maps=maps)))
    if hai:
        parts.append(
            (_HEADING + _LEGEND + _HAI_HEIGHT + 0.85, partial(_draw_hai, width=width, hai=hai, is_global=is_global))
        )
    figure = plotting.new_figure(width, sum(height for height, _ in parts) + _GAP * (len(parts) - 1))
    top = 0.0
    for letter, (height, draw) in zip("abc", parts, strict=False):
        draw(figure, top, f"({letter}) " if len(parts) > 1 else "")
        top += height + _GAP
    return figure


# --- attention ---


@dataclass(frozen=True)
class _Panel:
    """weights: (h, w), each for cell × cell pixels. inside: where they are. near: whether it shows the crop."""

    title: str
    weights: NDArray[np.float64] | None = None
    inside: NDArray[np.bool_] | None = None
    near: bool = False
    cell: int = 1


def _panels(attended: Attended) -> list[_Panel]:
    def of_heads(weights: Tensor) -> NDArray[np.float64]:
        one = weights.mean(dim=0) if attended.head is None else weights[attended.head - 1]
        return one.double().cpu().numpy()

    height, width = attended.image.shape[:2]
    panels = [_Panel(f"Input\n{width}×{height}")]
    for branch in attended.windows:
        weights, inside = of_heads(branch.weights), branch.inside.cpu().numpy()
        title = f"L-SA {branch.window[0]}×{branch.window[1]}\n{_range(weights[inside])}"
        panels.append(_Panel(title, weights, inside, near=True))
    if attended.over_map is not None:
        weights = of_heads(attended.over_map)
        panels.append(
            _Panel(f"RG-SA {weights.shape[0]}×{weights.shape[1]}\n{_range(weights)}", weights, cell=attended.cell)
        )
    return panels


def _range(weights: NDArray[np.float64]) -> str:
    return f"{100 * weights.min():.3g} to {100 * weights.max():.3g} %"


def _crop(attended: Attended) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of what the panels of L-SA show: the image's shape, two windows high or wide."""
    height, width = attended.image.shape[:2]
    side = 2 * max((max(branch.window) for branch in attended.windows), default=max(height, width))
    share = min(1.0, side / min(height, width))
    sizes = share * width, share * height
    starts = (
        min(max(0.0, query - size / 2), full - size) - 0.5
        for query, size, full in zip(attended.query, sizes, (width, height), strict=True)
    )
    left, top = starts
    return left, left + sizes[0], top + sizes[1], top


def _panel_size(width: float, attended: Attended) -> tuple[float, float]:
    count = len(_panels(attended))
    wide = (width - 0.04 - _GAP * (count - 1)) / count
    return wide, wide * attended.image.shape[0] / attended.image.shape[1]


def _attention_height(width: float, attended: Attended) -> float:
    return _HEADING + _panel_size(width, attended)[1] + 2 * plotting.cm_of_text(plotting.FONT) + 0.38


def _draw_attention(figure: Figure, top: float, letter: str, *, width: float, attended: Attended) -> None:
    from matplotlib.patches import Rectangle

    places = [place for place in (attended.local_place, attended.global_place) if place]
    names = " and ".join(_name(place) for place in places)
    heads = "mean over heads" if attended.head is None else f"head {attended.head}"
    _heading(figure, top, f"{letter}Attention of the marked query, blocks {names}, {heads}", width)
    wide, high = _panel_size(width, attended)
    height, full = attended.image.shape[:2]
    whole, crop = (-0.5, full - 0.5, height - 0.5, -0.5), _crop(attended)
    grey = attended.image.mean(axis=2) / 255
    for number, panel in enumerate(_panels(attended)):
        axes = plotting.place(figure, 0.02 + number * (wide + _GAP), top + _HEADING, wide, high)
        if panel.weights is None:
            axes.imshow(attended.image, interpolation="lanczos", aspect="auto", extent=whole)
            if attended.windows and crop != whole:
                corner, size = (crop[0], crop[3]), (crop[1] - crop[0], crop[2] - crop[3])
                for colour, line in (("white", 1.4), (_QUERY, 0.7)):
                    axes.add_patch(Rectangle(corner, *size, fill=False, ec=colour, lw=line))
        else:
            axes.imshow(0.35 + 0.65 * grey, cmap="gray", vmin=0, vmax=1, aspect="auto", extent=whole)
            _draw_heat(axes, panel)
        plotting.plain(axes)
        axes.annotate(
            panel.title, (0.5, 0), (0, -2), "axes fraction", textcoords="offset points",
            ha="center", va="top", linespacing=1.1,
        )  # fmt: skip
        for colour, line in (("white", 1.4), (_QUERY, 0.8)):
            axes.plot(*attended.query, marker="o", ms=3.4, mfc="none", mec=colour, mew=line)
        shown = crop if panel.near else whole
        axes.set(xlim=shown[:2], ylim=shown[2:])
    _draw_scale(figure, top + _HEADING + high + 2 * plotting.cm_of_text(plotting.FONT) + 0.14, width)


def _draw_heat(axes: Any, panel: _Panel) -> None:
    """Weights from their smallest, dark, to their largest, light."""
    assert panel.weights is not None
    values = np.ma.masked_array(panel.weights, mask=False if panel.inside is None else ~panel.inside)
    bottom, right = (side * panel.cell - 0.5 for side in panel.weights.shape)
    extent = (-0.5, right, bottom, -0.5)
    axes.imshow(values, cmap=_HEAT, alpha=_OPACITY, interpolation="nearest", aspect="auto", extent=extent)


def _draw_scale(figure: Figure, top: float, width: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = plotting.place(figure, width / 2 - 0.8, top, 1.6, 0.14)
    figure.colorbar(ScalarMappable(Normalize(0, 1), _HEAT), cax=bar, orientation="horizontal", ticks=[])
    for text, x, side in (("smallest weight", 0, "right"), ("largest", 1, "left")):
        bar.annotate(
            text, (x, 0.5), (3 if x else -3, 0), "axes fraction", textcoords="offset points", ha=side, va="center"
        )


# --- representative maps ---


def _maps_grid(width: float, maps: Mapping[Place, Tensor]) -> tuple[int, float, float]:
    """Columns, and width and height of a map in cm: all of RG-SA in a row, or a row for every few groups."""
    columns = min(len(maps), _MAPS_IN_A_ROW, max(1, int((width + _GAP) / (_SMALLEST_MAP + _GAP))))
    wide = min((width - 0.04 - _GAP * (columns - 1)) / columns, 2.0)
    _, h, w, _ = next(iter(maps.values())).shape
    ratio = min(max(h / w, 0.25), 4.0)
    return columns, wide, wide * ratio


def _maps_height(width: float, maps: Mapping[Place, Tensor]) -> float:
    columns, _, high = _maps_grid(width, maps)
    return _HEADING + math.ceil(len(maps) / columns) * (high + plotting.cm_of_text(plotting.FONT) + 0.1)


def _draw_maps(figure: Figure, top: float, letter: str, *, width: float, maps: Mapping[Place, Tensor]) -> None:
    columns, wide, high = _maps_grid(width, maps)
    _, h, w, _ = next(iter(maps.values())).shape
    _heading(figure, top, f"{letter}Representative maps of RG-SA ({h}×{w}), norm over channels", width)
    for number, (place, features) in enumerate(maps.items()):
        left = 0.02 + (number % columns) * (wide + _GAP)
        row = top + _HEADING + (number // columns) * (high + plotting.cm_of_text(plotting.FONT) + 0.1)
        axes = plotting.place(figure, left, row, wide, high)
        axes.imshow(features[0].norm(dim=-1).cpu().numpy(), cmap=_HEAT, interpolation="nearest", aspect="auto")
        plotting.plain(axes)
        axes.annotate(
            _name(place), (0.5, 0), (0, -2), "axes fraction", textcoords="offset points", ha="center", va="top"
        )


# --- HAI ---


def _draw_hai(
    figure: Figure,
    top: float,
    letter: str,
    *,
    width: float,
    hai: Mapping[Place, Tensor],
    is_global: Mapping[Place, bool],
) -> None:
    _heading(figure, top, f"{letter}HAI: adaptive weight α by depth", width)
    axes = plotting.place(figure, 0.95, top + _HEADING + _LEGEND, width - 1.05, _HAI_HEIGHT)
    depth = np.arange(1, len(hai) + 1)
    values = np.stack([value.numpy() for value in hai.values()])
    for low, high, alpha, name in ((5, 95, 0.2, "90 %"), (25, 75, 0.4, "50 % of channels")):
        bounds = np.percentile(values, (low, high), axis=1)
        axes.fill_between(depth, *bounds, color=plotting.COLOURS[4], alpha=alpha, lw=0, label=name)
    middle = np.median(values, axis=1)
    axes.plot(depth, middle, color=plotting.COLOURS[0], lw=0.8, zorder=3)
    kinds = np.array([is_global[place] for place in hai])
    for kind, name, mark, fill in (
        (False, "median L-SA", "o", "white"),
        (True, "median RG-SA", "s", plotting.COLOURS[0]),
    ):
        if (kinds == kind).any():
            axes.plot(
                depth[kinds == kind], middle[kinds == kind], mark, color=plotting.COLOURS[0], mfc=fill, ms=2.8,
                mew=0.7, label=name, zorder=4,
            )  # fmt: skip
    starts = [number for number, (_, block) in enumerate(hai) if block == 0]
    for start in starts[1:]:
        axes.axvline(start + 0.5, color="#BBBBBB", lw=0.5, zorder=0)
    axes.axhline(0, color="#777777", lw=0.5, zorder=0)
    every = max(1, math.ceil(len(hai) / 12))
    chosen = range(0, len(hai), every) if len(starts) <= 1 or every == 1 else starts
    names = [_name(place) for place in hai]
    axes.set_xticks([depth[number] for number in chosen], [names[number] for number in chosen])
    axes.set(xlabel="block (group.block)", xlim=(0.5, len(hai) + 0.5))
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, handlelength=1.1, handletextpad=0.5,
        borderaxespad=0.1, columnspacing=0.9,
    )  # fmt: skip
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _heading(figure: Figure, top: float, text: str, width: float) -> None:
    axes: Any = plotting.place(figure, 0.02, top, width - 0.04, _HEADING)
    axes.axis("off")
    axes.text(0, 0.55, text, ha="left", va="center")


def _name(place: Place) -> str:
    return f"{place[0] + 1}.{place[1] + 1}"
