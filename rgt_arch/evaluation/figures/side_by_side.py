"""Comparison pictures: a photograph with a box, and the boxed part magnified as several methods give it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rgt_arch.files import written_whole

_GAP = 12
_FONT_SIZE = 20
_LINE = 26
_BOX_COLOUR = "#56B4E9"  # sky blue of the Okabe-Ito palette: told apart with every kind of colour blindness


@dataclass(frozen=True)
class Panel:
    """One method's picture of the scene.

    image: (H, W, 3) uint8 RGB. It may be smaller than the photograph by a whole factor, as an LR image is.
    label: what stands below it, in ASCII (what the font has); may have several lines.
    """

    label: str
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Box:
    """The magnified part, in pixels of the photograph."""

    left: int
    top: int
    width: int
    height: int


def comparison_figure(photograph: NDArray[np.uint8], panels: Sequence[Panel], box: Box, zoom: int = 4) -> Image.Image:
    """Draw the photograph with `box` marked, and beside it in two rows that part of every panel, `zoom` times larger.

    photograph: (H, W, 3) uint8 RGB, usually the HR image. Magnified by repeating pixels, so that what is seen is what
    the method gave. Raises ValueError if the box does not lie in the photograph or on the pixels of a smaller panel.
    """
    height, width = photograph.shape[:2]
    if not (0 <= box.left < box.left + box.width <= width and 0 <= box.top < box.top + box.height <= height):
        raise ValueError(f"{box} does not lie in a photograph of {width}×{height} pixels")
    crops = [_crop(panel, box, (height, width), zoom) for panel in panels]

    caption = _LINE * max(panel.label.count("\n") + 1 for panel in panels) + 6
    cell_width, cell_height = box.width * zoom, box.height * zoom + caption
    columns = -(-len(panels) // 2)
    rows = -(-len(panels) // columns)
    # The photograph is as high as the rows beside it without the last caption, where its own caption would stand.
    photo_height = rows * cell_height + (rows - 1) * _GAP - caption
    photo_width = round(width * photo_height / height)
    canvas = Image.new(
        "RGB",
        (photo_width + columns * (cell_width + _GAP) + 2 * _GAP, rows * (cell_height + _GAP) + _GAP),
        "white",
    )
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(_FONT_SIZE)

    canvas.paste(
        Image.fromarray(photograph).resize((photo_width, photo_height), Image.Resampling.LANCZOS), (_GAP, _GAP)
    )
    ratio = photo_height / height
    corners = [box.left, box.top, box.left + box.width, box.top + box.height]
    outline = [round(_GAP + ratio * value) for value in corners]
    # Black around the colour keeps the box visible on any ground.
    draw.rectangle([outline[0] - 2, outline[1] - 2, outline[2] + 2, outline[3] + 2], outline="black", width=7)
    draw.rectangle(outline, outline=_BOX_COLOUR, width=3)

    for index, (panel, crop) in enumerate(zip(panels, crops, strict=True)):
        left = photo_width + 2 * _GAP + (index % columns) * (cell_width + _GAP)
        top = _GAP + (index // columns) * (cell_height + _GAP)
        canvas.paste(crop, (left, top))
        for number, line in enumerate(panel.label.split("\n")):
            position = (left + cell_width / 2, top + box.height * zoom + 4 + number * _LINE)
            draw.text(position, line, fill="black", font=font, anchor="ma")
    return canvas


def save_figure(figure: Image.Image, path: Path) -> None:
    """Write a figure as PNG; `path` appears only once it is complete."""
    with written_whole(path) as beside:
        figure.save(beside, format="PNG", optimize=True)


def _crop(panel: Panel, box: Box, size: tuple[int, int], zoom: int) -> Image.Image:
    """The boxed part of a panel, magnified to box size × zoom by repeating pixels."""
    height, width = panel.image.shape[:2]
    factor = size[0] // height
    if (height * factor, width * factor) != size:
        raise ValueError(
            f"{panel.label!r} has {width}×{height} pixels, the photograph {size[1]}×{size[0]}: no whole factor"
        )
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    if any(value % factor for value in corners):
        raise ValueError(f"{box} does not lie on the pixels of {panel.label!r}, which are {factor} times as large")
    left, top, right, bottom = (value // factor for value in corners)
    part = panel.image[top:bottom, left:right]
    return Image.fromarray(part.repeat(factor * zoom, axis=0).repeat(factor * zoom, axis=1))
