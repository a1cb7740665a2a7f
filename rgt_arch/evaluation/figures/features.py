"""The figure of `rgt figure features`: attention of a query, representative maps, HAI by depth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rgt_arch.archs.rgt_arch import RGT, RecursiveGeneralizationAttention
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.figures import plotting
from rgt_arch.evaluation.figures.attention import Place, blocks_of, global_weights, is_global, watch, window_weights
from rgt_arch.evaluation.figures.plotting import RGB, read_rgb
from rgt_arch.inference.arrays import to_tensor
from rgt_arch.inference.memory import is_out_of_memory
from rgt_arch.inference.upscaler import Upscaler

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = ("attention", "maps", "hai")
_HEAT = "viridis"  # even in brightness, also with colour blindness
_QUERY = "#D55E00"
_MAPS_IN_A_ROW = 8


@dataclass(frozen=True)
class FeatureSettings:
    """Settings of the figure, with the defaults of `rgt figure features`."""

    image: Path | None
    """The network's input; None if only HAI is drawn."""
    weights: str = "RGT_T_x4"
    parts: Sequence[str] = PARTS
    query: tuple[int, ...] | None = None
    """(x, y) in pixels of the image; None: the middle."""
    block: tuple[int, int] | None = None
    """Group and block from 1; None: the last RG-SA."""
    head: int | None = None
    """From 1; None: the mean over all."""
    output: Path = Path("features.png")
    overwrite: bool = False
    width: float = plotting.COLUMN
    device: str = "auto"


class Heat(NamedTuple):
    """Attention weights of the query in a block, a panel of the figure."""

    name: str
    weights: NDArray[np.float64]
    """(h, w), NaN outside the query's window."""
    cell: int
    """Side of a weight in image pixels; the rest at the right and bottom has no weight."""
    window: int
    """The longer side of L-SA's window, which sets the size of the panel's crop; 0 for RG-SA."""


@dataclass(frozen=True)
class Findings:
    """Attention and maps of an image. query: (x, y). maps: X_r (1, h, w, c) by block. Parts may be empty."""

    image: RGB
    query: tuple[int, int]
    heats: Sequence[Heat]
    heading: str
    """Heading of the attention: blocks and heads."""
    maps: Mapping[Place, Tensor]


def make_features(settings: FeatureSettings) -> list[str]:
    """Run the network and write the figure. Returns lines about the parts that it shows or lacks.

    Raises UsageError for invalid input, UserError for other failures.
    """
    if set(settings.parts) != {"hai"} and settings.image is None:
        raise UsageError("an image is needed, the network's input; without one only --parts hai can be drawn")
    inputs = [Path(settings.weights), *([settings.image] if settings.image else [])]
    plotting.check_figure(settings.output, inputs, width=settings.width, overwrite=settings.overwrite)
    network = Upscaler(settings.weights, device=settings.device, precision="fp32", tile=0).network
    blocks, lines, found, hai = blocks_of(network), list[str](), None, dict[Place, Tensor]()
    if settings.image and set(settings.parts) != {"hai"}:
        found = _look(network, read_rgb(settings.image), settings, lines)
    if "hai" in settings.parts:
        hai = {place: block.gamma.detach().float().cpu() for place, block in blocks.items() if block.hai == "learned"}
        lines += [] if hai else [f"HAI: the network has no learned values (hai: {blocks[0, 0].hai})"]
    if not (hai or (found and (found.heats or found.maps))):
        raise UsageError(f"{settings.weights}: has nothing of {', '.join(settings.parts)} to draw: {'; '.join(lines)}")
    with plotting.style():
        kinds = {place: is_global(block) for place, block in blocks.items()}
        plotting.write_figure(_draw(settings.width, found, hai, kinds), settings.output)
    return [*lines, f"{settings.output}: written"]


def _look(network: RGT, image: RGB, settings: FeatureSettings, lines: list[str]) -> Findings:
    """Compute the query's attention and the representative maps, if requested and present. Adds to `lines`."""
    if network.in_chans != 3:
        raise UsageError(f"{settings.weights}: takes {network.in_chans} channels; figures are of RGB images")
    height, width = image.shape[:2]
    places = _places(network, settings) if "attention" in settings.parts else []
    x, y = settings.query or (width // 2, height // 2)
    if x >= width or y >= height:
        raise UsageError(f"--query {x},{y}: does not lie in {settings.image}, which has {width}×{height} pixels")
    device = next(network.parameters()).device
    try:
        seen = watch(network, to_tensor(image).to(device), places)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise UserError(
                f"{settings.image}: {width}×{height} pixels do not fit into the memory; cut a smaller part out"
            ) from error
        raise
    if "maps" in settings.parts and not seen.representative:
        lines.append("representative maps: the network has no RG-SA (global_blocks: none)")

    def of_heads(weights: Tensor) -> NDArray[np.float64]:
        if settings.head is not None and not 1 <= settings.head <= len(weights):
            raise UsageError(
                f"--head {settings.head}: the blocks have heads 1 to {len(weights)} (of L-SA in each branch)"
            )
        one = weights.mean(dim=0) if settings.head is None else weights[settings.head - 1]
        return one.double().cpu().numpy()

    geometry, heats = network.geometry(height, width, device), []
    for place in places:
        block, name = blocks_of(network)[place], _name(place)
        if isinstance(block.attn, RecursiveGeneralizationAttention):
            weights = of_heads(global_weights(block, seen.entering[place], seen.representative[place], (y, x)))
            size = f"{weights.shape[0]}×{weights.shape[1]}"
            heats.append(Heat(f"RG-SA {size}", weights, network.reduction_stride**geometry.depth, 0))
            lines.append(f"attention of RG-SA in block {name} over {size} positions")
            continue
        for branch in window_weights(block, seen.entering[place], geometry, (y, x)):
            size, share = f"{branch.window[0]}×{branch.window[1]}", branch.padding.mean()
            heats.append(Heat(f"L-SA {size}", of_heads(branch.weights), 1, max(branch.window)))
            padding = f"; {share:.0%} of it on the padding beyond the image" if share > 0.005 else ""
            shifted = ", shifted" * block.attn.shifted
            lines.append(f"attention of L-SA in block {name}, window {size}{shifted}{padding}")
    heads = "mean over heads" if settings.head is None else f"head {settings.head}"
    heading = f"Attention of the marked query, blocks {' and '.join(map(_name, places))}, {heads}"
    return Findings(image, (x, y), heats, heading, seen.representative if "maps" in settings.parts else {})


def _places(network: RGT, settings: FeatureSettings) -> list[Place]:
    """The chosen block and its neighbour of the other kind, if any, L-SA first. Raises UsageError if unknown."""
    blocks = blocks_of(network)
    chosen = next((place for place in reversed(blocks) if is_global(blocks[place])), next(reversed(blocks)))
    if settings.block is not None:
        chosen = (settings.block[0] - 1, settings.block[1] - 1)
        if chosen not in blocks:
            known = ", ".join(map(_name, blocks))
            raise UsageError(f"--block {_name(chosen)}: {settings.weights} has the blocks {known}")
    neighbour = (chosen[0], chosen[1] + (-1 if is_global(blocks[chosen]) else 1))
    places = [chosen]
    if neighbour in blocks and is_global(blocks[neighbour]) != is_global(blocks[chosen]):
        places.append(neighbour)
    return sorted(places)


def _name(place: Place) -> str:
    return f"{place[0] + 1}.{place[1] + 1}"


# --- drawing ---


def _draw(width: float, found: Findings | None, hai: Mapping[Place, Tensor], is_rgsa: Mapping[Place, bool]) -> Figure:
    """Draw the parts that are not empty, one below the other; several have letters. width: in cm.

    hai: α (C,) by block. is_rgsa: for all blocks.
    """
    maps = found.maps if found else {}
    heights = []
    if found and found.heats:
        heights.append(1.7 + width / (1 + len(found.heats)) * found.image.shape[0] / found.image.shape[1])
    if maps:
        _, h, w, _ = next(iter(maps.values())).shape
        columns = min(len(maps), _MAPS_IN_A_ROW, max(1, int(width)))
        row = min(width / columns, 2.0) * min(max(h / w, 0.25), 4.0) + 0.4
        heights.append(0.45 + math.ceil(len(maps) / columns) * row)
    heights += [4.3] if hai else []
    figure = plotting.new_figure(width, sum(heights))
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    letters = iter("abc" if len(parts) > 1 else [])

    def heading(text: str) -> Any:
        part = parts.pop(0)
        letter = next(letters, "")
        part.suptitle(f"({letter}) {text}" if letter else text, x=0.01, ha="left", size=plotting.FONT)
        return part

    if found and found.heats:
        _draw_attention(heading(found.heading), found)
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
        _draw_hai(heading("HAI: adaptive weight α by depth").subplots(), hai, is_rgsa)
    return figure


def _draw_attention(part: Any, found: Findings) -> None:
    """Draw the image, L-SA's branches around the query, and RG-SA over the image, each in its own range of weights."""
    height, width = found.image.shape[:2]
    whole = (-0.5, width - 0.5, height - 0.5, -0.5)
    crop = _crop(found, 2 * max(heat.window for heat in found.heats))
    first, *others = part.subplots(1, 1 + len(found.heats), squeeze=False)[0]
    first.imshow(found.image, interpolation="lanczos", extent=whole)
    first.set_xlabel(f"Input\n{width}×{height}", linespacing=1.1)
    if crop != whole:
        for colour, line in (("white", 1.4), (_QUERY, 0.7)):
            left, right, bottom, top = crop
            first.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=colour, lw=line)
    for axes, heat in zip(others, found.heats, strict=True):
        grey = 0.35 + 0.65 * found.image.mean(axis=2) / 255
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=whole)
        bottom, right = (side * heat.cell - 0.5 for side in heat.weights.shape)
        drawn = axes.imshow(
            heat.weights, cmap=_HEAT, alpha=0.75, interpolation="nearest", extent=(-0.5, right, bottom, -0.5)
        )
        least, most = (100 * function(heat.weights) for function in (np.nanmin, np.nanmax))
        axes.set_xlabel(f"{heat.name}\n{least:.3g} to {most:.3g} %", linespacing=1.1)
    for axes, shown in zip((first, *others), (whole, *(crop if heat.window else whole for heat in found.heats)),
                           strict=True):  # fmt: skip
        for colour, line in (("white", 1.4), (_QUERY, 0.8)):
            axes.plot(*found.query, marker="o", ms=3.4, mfc="none", mec=colour, mew=line)
        axes.set(xlim=shown[:2], ylim=shown[2:])
        plotting.plain(axes)
    bar = part.colorbar(drawn, ax=[first, *others], orientation="horizontal", ticks=[], shrink=0.2, aspect=12, pad=0.02)
    bar.set_label("smallest to largest weight", size=plotting.FONT - 0.5)


def _crop(found: Findings, side: int) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of L-SA's panels: shaped as the image, shorter side `side`; 0: the whole image."""
    height, width = found.image.shape[:2]
    share = min(1.0, side / min(height, width)) or 1.0
    sizes = share * width, share * height
    left, top = (
        min(max(0.0, query - size / 2), full - size) - 0.5
        for query, size, full in zip(found.query, sizes, (width, height), strict=True)
    )
    return left, left + sizes[0], top + sizes[1], top


def _draw_hai(axes: Any, hai: Mapping[Place, Tensor], is_rgsa: Mapping[Place, bool]) -> None:
    depth = np.arange(1, len(hai) + 1)
    values = torch.stack(list(hai.values())).numpy()
    for low, high, alpha, name in ((5, 95, 0.2, "90 %"), (25, 75, 0.4, "50 % of channels")):
        bounds = np.percentile(values, (low, high), axis=1)
        axes.fill_between(depth, *bounds, color=plotting.COLOURS[4], alpha=alpha, lw=0, label=name)
    middle = np.median(values, axis=1)
    axes.plot(depth, middle, color=plotting.COLOURS[0], lw=0.8, zorder=3)
    kinds = np.array([is_rgsa[place] for place in hai])
    for kind, name, mark, fill in ((False, "L-SA", "o", "white"), (True, "RG-SA", "s", plotting.COLOURS[0])):
        if (kinds == kind).any():
            style = {"color": plotting.COLOURS[0], "mfc": fill, "ms": 2.8, "mew": 0.7, "zorder": 4}
            axes.plot(depth[kinds == kind], middle[kinds == kind], mark, label=f"median {name}", **style)
    starts = [number for number, (_, block) in enumerate(hai) if block == 0]
    for start in starts[1:]:
        axes.axvline(start + 0.5, color="#BBBBBB", lw=0.5, zorder=0)
    axes.axhline(0, color="#777777", lw=0.5, zorder=0)
    every = max(1, math.ceil(len(hai) / 12))
    shown = range(0, len(hai), every) if len(starts) <= 1 or every == 1 else starts
    names = list(map(_name, hai))
    axes.set_xticks([depth[number] for number in shown], [names[number] for number in shown])
    axes.set(xlabel="block (group.block)", xlim=(0.5, len(hai) + 0.5))
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, handlelength=1.1, handletextpad=0.5,
                borderaxespad=0.1, columnspacing=0.9)  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
