"""Methods of a table (networks, bicubic, folders of super-resolved images), and the images of the sets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.data.images import header_size
from rgt_arch.data.inspect.pairs import header_faults
from rgt_arch.data.pairing import Pair, PairingError, guess_template, list_images, pairs_from_folders
from rgt_arch.errors import UsageError, UserError, naming, printable
from rgt_arch.evaluation.tables.results import SCALES
from rgt_arch.weights.inspecting import infer_config
from rgt_arch.weights.reading import read_checkpoint
from rgt_arch.weights.zoo import ZOO, ZooEntry, fetch, plain_name, resolve_path

SSIM_WINDOW = 11
_DATA_SETS = "https://github.com/zhengchen1999/RGT"


class MissingError(Exception):
    """Missing weights or images; the message names them and how to get them."""


@dataclass(frozen=True)
class Method:
    """A row of the table as asked for; its weights or images may be missing."""

    label: str
    kind: Literal["bicubic", "images", "weights"]
    source: str
    """A name, a file or a folder."""
    weights: Mapping[int, ZooEntry | Path] = field(default_factory=dict)
    """By scale: published weights or a file."""
    self_ensemble: bool = False
    one_scale: bool = False
    """Whether its name fixes the scale: a file, or a name such as RGT_x4."""

    @property
    def scales(self) -> tuple[int, ...]:
        """All scales of the method."""
        return tuple(self.weights) or SCALES


@dataclass(frozen=True)
class Runnable:
    """A method at one scale, ready to run: its kind or `network_g` of BasicSR's options, and its weights."""

    network: dict[str, Any]
    weights: Path | None = None
    self_ensemble: bool = False


def read_methods(texts: Sequence[str]) -> list[Method]:
    """Read methods from texts. Raises UsageError for unknown methods and for two of the same name and scale."""
    methods = [_read_method(text) for text in texts]
    for method, other in combinations(methods, 2):
        apart = method.one_scale and other.one_scale and method.scales != other.scales
        if method.label == other.label and not apart:
            raise UsageError(
                f"{method.label}: two methods have this name; give them names of their own, as in MINE=net_g_5000.pth"
            )
    return methods


def _read_method(text: str) -> Method:
    label, named, source = text.partition("=")
    if not named or os.path.exists(text):  # Path.exists fails for names that are too long
        label, source = "", text
    label, path = printable(label), Path(source).expanduser()
    if source.casefold() == "bicubic":
        return Method(label or "bicubic", "bicubic", source)
    if source and os.path.isdir(path):
        return Method(label or path.resolve().name, "images", str(path))
    ensemble = source.endswith("+") and not os.path.exists(path)
    name, plus = (source[:-1], "+") if ensemble else (source, "")
    path = Path(name).expanduser()
    if not (name and os.path.exists(path)):
        entries = [e for e in ZOO.values() if plain_name(name) in (plain_name(e.name), plain_name(e.method))]
        if entries:
            one_scale = plain_name(name) == plain_name(entries[0].name)
            source = entries[0].name if one_scale else entries[0].method
            weights = {entry.scale: entry for entry in entries}
            return Method(label or entries[0].method + plus, "weights", source, weights, ensemble, one_scale)
        if not path.suffix:
            raise UsageError(
                f"{source!r}: no such file or folder, and no method of that name; take bicubic, "
                f"{', '.join(name.replace('-', '_') for name in PRESETS)} (with + for self-ensemble), a weights file, "
                "or a folder of super-resolved images"
            )
    path = resolve_path(path)
    return Method(label or path.stem + plus, "weights", str(path), {_config(path)["upscale"]: path}, ensemble, True)


def runnable(method: Method, scale: int) -> Runnable:
    """Return the method at a scale. Raises MissingError for missing weights, UsageError for invalid files."""
    if method.kind != "weights":
        return Runnable({"type": method.kind})
    weights = method.weights.get(scale)
    if weights is None:
        raise MissingError(f"{method.source} ×{scale}: there are no weights of that name (names: {', '.join(ZOO)})")
    try:
        path = fetch(weights) if isinstance(weights, ZooEntry) else weights
    except UserError as error:
        raise MissingError(str(error)) from error
    return Runnable({"type": "RGT", **_config(path)}, path, method.self_ensemble)


def _config(path: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(path)
    state_dict = checkpoint.state_dict()  # its errors name the file
    with naming(path):
        return infer_config(state_dict, checkpoint.config)


# --- images ---


@dataclass(frozen=True)
class Images:
    """HR images and the images beside them, LQ: LR, or results of the same size."""

    pairs: tuple[Pair, ...]
    """Sorted by name."""
    grey: frozenset[str]
    """Names of the pairs whose HR has one channel, such as Set14's bridge."""

    def shown(self, name: str) -> str:
        """Return the name of a pair in the table: without suffix, unless another pair would have the same name."""
        stem = Path(name).stem
        return stem if sum(Path(pair.name).stem == stem for pair in self.pairs) == 1 else name


def find_images(data: Path, benchmark: str, scale: int, results: Path | None = None) -> Images:
    """Find the images of a set in the benchmarks' layout: Set5/HR/baby.png, Set5/LR_bicubic/X2/babyx2.png.

    LR names may have any other ending, such as Manga109's `_LRBI_x2`. results: a folder of super-resolved images, used
    instead of LR. Raises MissingError for folders that are missing or empty, UsageError for names or sizes that do not
    match.
    """
    hr, lq = data / benchmark / "HR", data / benchmark / "LR_bicubic" / f"X{scale}"
    remedy = f"make them with `rgt prepare lr {hr} --scale {scale}`"
    if not _has_images(hr):
        raise MissingError(
            f"{hr}: there are no images; get the testing data sets that {_DATA_SETS} links to, and unpack them so that "
            f"they lie there, or name another folder with --data"
        )
    if results is not None:
        places = [*_places(results, benchmark, scale), results / "visualization" / benchmark, results / benchmark]
        lq, remedy = next(filter(_has_images, places), places[0]), "put the super-resolved ones there"
    if not _has_images(lq):
        raise MissingError(f"{lq}: there are no images; {remedy}")
    names_hr, names_lq = list_images(hr), list_images(lq)
    template = guess_template(names_hr, names_lq) or f"{{}}x{scale}"
    try:
        pairs = pairs_from_folders(names_hr, names_lq, hr, lq, template)
    except PairingError as error:
        raise UsageError(f"{lq}: {error}") from error
    for _, message in header_faults(pairs, scale, exact=False) if results is None else ():
        raise UsageError(f"{lq}: {message}")
    for pair in pairs:
        height, width = (side - side % scale for side in header_size(pair.gt))
        if min(height, width) < SSIM_WINDOW + 2 * scale:
            raise UsageError(f"{pair.gt}: has {width}×{height} pixels at ×{scale}; too small for SSIM; remove it")
        if results is not None and (size := header_size(pair.lq)) != (height, width):
            raise UsageError(
                f"{pair.lq}: has {size[1]}×{size[0]} pixels, but HR cut to a multiple of {scale} has "
                f"{width}×{height}; give the results for ×{scale} of this set"
            )
    return Images(tuple(pairs), frozenset(pair.name for pair in pairs if _is_grey(pair.gt)))


def scales_of(folder: Path, benchmarks: Sequence[str], scales: Sequence[int]) -> list[int]:
    """Return the scales for which there is a sub-folder of super-resolved images."""
    return [s for s in scales if any(_has_images(place) for name in benchmarks for place in _places(folder, name, s))]


def _places(folder: Path, benchmark: str, scale: int) -> list[Path]:
    names = (f"x{scale}", f"X{scale}")
    return [folder / benchmark / name for name in names] + [folder / name / benchmark for name in names]


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and bool(list_images(folder))


def _is_grey(file: Path) -> bool:
    with suppress(OSError), Image.open(file) as image:
        return image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    return False
