"""What the figures for papers share: matplotlib when it is there, size, fonts, colours, and files written whole."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgt_arch.errors import UsageError, UserError
from rgt_arch.files import check_output, written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN = 8.5
"""Width of a journal's column in cm."""
WIDTHS = (5.0, 40.0)
SUFFIXES = (".png", ".pdf", ".svg")
# The Okabe-Ito palette, which is told apart with every kind of colour blindness; its yellow is too light for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
FONT = 6.5
_DOTS_PER_INCH = 600  # what journals ask for where lines and pictures meet
_CM = 2.54
_STYLE: dict[Any, Any] = {
    "font.size": FONT,
    "font.family": "DejaVu Sans",  # matplotlib's own, the same on every machine
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "legend.fontsize": FONT,
    "xtick.labelsize": FONT - 0.5,
    "ytick.labelsize": FONT - 0.5,
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "axes.labelpad": 2,
    "lines.linewidth": 1.0,
    "pdf.fonttype": 42,  # journals refuse Type 3
    "svg.hashsalt": "rgt",  # the same file every time
    "text.parse_math": False,  # a $ in a label is a $
}
_NO_GLYPH = re.compile(r"Glyph \d+ .*missing from")


def require_matplotlib() -> None:
    """Raises UserError where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("figures are drawn with matplotlib, which is not installed; pip install 'rgt-arch[figures]'")


def check_figure(path: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """`files.check_output` for a figure, whose suffix says the format."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--output {path}: the suffix says the format, and must be one of {', '.join(SUFFIXES)}")
    check_output("--output", path, inputs, overwrite=overwrite)


def check_width(width: float) -> None:
    """Raises UsageError for a width in cm that no figure can have."""
    if not WIDTHS[0] <= width <= WIDTHS[1]:
        raise UsageError(f"--width {width:g}: must be from {WIDTHS[0]:g} to {WIDTHS[1]:g} cm")


@contextmanager
def style() -> Iterator[None]:
    """Within this context matplotlib draws for print; figures are to be made and saved in it."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", _NO_GLYPH.pattern)  # a sign of a file's name that the font lacks is a box
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure; sizes in cm."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / _CM, height / _CM), dpi=_DOTS_PER_INCH, facecolor="white", layout="constrained")


def plain(axes: Any, colour: str | None = None) -> None:
    """Take ticks and frame away, as around a picture, or leave a frame in a colour."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=colour is not None, color=colour or "none", linewidth=1.2)


def write_figure(figure: Figure, path: Path) -> None:
    """Write in the format of the suffix, whole or not at all, without a date, so that the same figure is the same
    file. Raises UserError if the disk refuses."""
    kind = path.suffix.lower().removeprefix(".")
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind, {})
    with written_whole(path) as beside:
        figure.savefig(beside, format=kind, metadata={**dates})
