"""Shared by all figures: matplotlib's style, checks of outputs, reading pictures, writing files."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rgt_arch.errors import UsageError, UserError
from rgt_arch.files import check_output, written_whole
from rgt_arch.inference.pictures.reading import read_picture
from rgt_arch.inference.pictures.writing import on_white, rounded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RGB = NDArray[np.uint8]

COLUMN = 8.5
"""Width of a journal's column in cm."""
# The Okabe-Ito palette, safe for every kind of colour blindness, without its yellow, which is too light for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
FONT = 6.5
_WIDTHS = (5.0, 40.0)
_SUFFIXES = (".png", ".pdf", ".svg")
_DOTS_PER_INCH = 600  # journals ask for it in figures of lines and pictures
_CM = 2.54
_STYLE: dict[Any, Any] = {
    "font.size": FONT,
    "font.family": "DejaVu Sans",  # matplotlib's own, the same on every machine
    **dict.fromkeys(("axes.titlesize", "axes.labelsize", "legend.fontsize"), FONT),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), FONT - 0.5),
    **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.5),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size", "xtick.major.pad", "ytick.major.pad"), 2),
    "axes.labelpad": 2,
    "axes.formatter.useoffset": False,  # 32.2511, not 0.0002 below "+3.2251e1"
    "lines.linewidth": 1.0,
    "pdf.fonttype": 42,  # journals refuse Type 3
    "svg.hashsalt": "rgt",  # the same file every time
    "text.parse_math": False,  # a $ in a label is a $
}


def check_figure(output: Path, inputs: Iterable[Path], *, width: float, overwrite: bool) -> None:
    """Raise UserError if matplotlib is missing, UsageError for an invalid width (cm), suffix or place of the output."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("figures are drawn with matplotlib, which is not installed; pip install 'rgt-arch[figures]'")
    if not _WIDTHS[0] <= width <= _WIDTHS[1]:
        raise UsageError(f"--width {width:g}: must be from {_WIDTHS[0]:g} to {_WIDTHS[1]:g} cm")
    if output.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"--output {output}: the suffix selects the format, and must be one of {', '.join(_SUFFIXES)}")
    check_output("--output", output, inputs, overwrite=overwrite)


def read_rgb(path: Path) -> RGB:
    """Read a picture file as (H, W, 3) uint8: 16 bits are rounded, grey is repeated, alpha is blended over white.

    Raises a one-line UsageError for files that cannot be read.
    """
    try:
        picture = read_picture(path)
    except UserError as error:
        raise UsageError(str(error)) from error
    pixels = rounded(picture.pixels)
    if picture.has_alpha:
        pixels = on_white(pixels)
    return np.ascontiguousarray(np.broadcast_to(pixels[..., None], (*pixels.shape, 3)) if pixels.ndim == 2 else pixels)


@contextmanager
def style() -> Iterator[None]:
    """Within this context matplotlib draws for print; create and save figures inside it."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # the font may lack a character of a file's name: it is drawn as a box
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from")
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure; sizes in cm."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / _CM, height / _CM), dpi=_DOTS_PER_INCH, facecolor="white", layout="constrained")


def plain(axes: Any, colour: str | None = None) -> None:
    """Remove the ticks and the frame; with a colour, draw the frame in it."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=colour is not None, color=colour or "none", linewidth=1.2)


def write_figure(figure: Figure, path: Path) -> None:
    """Write whole or not at all, undated, so that equal figures are equal files. Raises UserError if the disk fails."""
    kind = path.suffix.lower().removeprefix(".")
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind, {})
    with written_whole(path) as beside:
        figure.savefig(beside, format=kind, metadata={**dates})
