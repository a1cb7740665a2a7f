"""Methods of a table: published networks by name, weights files, bicubic, and folders of super-resolved images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.errors import UsageError, UserError
from rgt_arch.evaluation.tables.images import MissingError
from rgt_arch.evaluation.tables.results import SCALES
from rgt_arch.files import file_digest
from rgt_arch.weights.inspecting import infer_config, is_derived
from rgt_arch.weights.reading import read_checkpoint
from rgt_arch.weights.zoo import ZOO, fetch, find_entry, plain_name, resolve_path

_LONGEST_LABEL = 100
Kind = Literal["bicubic", "images", "network", "weights"]


@dataclass(frozen=True)
class Method:
    """A row of the table as asked for; its weights or images may be missing."""

    label: str
    kind: Kind
    """`network`: published weights, `source` a key of `PRESETS`, or of `ZOO` where `one_scale`; `weights`: a file."""
    source: str = ""
    self_ensemble: bool = False
    scales: tuple[int, ...] = SCALES
    """The scales that it has."""
    one_scale: bool = False
    """Whether it has this scale only: a file, or a name with a scale."""


@dataclass(frozen=True)
class Runnable:
    """A method at one scale, ready to run: `network_g` of BasicSR's options, its weights, and its identity."""

    network: dict[str, Any]
    weights: Path | None = None
    self_ensemble: bool = False
    grey_as_it_is: bool = False
    """Whether grey images are measured on their grey, which is MATLAB's way; BasicSR's is Y of three equal channels."""
    parameters: int = 10_000
    """Of the network; for other methods a number that stands for the time of an image, which the metrics take."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Everything that decides the scores, ready for JSON."""


def read_methods(texts: Sequence[str]) -> list[Method]:
    """The methods that these words name. Raises UsageError for unknown ones and for two of one name and scale."""
    methods = [_read_method(text) for text in texts]
    for method, other in combinations(methods, 2):
        both_of_one = method.one_scale and other.one_scale
        if method.label == other.label and not (both_of_one and method.scales != other.scales):
            raise UsageError(
                f"{method.label}: two methods have this name; give them names of their own, as in MINE=net_g_5000.pth"
            )
    return methods


def runnable(method: Method, scale: int) -> Runnable:
    """The method at a scale. Raises MissingError for missing weights, UsageError for unfit files."""
    if method.kind == "bicubic":
        return Runnable({"type": "MatlabBicubic", "scale": scale}, grey_as_it_is=True, facts={"method": "bicubic"})
    if method.kind == "images":
        return Runnable({"type": "GivenImages"}, facts={"method": "images"})
    if method.kind == "weights":
        return _from_file(Path(method.source), method.self_ensemble)
    entry = next(
        (e for e in ZOO.values() if e.scale == scale and method.source == (e.name if method.one_scale else e.preset)),
        None,
    )
    if entry is None:
        raise MissingError(f"{method.source} ×{scale}: there are no weights of that name (names: {', '.join(ZOO)})")
    try:
        return _from_file(fetch(entry), method.self_ensemble)
    except UserError as error:
        raise MissingError(str(error)) from error


def _read_method(text: str) -> Method:
    label, named, source = text.partition("=")
    if not named or os.path.exists(text):  # the method of Path fails for names that are too long
        label, source = "", text
    if not source.strip("+ ") or len(label) > _LONGEST_LABEL or not label.isprintable():
        raise UsageError(
            f"{text!r}: is no method; give a network's name, a file or a folder, or NAME=METHOD with a name of one line"
            f" and at most {_LONGEST_LABEL} characters"
        )
    if source.casefold() in ("bicubic", "bicubic+"):
        if source.endswith("+"):
            raise UsageError(f"{text}: bicubic has no self-ensemble; take bicubic")
        return Method(label or "bicubic", "bicubic")
    path = Path(source).expanduser()
    if os.path.isdir(path):
        return Method(label or path.resolve().name, "images", str(path))
    ensemble = source.endswith("+") and not os.path.exists(path)
    source = source.removesuffix("+") if ensemble else source
    plus = "+" if ensemble else ""
    preset = next((name for name in PRESETS if plain_name(name) == plain_name(source)), None)
    path, entry = Path(source).expanduser(), find_entry(source)
    if preset and not os.path.exists(path):
        scales = tuple(entry.scale for entry in ZOO.values() if entry.preset == preset)
        return Method(label or preset + plus, "network", preset, ensemble, scales)
    if entry and not os.path.exists(path):
        return Method(label or entry.preset + plus, "network", entry.name, ensemble, (entry.scale,), one_scale=True)
    if not path.suffix and not os.path.exists(path):
        raise UsageError(
            f"{source}: no such file or folder, and no method of that name; take bicubic, "
            f"{', '.join(name.replace('-', '_') for name in PRESETS)} (with + for self-ensemble), a weights file, or a "
            "folder of super-resolved images"
        )
    try:
        path = resolve_path(path)
    except OSError as error:
        raise UsageError(f"{source}: cannot be read: {error.strerror or error}") from error
    scales = (_config(path)["upscale"],)
    return Method(label or path.stem + plus, "weights", str(path), ensemble, scales, one_scale=True)


def _from_file(path: Path, self_ensemble: bool) -> Runnable:
    weights, network = read_checkpoint(path).state_dict(), {"type": "RGT", **_config(path)}
    return Runnable(
        network,
        path,
        self_ensemble,
        parameters=sum(tensor.numel() for key, tensor in weights.items() if not is_derived(key)),
        # the network too: the rules that infer it are not part of the file
        facts={
            "method": "network",
            "network": network,
            "weights": file_digest(path),
            "self_ensemble": self_ensemble,
        },
    )


def _config(path: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(path)
    try:
        return infer_config(checkpoint.state_dict(), checkpoint.config)
    except UsageError as error:
        raise error if str(error).startswith(str(path)) else UsageError(f"{path}: {error}") from error
