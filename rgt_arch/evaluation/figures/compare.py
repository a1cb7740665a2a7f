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

_GAP = 0.12  # cm
_WIDEST_PHOTO = 0.46  # of the figure
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

    What is magnified is drawn pixel by pixel: nothing is smoothed. Raises UsageError where the parts would be too
    small to be seen.
    """
    columns = _columns(len(cells), len(boxes))
    rows = math.ceil(len(cells) / columns)
    name_height = plotting.cm_of_text(plotting.FONT)
    captions = [2 * name_height + 0.04] + [name_height + 0.04] * (len(boxes) - 1)  # the numbers stand once
    ratio = scene.hr.shape[1] / scene.hr.shape[0]
    # All heights are `slope` × the width of a part + `rest`; the photograph ends where the last parts do.
    slope = sum(rows * box.height / box.width for box in boxes)
    rest = rows * sum(captions) + _GAP * (rows * len(boxes) - 1) - captions[-1]
    inner = width - columns * _GAP - 0.05
    part = min((inner - ratio * rest) / (columns + ratio * slope), inner / columns)
    photo_width = inner - columns * part
    if part <= 0 or photo_width > _WIDEST_PHOTO * width:
        photo_width = _WIDEST_PHOTO * width
        part = (inner - photo_width) / columns
    if part < _LEAST_CROP:
        least = math.ceil(_LEAST_CROP / part * width)
        raise UsageError(
            f"--width {width:g}: the parts would be {part:.1f} cm wide; take --width {least}, or fewer methods"
        )
    height = slope * part + rest + captions[-1] + 0.06
    figure = plotting.new_figure(width, height)
    _draw_photo(figure, scene, boxes, photo_width, _fitting(part))
    top = 0.03
    for number, (box, caption) in enumerate(zip(boxes, captions, strict=True)):
        high = part * box.height / box.width
        for index, cell in enumerate(cells):
            left = photo_width + _GAP + (index % columns) * (part + _GAP)
            axes = plotting.place(figure, left, top + (index // columns) * (high + caption + _GAP), part, high)
            _draw_part(axes, cell, box, plotting.COLOURS[number % 7] if len(boxes) > 1 else None)
            _write_below(axes, cell, with_numbers=number == 0, part=part)
        top += rows * (high + caption + _GAP)
    return figure


def _columns(cells: int, boxes: int) -> int:
    """One box has two rows of parts, more boxes a row each, if it does not get too long."""
    return math.ceil(cells / 2) if boxes == 1 or cells > _MOST_IN_A_ROW else cells


def _draw_photo(figure: Figure, scene: Scene, boxes: Sequence[Box], width: float, text_size: float) -> None:
    from matplotlib.patches import Rectangle

    height = width * scene.hr.shape[0] / scene.hr.shape[1]
    axes = plotting.place(figure, 0.02, 0.03, width - 0.02, height)
    axes.imshow(scene.hr, interpolation="lanczos", aspect="auto")
    plotting.plain(axes)
    for number, box in enumerate(boxes):
        # white below the colour keeps the box visible on any ground
        for colour, line in (("white", 1.8), (plotting.COLOURS[number % 7] if len(boxes) > 1 else "#D55E00", 1.0)):
            axes.add_patch(
                Rectangle((box.left - 0.5, box.top - 0.5), box.width, box.height, fill=False, ec=colour, lw=line)
            )
    text = f"{_shortened(printable(scene.path.stem), width)} (×{scene.scale})"
    axes.annotate(
        text, (0.5, 0), (0, -2), "axes fraction", textcoords="offset points", ha="center", va="top", size=text_size
    )


def _draw_part(axes: Any, cell: Cell, box: Box, colour: str | None) -> None:
    """The boxed pixels of a cell; where the box cuts pixels of LR, it shows the cut ones."""
    factor = cell.factor
    left, top = box.left // factor, box.top // factor
    right, bottom = -(-(box.left + box.width) // factor), -(-(box.top + box.height) // factor)
    extent = (left * factor, right * factor, bottom * factor, top * factor)
    axes.imshow(cell.image[top:bottom, left:right], interpolation="nearest", extent=extent, aspect="auto")
    axes.set(xlim=(box.left, box.left + box.width), ylim=(box.top + box.height, box.top))
    if colour is None:
        plotting.plain(axes)
    else:
        plotting.frame(axes, colour)


def _write_below(axes: Any, cell: Cell, *, with_numbers: bool, part: float) -> None:
    weight = "bold" if cell.best else "normal"
    text = _shortened(cell.label, part)
    if with_numbers:
        text += f"\n{cell.numbers}"
    axes.annotate(
        text, (0.5, 0), (0, -2), "axes fraction", textcoords="offset points",
        ha="center", va="top", linespacing=1.1, weight=weight, size=_fitting(part),
    )  # fmt: skip


def _fitting(part: float) -> float:
    """Size in points at which the numbers, 12 signs, are no wider than a part."""
    return min(plotting.FONT, part / 2.54 * 72 / 7.4)


def _shortened(text: str, width: float) -> str:
    """A name that fits into a width in cm."""
    most = max(6, int(width / 2.54 * 72 / (0.6 * _fitting(width))))
    return text if len(text) <= most else f"{text[: most - 1]}…"
