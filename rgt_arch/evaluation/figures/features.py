"""The figure of `rgt figure features`: attention of a query, representative maps, HAI by depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rgt_arch.archs.rgt_arch import RGT, RecursiveGeneralizationAttention
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.figures import plotting
from rgt_arch.evaluation.figures.attention import (
    Place,
    WindowAttention,
    blocks_of,
    global_weights,
    is_global,
    watch,
    window_weights,
)
from rgt_arch.evaluation.figures.feature_drawing import Attended, draw_features
from rgt_arch.evaluation.figures.pictures import RGB, read_rgb
from rgt_arch.inference.arrays import to_tensor
from rgt_arch.inference.memory import is_out_of_memory
from rgt_arch.inference.upscaler import Upscaler

PARTS = ("attention", "maps", "hai")


@dataclass(frozen=True)
class FeatureSettings:
    """What to draw; the defaults are those of `rgt figure features`."""

    image: Path | None
    """The network's input; None where only HAI is drawn."""
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


def make_features(settings: FeatureSettings) -> list[str]:
    """Run the network and write the figure. Returns a line for each part that it shows or cannot show.

    Raises UsageError for unfit input, UserError if the work fails.
    """
    plotting.require_matplotlib()
    plotting.check_width(settings.width)
    pictured = set(settings.parts) != {"hai"}
    if pictured and settings.image is None:
        raise UsageError("an image is needed, the network's input; without one only --parts hai can be drawn")
    inputs = [Path(settings.weights), *([settings.image] if settings.image else [])]
    plotting.check_figure(settings.output, inputs, overwrite=settings.overwrite)
    upscaler = Upscaler(settings.weights, device=settings.device, precision="fp32", tile=0)
    network = upscaler.network
    lines: list[str] = []
    image = read_rgb(settings.image) if pictured and settings.image else None
    attended, maps = _look(network, image, settings, lines) if image is not None else (None, {})
    values = _hai(network) if "hai" in settings.parts else {}
    if "hai" in settings.parts and not values:
        lines.append(f"HAI: the network has no learned values (hai: {blocks_of(network)[0, 0].hai})")
    if not (attended or maps or values):
        raise UsageError(f"{settings.weights}: has nothing of {', '.join(settings.parts)} to draw: {'; '.join(lines)}")
    kinds = {place: is_global(block) for place, block in blocks_of(network).items()}
    with plotting.style():
        figure = draw_features(settings.width, attended, maps, values, kinds)
        plotting.write_figure(figure, settings.output)
    return lines


def _look(
    network: RGT, image: RGB, settings: FeatureSettings, lines: list[str]
) -> tuple[Attended | None, dict[Place, torch.Tensor]]:
    """Attention of the query and the representative maps, as far as they are wanted and the network has them."""
    if network.in_chans != 3:
        raise UsageError(f"{settings.weights}: takes {network.in_chans} channels; figures are of RGB images")
    height, width = image.shape[:2]
    pair = _pair(network, settings)
    x, y = settings.query or (width // 2, height // 2)
    if x >= width or y >= height:
        raise UsageError(f"--query {x},{y}: does not lie in {settings.image}, which has {width}×{height} pixels")
    _check_head(network, pair, settings.head)
    device = next(network.parameters()).device
    try:
        seen = watch(network, to_tensor(image).to(device), pair if "attention" in settings.parts else ())
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise UserError(
                f"{settings.image}: {width}×{height} pixels do not fit into the memory; cut a smaller part out"
            ) from error
        raise
    maps = seen.representative if "maps" in settings.parts else {}
    if "maps" in settings.parts and not maps:
        lines.append("representative maps: the network has no RG-SA (global_blocks: none)")
    if "attention" not in settings.parts:
        return None, maps

    blocks = blocks_of(network)
    windows: list[WindowAttention] = []
    over_map, global_place = None, None
    geometry = network.geometry(height, width, device)
    for place in pair:
        name = f"{place[0] + 1}.{place[1] + 1}"
        if is_global(blocks[place]):
            over_map = global_weights(blocks[place], seen.entering[place], seen.representative[place], (y, x))
            global_place = place
            lines.append(f"attention of RG-SA in block {name} over {over_map.shape[1]}×{over_map.shape[2]} positions")
        else:
            windows = window_weights(blocks[place], seen.entering[place], geometry, (y, x))
            for branch in windows:
                share = branch.padding.mean()
                lines.append(
                    f"attention of L-SA in block {name}, window {branch.window[0]}×{branch.window[1]}"
                    + (", shifted" if branch.shifted else "")
                    + (f"; {share:.0%} of it on the padding beyond the image" if share > 0.005 else "")
                )
    cell = network.reduction_stride**geometry.depth
    local_place = next((place for place in pair if not is_global(blocks[place])), None)
    return Attended(image, (x, y), local_place, windows, global_place, over_map, cell, settings.head), maps


def _pair(network: RGT, settings: FeatureSettings) -> list[Place]:
    """The chosen block, and the neighbour of the other kind where there is one, L-SA first."""
    blocks = blocks_of(network)
    if settings.block is None:
        chosen = next((place for place in reversed(blocks) if is_global(blocks[place])), next(reversed(blocks)))
    else:
        chosen = (settings.block[0] - 1, settings.block[1] - 1)
        if chosen not in blocks:
            depth = [len(layer.blocks) for layer in network.layers]  # type: ignore[arg-type]
            raise UsageError(
                f"--block {settings.block[0]}.{settings.block[1]}: {settings.weights} has {len(depth)} groups of "
                f"{'/'.join(map(str, sorted(set(depth))))} blocks: 1.1 to {len(depth)}.{depth[-1]}"
            )
    neighbour = (chosen[0], chosen[1] + (-1 if is_global(blocks[chosen]) else 1))
    pair = [chosen]
    if neighbour in blocks and is_global(blocks[neighbour]) != is_global(blocks[chosen]):
        pair.append(neighbour)
    return sorted(pair)


def _check_head(network: RGT, pair: Sequence[Place], head: int | None) -> None:
    blocks = (blocks_of(network)[place].attn for place in pair)
    heads = min(
        block.num_heads if isinstance(block, RecursiveGeneralizationAttention) else block.branch_heads
        for block in blocks
    )
    if head is not None and not 1 <= head <= heads:
        raise UsageError(f"--head {head}: the blocks have heads 1 to {heads} (of L-SA in each branch)")


def _hai(network: RGT) -> dict[Place, torch.Tensor]:
    """α of every block, (C,); empty where HAI is not learned."""
    return {
        place: block.gamma.detach().float().cpu()
        for place, block in blocks_of(network).items()
        if block.hai == "learned"
    }
