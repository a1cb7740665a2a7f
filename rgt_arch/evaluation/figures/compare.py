"""The figure of `rgt figure compare`: a photograph, and parts of it as methods see them, as in the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgt_arch.errors import UsageError, printable
from rgt_arch.evaluation.figures import plotting
from rgt_arch.evaluation.figures.boxes import Box, check_boxes, most_different
from rgt_arch.evaluation.figures.contestants import Contestant, Scene, bicubic, enter, read_scene
from rgt_arch.evaluation.figures.pictures import RGB
from rgt_arch.evaluation.tables.methods import read_methods
from rgt_arch.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PHOTO = 1.8  # width of the photograph in parts
_MOST_IN_A_ROW = 4
_LEAST_CROP = 1.1  # cm: the numbers below it have to fit
_MOST_METHODS = 14


@dataclass(frozen=True)
class CompareSettings:
    """What to compare; the defaults are those of `rgt figure compare`."""

    hr: Path
    methods: Sequence[str]
    lr: Path | None = None
    scale: int | None = None
    boxes: Sequence[tuple[int, ...]] = ()
    """(x, y, w, h) in HR pixels; none: where the methods differ most from bicubic."""
    output: Path = Path("compare.png")
    overwrite: bool = False
    width: float = plotting.COLUMN
    device: str = "auto"
    tile: int | str = "auto"


@dataclass(frozen=True)
class Cell:
    """A part's panel: how it is called, its picture, which may be smaller by `factor`, and what stands below."""

    label: str
    image: RGB
    factor: int = 1
    numbers: str = ""
    best: bool = False


def make_comparison(settings: CompareSettings) -> tuple[list[Contestant], list[Box]]:
    """Run all methods on an image and write the figure. Returns bicubic and the methods in order, and the boxes shown.

    Raises UsageError for input that does not fit, UserError where the work fails.
    """
    plotting.require_matplotlib()
    plotting.check_width(settings.width)
    inputs = [settings.hr, *([settings.lr] if settings.lr else [])]
    methods = [method for method in read_methods(settings.methods) if method.kind != "bicubic"]
    if len(methods) > _MOST_METHODS:
        raise UsageError(f"{len(methods)} methods are too many to be seen; name {_MOST_METHODS} at most")
    plotting.check_figure(
        settings.output,
        [*inputs, *(Path(method.source) for method in methods if method.kind == "weights")],
        overwrite=settings.overwrite,
    )
    scene = read_scene(settings.hr, settings.lr, methods, settings.scale)
    boxes = check_boxes(settings.boxes, scene.hr)
    base = bicubic(scene)
    entered = []
    with Progress(len(methods), "comparing", "method") as progress:
        for method in methods:
            entered.append(enter(method, scene, device=settings.device, tile=settings.tile))
            progress.advance()
    if not boxes:
        others = [one.image for one in entered] or [scene.hr]
        boxes = [most_different(base.image, others, scene.scale)]
    contestants = [base, *entered]
    with plotting.style():
        plotting.write_figure(draw(scene, _cells(scene, contestants), boxes, settings.width), settings.output)
    return contestants, boxes


def _cells(scene: Scene, contestants: Sequence[Contestant]) -> list[Cell]:
    best = max(one.psnr for one in contestants)
    cells = [Cell("LR", scene.lr, scene.scale)]
    for one in contestants:
        cells.append(Cell(printable(one.label), one.image, 1, numbers(one), len(contestants) > 1 and one.psnr == best))
    return [*cells, Cell("HR", scene.hr, 1, "PSNR/SSIM")]


def numbers(one: Contestant) -> str:
    """PSNR and SSIM as papers print them below a picture: 24.49/0.8112."""
    return f"{one.psnr:.2f}/{one.ssim:.4f}" if math.isfinite(one.psnr) else f"∞/{one.ssim:.4f}"


def draw(scene: Scene, cells: Sequence[Cell], boxes: Sequence[Box], width: float) -> Figure:
    """The photograph with its boxes on the left, the cells of each box in rows beside it. width: in cm.

    Magnified pixels are drawn as they are: nothing is smoothed. Raises UsageError if the parts would be too small.
    """
    # One box has two rows of parts, more boxes a row each, if it does not get too long.
    columns = math.ceil(len(cells) / 2) if len(boxes) == 1 or len(cells) > _MOST_IN_A_ROW else len(cells)
    rows = math.ceil(len(cells) / columns)
    part = width / (columns + _PHOTO)
    if part < _LEAST_CROP:
        least = math.ceil(_LEAST_CROP / part * width)
        raise UsageError(
            f"--width {width:g}: the parts would be {part:.1f} cm wide; take --width {least}, or fewer methods"
        )
    size = min(plotting.FONT, part / 2.54 * 72 / 7.4)  # the numbers, 12 characters, are no wider than a part
    heights = [part * box.height / box.width + 2.6 * size / 72 * 2.54 for box in boxes for _ in range(rows)]
    figure = plotting.new_figure(width, sum(heights))
    grid = figure.add_gridspec(len(heights), columns + 1, width_ratios=[_PHOTO] + [1] * columns, height_ratios=heights)
    colours = plotting.COLOURS if len(boxes) > 1 else ("#D55E00",)
    photo = figure.add_subplot(grid[:, 0])
    photo.imshow(scene.hr, interpolation="lanczos")
    photo.set_xlabel(_shortened(f"{printable(scene.path.stem)} (×{scene.scale})", part * _PHOTO, size), size=size)
    plotting.plain(photo)
    for number, box in enumerate(boxes):
        colour = colours[number % len(colours)]
        for edge, line in (("white", 1.8), (colour, 1.0)):  # white below keeps the box visible on any ground
            corner = (box.left - 0.5, box.top - 0.5)
            photo.add_patch(_rectangle(corner, box.width, box.height, fill=False, ec=edge, lw=line))
        for index, cell in enumerate(cells):
            axes = figure.add_subplot(grid[number * rows + index // columns, 1 + index % columns])
            _draw_part(axes, cell, box)
            plotting.plain(axes, colour if len(boxes) > 1 else None)
            text = _shortened(cell.label, part, size) + (f"\n{cell.numbers}" if number == 0 else "")
            axes.set_xlabel(text, weight="bold" if cell.best else "normal", linespacing=1.1, size=size)
    return figure


def _rectangle(*arguments: Any, **styles: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(*arguments, **styles)


def _draw_part(axes: Any, cell: Cell, box: Box) -> None:
    """The boxed pixels of a cell; where the box cuts pixels of LR, it shows the cut ones."""
    factor = cell.factor
    left, top = box.left // factor, box.top // factor
    right, bottom = -(-(box.left + box.width) // factor), -(-(box.top + box.height) // factor)
    extent = (left * factor, right * factor, bottom * factor, top * factor)
    axes.imshow(cell.image[top:bottom, left:right], interpolation="nearest", extent=extent)
    axes.set(xlim=(box.left, box.left + box.width), ylim=(box.top + box.height, box.top))


def _shortened(text: str, width: float, size: float) -> str:
    """A name that fits into a width in cm."""
    most = max(6, int(width / 2.54 * 72 / (0.6 * size)))
    return text if len(text) <= most else f"{text[: most - 1]}…"
