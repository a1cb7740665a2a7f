"""Comparison pictures: bicubic and RGT side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rgt_arch.files import written_whole
from rgt_arch.inference.pictures.writing import on_white, rounded

_LABELS = ("bicubic", "RGT")


def comparison_path(target: Path) -> Path:
    """Return the path of an output's comparison: photo_x4_compare.png for photo_x4.jpg."""
    return target.with_name(f"{target.stem}_compare.png")


def panels(before: NDArray[Any], after: NDArray[Any]) -> tuple[Image.Image, Image.Image]:
    """Return `before`, enlarged by Pillow's bicubic, and `after`, of one size: 8-bit RGB over white.

    before, after: (H, W) or (H, W, 2 to 4), uint8 or uint16.
    """
    result = _rgb(after)
    return _rgb(before).resize(result.size, Image.Resampling.BICUBIC), result


def write_comparison(path: Path, before: NDArray[Any], after: NDArray[Any]) -> None:
    """Write the `panels` side by side as a PNG. Raises UserError if the file cannot be written."""
    height, width = after.shape[:2]
    gap = max(4, width // 100)
    font = ImageFont.load_default(size=max(12, width // 40))
    caption = font.getbbox("g")[3] + gap
    sheet = Image.new("RGB", (2 * width + gap, height + round(caption)), "white")
    for number, (panel, label) in enumerate(zip(panels(before, after), _LABELS, strict=True)):
        left = number * (width + gap)
        sheet.paste(panel, (left, 0))
        ImageDraw.Draw(sheet).text((left + width / 2, height), label, fill="black", font=font, anchor="ma")
    with written_whole(path) as beside:
        sheet.save(beside)


def _rgb(pixels: NDArray[Any]) -> Image.Image:
    pixels = rounded(pixels)
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels = on_white(pixels)
    return Image.fromarray(pixels).convert("RGB")
