"""Sections of options as typed objects, for the code that runs on them; a host's own options are checked here too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from rgt_arch.config.loading import KeyPath
from rgt_arch.config.report import key_name, short, suggestion
from rgt_arch.config.schema import WrongValueError, all_keys, convert
from rgt_arch.config.tables import LoggerSettings, Tile, TrainSettings, ValSettings
from rgt_arch.config.tree import value_at
from rgt_arch.errors import UsageError

S = TypeVar("S")
CHOP_PROBLEM = "cannot go with val:tile; remove one (tile has no seams)"


def train_settings(opt: Mapping[str, Any]) -> TrainSettings:
    """`train`, as far as it is RGTModel's own. Raises UsageError naming the key and the value."""
    return _read(TrainSettings, opt, ("train",))


def val_settings(opt: Mapping[str, Any]) -> ValSettings:
    """`val`, as RGTModel reads it. Raises UsageError naming the key and the value."""
    settings = _read(ValSettings, opt, ("val",))
    if settings.tile and settings.use_chop:
        raise UsageError(f"val:use_chop = True: {CHOP_PROBLEM}")
    return settings


def logger_settings(opt: Mapping[str, Any]) -> LoggerSettings:
    """`logger`, as RGTModel reads it. Raises UsageError naming the key and the value."""
    return _read(LoggerSettings, opt, ("logger",))


def overlap_problem(size: int, overlap: int) -> str:
    """Why tiles of a size cannot share that many pixels, and the remedy; "" if they can."""
    if overlap <= size // 2:
        return ""
    least = int(all_keys(Tile)["size"].low or 0)
    other = f", or overlap {size // 8}" if size >= least else ""
    return f"is over half of size {size}; take size {max(2 * overlap, least)} or more{other}"


def _read(settings: type[S], opt: Mapping[str, Any], path: KeyPath) -> S:
    """A section as an object; a key that is left out gets its default."""
    section, values = value_at(opt, path), {}
    for name, spec in all_keys(settings).items():
        if isinstance(section, Mapping) and name in section:
            try:
                values[name] = convert(spec, section[name])
            except WrongValueError as error:
                raise UsageError(f"{key_name((*path, name))} = {short(section[name])}: {error}") from error
    if values.get("tile") is not None:
        values["tile"] = _tile(opt, ("val", "tile"))
    return settings(**values)


def _tile(opt: Mapping[str, Any], path: KeyPath) -> Tile:
    keys, tile = all_keys(Tile), _read(Tile, opt, path)
    for name in value_at(opt, path):
        if name not in keys:
            raise UsageError(f"{key_name((*path, name))} is an unknown key; {suggestion(name, keys)}")
    if tile.size is None:
        raise UsageError(f"val:tile:size is missing; add size: {keys['size'].example}")
    if tile.overlap is None:
        return Tile(tile.size, min(32, tile.size // 2))
    if problem := overlap_problem(tile.size, tile.overlap):
        raise UsageError(f"val:tile:overlap = {tile.overlap}: {problem}")
    return tile
