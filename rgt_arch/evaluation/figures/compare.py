"""The figure of `rgt figure compare`: a photograph, and parts of it by several methods, as in the paper."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from rgt_arch.data.bicubic import crop_to_multiple, hr_lr_pair, imresize
from rgt_arch.data.images import image_size, walk_files
from rgt_arch.data.pairing import is_result_of
from rgt_arch.errors import UsageError, printable
from rgt_arch.evaluation.figures import plotting
from rgt_arch.evaluation.figures.plotting import RGB, read_rgb
from rgt_arch.evaluation.reports import number
from rgt_arch.evaluation.tables.methods import SSIM_WINDOW, Method, MissingError, read_methods, runnable
from rgt_arch.evaluation.tables.results import Score
from rgt_arch.evaluation.tables.scoring import score_pair
from rgt_arch.inference.upscaler import Upscaler
from rgt_arch.progress import Progress
from rgt_arch.weights.building import load_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SCALES = (2, 3, 4, 8)
_LEAST_SIDE, _MOST_SLENDER = 4, 5  # of boxes: pixels, ratio of the sides
_PHOTO = 1.8  # width of the photograph in widths of a part
_MOST_IN_A_ROW = 4
_LEAST_CROP = 1.1  # cm: the numbers below it must fit


@dataclass(frozen=True)
class CompareSettings:
    """Settings of a comparison, with the defaults of `rgt figure compare`."""

    hr: Path
    methods: Sequence[str]
    lr: Path | None = None
    scale: int | None = None
    boxes: Sequence[tuple[int, ...]] = ()
    """(x, y, w, h) in HR pixels; empty: where the methods differ most from bicubic."""
    output: Path = Path("compare.png")
    overwrite: bool = False
    width: float = plotting.COLUMN
    device: str = "auto"
    tile: int | str = "auto"


class Box(NamedTuple):
    """A part of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Scene:
    """An HR image cut to a multiple of the scale, and its LR."""

    path: Path
    hr: RGB
    lr: RGB
    scale: int


@dataclass(frozen=True)
class Contestant:
    """One method's picture of a scene, as large as HR."""

    label: str
    image: RGB
    score: Score
    """Of the whole picture; PSNR is infinite if it equals HR."""

    @property
    def numbers(self) -> str:
        """PSNR and SSIM as papers print them below a picture: 24.49/0.8112."""
        return f"{number(self.score['psnr'], 2)}/{number(self.score['ssim'], 4)}"


def make_comparison(settings: CompareSettings) -> list[str]:
    """Run all methods on an image and write the figure. Returns lines with their numbers and the boxes shown.

    Raises UsageError for invalid input, UserError for other failures.
    """
    methods = [method for method in read_methods(settings.methods) if method.kind != "bicubic"]
    inputs = [settings.hr, *(Path(method.source) for method in methods if method.kind == "weights")]
    inputs += [settings.lr] if settings.lr else []
    plotting.check_figure(settings.output, inputs, width=settings.width, overwrite=settings.overwrite)
    scene = _read_scene(settings, methods)
    boxes = _check_boxes(settings.boxes, scene.hr)
    pictures = [("Bicubic", imresize(scene.lr, scene.scale))]
    with Progress(len(methods), "comparing", "method") as progress:
        for method in methods:
            pictures.append((method.label, _picture(method, scene, settings)))
            progress.advance()
    contestants = [
        Contestant(label, image, score_pair(image[..., ::-1], scene.hr[..., ::-1], scene.scale))
        for label, image in pictures
    ]
    if not boxes:
        others = [one.image for one in contestants[1:]] or [scene.hr]
        boxes = [most_different(contestants[0].image, others, scene.scale)]
    with plotting.style():
        plotting.write_figure(_draw(scene, contestants, boxes, settings.width), settings.output)
    shown = " ".join(f"--box {','.join(map(str, box))}" for box in boxes)
    return [*(f"{one.label}: {one.numbers}" for one in contestants), f"{settings.output}: shows {shown}"]


# --- pictures ---


def _read_scene(settings: CompareSettings, methods: Sequence[Method]) -> Scene:
    """Read HR and LR. Without an LR file, LR is made as by MATLAB's imresize.

    With an LR file, the sizes give the scale, and HR is cropped to a multiple as by BasicSR (up to scale − 1 pixels).
    Raises UsageError for files that cannot be read, sizes that do not match, and scales that a method lacks.
    """
    hr, scale, lr = read_rgb(settings.hr), settings.scale, None
    size = f"{hr.shape[1]}×{hr.shape[0]} pixels"
    if settings.lr is not None:
        lr = read_rgb(settings.lr)
        found = hr.shape[0] // lr.shape[0]
        if found < 2 or (hr.shape[0] // found, hr.shape[1] // found) != lr.shape[:2] or scale not in (None, found):
            raise UsageError(
                f"--lr {settings.lr}: has {lr.shape[1]}×{lr.shape[0]} pixels, {settings.hr} {size}: not a whole scale "
                "from 2, or not that of --scale; give the LR of this image"
            )
        scale = found
    scale = _common_scale(methods, scale)
    if min(hr.shape[:2]) // scale * scale < 2 * scale + SSIM_WINDOW:
        raise UsageError(f"{settings.hr}: has {size}, too few for SSIM at ×{scale}; take a larger image")
    hr, lr = hr_lr_pair(hr, scale) if lr is None else (crop_to_multiple(hr, scale), lr)
    return Scene(settings.hr, hr, lr, scale)


def _common_scale(methods: Sequence[Method], asked: int | None) -> int:
    """The requested scale, or the only one that all methods have. Raises UsageError if there is no such scale."""
    known = [method for method in methods if method.kind == "weights"]
    shared = set(_SCALES).intersection(*(method.scales for method in known))
    if asked in shared or (asked is None and len(shared) == 1):
        return asked or shared.pop()
    named = ", ".join(f"{method.label} ×{'/'.join(map(str, method.scales))}" for method in known)
    what = "--scale is needed" if asked is None else f"--scale {asked}: not possible"
    raise UsageError(f"{what}; give one that all methods have ({named or '/'.join(map(str, _SCALES))})")


def _picture(method: Method, scene: Scene, settings: CompareSettings) -> RGB:
    """A method's picture of a scene. Raises UsageError for missing or unfit weights or images."""
    if method.kind == "images":
        return read_rgb(_find_result(Path(method.source), scene))
    try:
        ready = runnable(method, scene.scale)
    except MissingError as error:
        raise UsageError(str(error)) from error
    assert ready.weights is not None
    network = load_model(ready.weights)
    if network.in_chans != 3:
        raise UsageError(f"{method.label}: takes {network.in_chans} channels; comparisons are of RGB images")
    return Upscaler(
        network, device=settings.device, precision="fp32", tile=settings.tile, self_ensemble=method.self_ensemble
    ).upscale(scene.lr)


def _find_result(folder: Path, scene: Scene) -> Path:
    """The only result in a folder with HR's size and name, which may have an ending. Raises UsageError if not one."""
    size = scene.hr.shape[:2]
    files = [file for file in walk_files(folder) if is_result_of(file.name, scene.path.name)]
    files = sorted(file for file in files if image_size(file) == size)
    by_scale = [file for file in files if re.search(rf"[xX]{scene.scale}(?!\d)", str(file.relative_to(folder)))]
    found = by_scale or files
    if len(found) != 1:
        raise UsageError(
            f"{folder}: there are {len(found)} pictures called {scene.path.stem}, {scene.path.stem}_… or "
            f"{scene.path.stem}x… of {size[1]}×{size[0]} pixels; name a folder with one"
        )
    return found[0]


# --- boxes ---


def _check_boxes(boxes: Sequence[tuple[int, ...]], image: RGB) -> list[Box]:
    """Raise UsageError for a box outside the image, or of a shape that cannot be drawn."""
    height, width = image.shape[:2]
    for x, y, w, h in boxes:
        if min(w, h) < _LEAST_SIDE or max(w, h) > _MOST_SLENDER * min(w, h) or x + w > width or y + h > height:
            raise UsageError(
                f"--box {x},{y},{w},{h}: must lie in the image, which has {width}×{height} pixels; its sides must be "
                f"{_LEAST_SIDE} pixels at least, and one at most {_MOST_SLENDER} times the other"
            )
    return [Box(*box) for box in boxes]


def most_different(base: RGB, others: Sequence[RGB], scale: int) -> Box:
    """Return the box where pictures differ most from `base`, by the mean absolute difference of their samples.

    The box is 4:3, a quarter of the shorter side wide but at most 96 pixels, aligned to LR pixels, and outside the
    border that metrics ignore. base, others: (H, W, 3).
    """
    height, width = base.shape[:2]
    wide = _multiple(min(96, max(16, min(height, width) / 4)), scale, width)
    high = _multiple(wide * 0.75, scale, height)
    difference = np.zeros((height, width))
    for other in others:
        difference += np.abs(base.astype(np.int16) - other).mean(axis=2)
    table = cv2.integral(difference)
    sums = table[high:, wide:] - table[:-high, wide:] - table[high:, :-wide] + table[:-high, :-wide]
    sums = sums[::scale, ::scale]
    border = int(sums.shape[0] > 2 and sums.shape[1] > 2)  # one LR pixel
    inner = sums[border : len(sums) - border, border : sums.shape[1] - border]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    return Box((int(x) + border) * scale, (int(y) + border) * scale, wide, high)


def _multiple(value: float, scale: int, limit: int) -> int:
    """The multiple of scale nearest to a value, at least scale and at most limit."""
    return max(1, min(round(value / scale), limit // scale)) * scale


# --- drawing ---


def _draw(scene: Scene, contestants: Sequence[Contestant], boxes: Sequence[Box], width: float) -> Figure:
    """Draw the photograph with its boxes on the left, and every picture's part of each box beside it. width: in cm.

    Parts are magnified without smoothing. Raises UsageError if the parts would be too small.
    """
    from matplotlib.patches import Rectangle

    best = max(one.score["psnr"] for one in contestants) if len(contestants) > 1 else None
    cells = [("LR", scene.lr, scene.scale, "", False)]
    cells += [(printable(one.label), one.image, 1, one.numbers, one.score["psnr"] == best) for one in contestants]
    cells += [("HR", scene.hr, 1, "PSNR/SSIM", False)]
    # A single box has two rows of parts; several boxes have one row each, unless it gets too long.
    columns = math.ceil(len(cells) / 2) if len(boxes) == 1 or len(cells) > _MOST_IN_A_ROW else len(cells)
    rows = math.ceil(len(cells) / columns)
    part = width / (columns + _PHOTO)
    if part < _LEAST_CROP:
        least = math.ceil(_LEAST_CROP / part * width)
        raise UsageError(
            f"--width {width:g}: the parts would be {part:.1f} cm wide; take --width {least}, or fewer methods"
        )
    size = min(plotting.FONT, part / 2.54 * 72 / 7.4)  # so that the numbers, 12 characters, fit below a part
    heights = [part * box.height / box.width + 2.6 * size / 72 * 2.54 for box in boxes for _ in range(rows)]
    figure = plotting.new_figure(width, sum(heights))
    grid = figure.add_gridspec(len(heights), columns + 1, width_ratios=[_PHOTO] + [1] * columns, height_ratios=heights)
    colours = plotting.COLOURS if len(boxes) > 1 else ("#D55E00",)
    photo = figure.add_subplot(grid[:, 0])
    photo.imshow(scene.hr, interpolation="lanczos")
    photo.set_xlabel(_shortened(f"{printable(scene.path.stem)} (×{scene.scale})", part * _PHOTO, size), size=size)
    plotting.plain(photo)
    for row, box in enumerate(boxes):
        colour = colours[row % len(colours)]
        for edge, line in (("white", 1.8), (colour, 1.0)):  # a white line below keeps the box visible on any background
            corner = (box.left - 0.5, box.top - 0.5)
            photo.add_patch(Rectangle(corner, box.width, box.height, fill=False, ec=edge, lw=line))
        for index, (label, image, factor, numbers, bold) in enumerate(cells):
            axes = figure.add_subplot(grid[row * rows + index // columns, 1 + index % columns])
            _draw_part(axes, image, factor, box)
            plotting.plain(axes, colour if len(boxes) > 1 else None)
            text = _shortened(label, part, size) + (f"\n{numbers}" if row == 0 else "")
            axes.set_xlabel(text, weight="bold" if bold else "normal", linespacing=1.1, size=size)
    return figure


def _draw_part(axes: Any, image: RGB, factor: int, box: Box) -> None:
    """Draw the box of a picture `factor` times smaller than HR; pixels on the box's edge are cut."""
    left, top = box.left // factor, box.top // factor
    right, bottom = -(-(box.left + box.width) // factor), -(-(box.top + box.height) // factor)
    extent = (left * factor, right * factor, bottom * factor, top * factor)
    axes.imshow(image[top:bottom, left:right], interpolation="nearest", extent=extent)
    axes.set(xlim=(box.left, box.left + box.width), ylim=(box.top + box.height, box.top))


def _shortened(text: str, width: float, size: float) -> str:
    """Shorten a name to a width in cm."""
    most = max(6, int(width / 2.54 * 72 / (0.6 * size)))
    return text if len(text) <= most else f"{text[: most - 1]}…"
