"""The picture of `rgt bench scaling` and `rgt complexity --growth`: curves over the pixels, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

# Of the Okabe-Ito palette, which is told apart with every kind of colour blindness; the marks differ too.
_STYLES = {
    "ours": ("#0072B2", "circle"),
    "official": ("#D55E00", "square"),
    "RG-SA": ("#0072B2", "circle"),
    "global attention": ("#D55E00", "square"),
    "L-SA": ("#009E73", "triangle"),
}
_FINE = 3  # drawn so many times larger and shrunk, for smooth lines
_WIDTH, _HEIGHT = 560, 440  # of a panel
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 20, 76, 64  # around its axes
_TITLE = 40
_GRID, _AXIS = "#DDDDDD", "#333333"

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """One network's or layer's values.

    style: `ours`, `official`, `RG-SA`, `L-SA` or `global attention`. points: (pixels, value), both above 0, in the
    order of the pixels.
    """

    style: str
    label: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Panel:
    """One quantity over the pixels."""

    title: str
    unit: str
    curves: Sequence[Curve]


def scaling_plot(title: str, panels: Sequence[Panel]) -> Image.Image:
    """Draw panels side by side, each with a grey line of linear growth through the first point of its last curve.

    Texts in ASCII, which is what the font has.
    """
    canvas = Image.new("RGB", (_FINE * _WIDTH * len(panels), _FINE * (_HEIGHT + _TITLE)), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((_FINE * 20, _FINE * 14), title, fill="black", font=_font(17))
    for number, panel in enumerate(panels):
        _draw_panel(draw, panel, _WIDTH * number, _TITLE)
    return canvas.resize((canvas.width // _FINE, canvas.height // _FINE), Image.Resampling.LANCZOS)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(_FINE * size)


@dataclass(frozen=True)
class _Axes:
    """Where values stand on the canvas."""

    x: tuple[float, float]
    y: tuple[float, float]
    left: int
    top: int

    def place(self, point: Point) -> Point:
        """Canvas position of (pixels, value)."""
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        across = math.log(point[0] / self.x[0]) / math.log(self.x[1] / self.x[0])
        up = math.log(point[1] / self.y[0]) / math.log(self.y[1] / self.y[0])
        return _FINE * (self.left + _LEFT + across * width), _FINE * (self.top + _TOP + (1 - up) * height)


def _draw_panel(draw: ImageDraw.ImageDraw, panel: Panel, left: int, top: int) -> None:
    draw.text((_FINE * (left + 20), _FINE * (top + 8)), f"{panel.title}, {panel.unit}", fill="black", font=_font(15))
    points = [point for curve in panel.curves for point in curve.points]
    if not points:
        draw.text((_FINE * (left + _LEFT), _FINE * (top + 60)), "nothing was measured", fill=_AXIS, font=_font(14))
        return
    axes = _Axes(_around([x for x, _ in points]), _around([y for _, y in points]), left, top)
    _draw_grid(draw, axes)
    first = panel.curves[-1].points[0]
    end = min(axes.x[1], first[0] * axes.y[1] / first[1])  # where it leaves the panel
    linear = [axes.place(first), axes.place((end, first[1] * end / first[0]))]
    draw.line(linear, fill="#999999", width=_FINE)
    legend = left + _LEFT
    for curve in panel.curves:
        colour, mark = _STYLES[curve.style]
        places = [axes.place(point) for point in curve.points]
        if len(places) > 1:
            draw.line(places, fill=colour, width=2 * _FINE)
        row = _FINE * (top + 44)
        for place in [*places, (_FINE * (legend + 6), row)]:
            _draw_mark(draw, place, colour, mark)
        draw.text((_FINE * (legend + 18), row), curve.label, fill="black", font=_font(13), anchor="lm")
        legend += 24 + round(draw.textlength(curve.label, _font(13)) / _FINE) + 14
    draw.line([(_FINE * legend, row), (_FINE * (legend + 16), row)], fill="#999999", width=_FINE)
    draw.text((_FINE * (legend + 22), row), "linear", fill="black", font=_font(13), anchor="lm")


def _draw_mark(draw: ImageDraw.ImageDraw, place: Point, colour: str, mark: str) -> None:
    x, y = place
    size = 5 * _FINE
    box = [x - size, y - size, x + size, y + size]
    if mark == "circle":
        draw.ellipse(box, fill=colour)
    elif mark == "triangle":
        draw.regular_polygon((x, y, 1.3 * size), 3, fill=colour)
    else:
        draw.rectangle(box, fill="white", outline=colour, width=2 * _FINE)


def _draw_grid(draw: ImageDraw.ImageDraw, axes: _Axes) -> None:
    (x0, y0), (x1, y1) = axes.place((axes.x[0], axes.y[0])), axes.place((axes.x[1], axes.y[1]))
    for value in _ticks(*axes.x):
        x = axes.place((value, axes.y[0]))[0]
        draw.line([(x, y0), (x, y1)], fill=_GRID, width=_FINE)
        draw.text((x, y0 + 6 * _FINE), _count(value), fill="black", font=_font(12), anchor="ma")
    for value in _ticks(*axes.y):
        y = axes.place((axes.x[0], value))[1]
        draw.line([(x0, y), (x1, y)], fill=_GRID, width=_FINE)
        draw.text((x0 - 6 * _FINE, y), f"{value:g}", fill="black", font=_font(12), anchor="rm")
    draw.line([(x0, y1), (x0, y0), (x1, y0)], fill=_AXIS, width=_FINE)
    draw.text(((x0 + x1) / 2, y0 + 28 * _FINE), "input pixels", fill="black", font=_font(14), anchor="ma")


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Bounds of an axis, some way from the outermost values; at least a factor of 2 apart."""
    margin = max(1.25, math.sqrt(2 * min(values) / max(values)))
    return min(values) / margin, max(values) * margin


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between bounds; the powers alone where there are many."""
    steps = (1, 2, 5) if high / low < 300 else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for power in exponents for step in steps if low <= (value := float(f"{step}e{power}")) <= high]


def _count(pixels: float) -> str:
    """Pixels with k and M for thousands and millions."""
    return f"{pixels / 1e6:g}M" if pixels >= 1e6 else f"{pixels / 1e3:g}k" if pixels >= 1e3 else f"{pixels:g}"
