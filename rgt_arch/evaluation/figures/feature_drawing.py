"""Drawing the findings of `rgt figure features`: heat over the image, small maps, curves of α."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rgt_arch.evaluation.figures import plotting
from rgt_arch.evaluation.figures.attention import Place, WindowAttention
from rgt_arch.evaluation.figures.pictures import RGB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEAT = "viridis"  # even in brightness, the same to every eye
_QUERY = "#D55E00"
_OPACITY = 0.75
_MAPS_IN_A_ROW = 8
_CAPTION = 0.85  # cm below pictures
_HEADING = 0.45


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
    """Pixels of the image a side for a position of that map; the rest at the right and bottom is not seen."""
    head: int | None

    def of_heads(self, weights: Tensor) -> NDArray[np.float64]:
        """One head's weights, or the mean over heads."""
        one = weights.mean(dim=0) if self.head is None else weights[self.head - 1]
        return one.double().cpu().numpy()


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
    heights = []
    if attended:
        panels = 1 + len(attended.windows) + (attended.over_map is not None)
        heights.append(_HEADING + _CAPTION + width / panels * attended.image.shape[0] / attended.image.shape[1] + 0.4)
    if maps:
        _, h, w, _ = next(iter(maps.values())).shape
        columns = min(len(maps), _MAPS_IN_A_ROW, max(1, int(width)))
        row = min(width / columns, 2.0) * min(max(h / w, 0.25), 4.0) + 0.4
        heights.append(_HEADING + math.ceil(len(maps) / columns) * row)
    if hai:
        heights.append(4.3)
    figure = plotting.new_figure(width, sum(heights))
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    letters = iter("abc" if len(parts) > 1 else [])

    def heading(text: str) -> Any:
        part = parts.pop(0)
        letter = next(letters, "")
        part.suptitle(f"({letter}) {text}" if letter else text, x=0.01, ha="left", size=plotting.FONT)
        return part

    if attended:
        places = [place for place in (attended.local_place, attended.global_place) if place]
        names = " and ".join(_name(place) for place in places)
        heads = "mean over heads" if attended.head is None else f"head {attended.head}"
        _draw_attention(heading(f"Attention of the marked query, blocks {names}, {heads}"), attended)
    if maps:
        part = heading(f"Representative maps of RG-SA ({h}×{w}), norm over channels")
        grid = part.subplots(math.ceil(len(maps) / columns), columns, squeeze=False)
        for axes in grid.flat[len(maps) :]:
            axes.axis("off")
        for axes, (place, features) in zip(grid.flat, maps.items(), strict=False):
            axes.imshow(features[0].norm(dim=-1).cpu().numpy(), cmap=_HEAT, interpolation="nearest")
            axes.set_xlabel(_name(place))
            plotting.plain(axes)
    if hai:
        _draw_hai(heading("HAI: adaptive weight α by depth").subplots(), hai, is_global)
    return figure


def _draw_attention(part: Any, attended: Attended) -> None:
    """The image, the branches of L-SA around the query, and RG-SA over the image, each from its own smallest weight."""
    height, width = attended.image.shape[:2]
    whole, crop = (-0.5, width - 0.5, height - 0.5, -0.5), _crop(attended)
    panels: list[tuple[str, NDArray[Any] | None, int, tuple[float, ...]]] = [("Input", None, 1, whole)]
    for branch in attended.windows:
        inside = np.ma.masked_array(attended.of_heads(branch.weights), mask=~branch.inside.cpu().numpy())
        panels.append((f"L-SA {branch.window[0]}×{branch.window[1]}", inside, 1, crop))
    if attended.over_map is not None:
        weights = attended.of_heads(attended.over_map)
        panels.append((f"RG-SA {weights.shape[0]}×{weights.shape[1]}", weights, attended.cell, whole))
    row = part.subplots(1, len(panels), squeeze=False)[0]
    heat = None
    for axes, (title, weights_or_none, cell, shown) in zip(row, panels, strict=True):
        if weights_or_none is None:
            axes.imshow(attended.image, interpolation="lanczos", extent=whole)
            title = f"{title}\n{width}×{height}"
            if attended.windows and crop != whole:
                for colour, line in (("white", 1.4), (_QUERY, 0.7)):
                    left, right, bottom, top = crop
                    axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=colour, lw=line)
        else:
            grey = 0.35 + 0.65 * attended.image.mean(axis=2) / 255
            axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=whole)
            bottom, right = (side * cell - 0.5 for side in weights_or_none.shape)
            extent = (-0.5, right, bottom, -0.5)
            heat = axes.imshow(weights_or_none, cmap=_HEAT, alpha=_OPACITY, interpolation="nearest", extent=extent)
            title = f"{title}\n{100 * weights_or_none.min():.3g} to {100 * weights_or_none.max():.3g} %"
        for colour, line in (("white", 1.4), (_QUERY, 0.8)):
            axes.plot(*attended.query, marker="o", ms=3.4, mfc="none", mec=colour, mew=line)
        axes.set(xlim=shown[:2], ylim=shown[2:])
        axes.set_xlabel(title, linespacing=1.1)
        plotting.plain(axes)
    if heat is not None:
        bar = part.colorbar(heat, ax=list(row), orientation="horizontal", ticks=[], shrink=0.2, aspect=12, pad=0.02)
        bar.set_label("smallest to largest weight", size=plotting.FONT - 0.5)


def _crop(attended: Attended) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of the panels of L-SA: the image's shape, two windows high or wide."""
    height, width = attended.image.shape[:2]
    side = 2 * max((max(branch.window) for branch in attended.windows), default=max(height, width))
    share = min(1.0, side / min(height, width))
    sizes = share * width, share * height
    left, top = (
        min(max(0.0, query - size / 2), full - size) - 0.5
        for query, size, full in zip(attended.query, sizes, (width, height), strict=True)
    )
    return left, left + sizes[0], top + sizes[1], top


def _draw_hai(axes: Any, hai: Mapping[Place, Tensor], is_global: Mapping[Place, bool]) -> None:
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
            chosen = kinds == kind
            axes.plot(depth[chosen], middle[chosen], mark, color=plotting.COLOURS[0], mfc=fill, ms=2.8, mew=0.7,
                      label=name, zorder=4)  # fmt: skip
    starts = [number for number, (_, block) in enumerate(hai) if block == 0]
    for start in starts[1:]:
        axes.axvline(start + 0.5, color="#BBBBBB", lw=0.5, zorder=0)
    axes.axhline(0, color="#777777", lw=0.5, zorder=0)
    every = max(1, math.ceil(len(hai) / 12))
    shown = range(0, len(hai), every) if len(starts) <= 1 or every == 1 else starts
    names = [_name(place) for place in hai]
    axes.set_xticks([depth[number] for number in shown], [names[number] for number in shown])
    axes.set(xlabel="block (group.block)", xlim=(0.5, len(hai) + 0.5))
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, handlelength=1.1, handletextpad=0.5,
                borderaxespad=0.1, columnspacing=0.9)  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)


def _name(place: Place) -> str:
    return f"{place[0] + 1}.{place[1] + 1}"
