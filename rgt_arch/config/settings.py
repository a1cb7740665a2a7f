"""Sections of options as typed objects: their keys, and reading them from options, validated or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from rgt_arch.config.loading import KeyPath, value_at
from rgt_arch.config.problems import key_name, short
from rgt_arch.config.schema import Key, WrongValueError, all_keys, convert, key, rgt_key
from rgt_arch.errors import UsageError

S = TypeVar("S")


@dataclass(frozen=True)
class TrainSettings:
    """The keys of `train` that our loop reads, and those that RGTModel adds to BasicSR's."""

    nan_patience: int = key(
        "steps in a row with a loss or gradient that is not finite that end the run", low=1, default=10
    )
    init: Literal["interpolation"] | None = rgt_key("weights to start from: interpolation, or random")
    amp: Literal["auto", "bf16", "fp16"] | None = rgt_key("mixed precision; auto: bf16 where the device has it")
    grad_clip: float | None = rgt_key("largest norm of the gradient", above=0)
    accumulate: int = rgt_key(
        "micro-batches per optimiser step, into which each loader batch is split", low=1, default=1
    )


SMALLEST_TILE = 16
"""Side of the smallest tile in pixels: RGT's windows and its recursive summaries cover 16."""


def default_overlap(size: int) -> int:
    """Return the default overlap of tiles of this size, in pixels."""
    return min(32, largest_overlap(size))


def largest_overlap(size: int) -> int:
    """Return half a tile, so that no pixel lies in more than two tiles of a row."""
    return size // 2


@dataclass(frozen=True)
class Tile:
    """`val:tile`: the tiles of validation, in LR pixels."""

    size: int = key("side of a tile in LR pixels, overlap included", "always", low=SMALLEST_TILE, example="256")
    overlap: int = key("pixels shared by neighbours, in LR pixels; left out: 32, at most half a tile", low=0)


@dataclass(frozen=True)
class ValSettings:
    """The keys of `val`."""

    val_freq: int = key("validate every N steps", "train", low=1, example="5000", default=0)
    save_img: bool = key("write the images", "always", example="false", default=False)
    suffix: str | None = key("ending of image names in a test; ~ is the name of the run")
    pbar: bool = key("show a progress bar", default=False)
    metrics: dict | None = key("metrics by any name: type, then their arguments")
    use_chop: bool = rgt_key("the official code's fixed 200-pixel pieces (tile is better)", default=False)
    tile: Tile | None = rgt_key("{size, overlap} in LR pixels: tiles with blended seams, for little memory")
    self_ensemble: bool = rgt_key("average over the 8 flips and rotations (RGT+)", default=False)


@dataclass(frozen=True)
class LoggerSettings:
    """The keys of `logger`."""

    print_freq: int = key("log every N steps", "train", low=1, example="100", default=0)
    save_checkpoint_freq: int = key("save every N steps", "train", low=1, example="5000", default=0)
    use_tb_logger: bool = key("write TensorBoard files; left out: true if tensorboard is installed", default=True)
    csv: bool = key("write losses and validation metrics to experiments/NAME/metrics.csv, a value a row", default=False)
    wandb: dict | None = key("Weights & Biases; needs use_tb_logger: true")
    keep_checkpoints: int | None = key("how many checkpoints to keep, the newest; ~ is all", low=1)
    keep_best: str | None = rgt_key(
        "a metric of val:metrics: the best weights on the first val data set are net_g_best.pth"
    )


def train_settings(opt: Mapping[str, Any]) -> TrainSettings:
    """Read RGTModel's own keys of `train`. Raises UsageError with key and value."""
    return _read(TrainSettings, opt, ("train",))


def val_settings(opt: Mapping[str, Any]) -> ValSettings:
    """Read `val` for RGTModel. Raises UsageError with key and value."""
    val = _read(ValSettings, opt, ("val",))
    if val.tile is None:
        return val
    tile = _read(Tile, opt, ("val", "tile"))
    if tile.size is None:
        raise UsageError("val:tile:size is missing; add size: 256")
    tile = replace(tile, overlap=default_overlap(tile.size) if tile.overlap is None else tile.overlap)
    for path, problem, value in tile_problems(tile.size, tile.overlap, val.use_chop):
        raise UsageError(f"{key_name(path)} = {value}: {problem}")
    return replace(val, tile=tile)


def logger_settings(opt: Mapping[str, Any]) -> LoggerSettings:
    """Read `logger` for RGTModel. Raises UsageError with key and value."""
    return _read(LoggerSettings, opt, ("logger",))


def tile_problems(size: int, overlap: int, use_chop: bool) -> Iterator[tuple[KeyPath, str, Any]]:
    """Yield contradictions between tile keys of `val`: the key, the problem with its remedy, and the value."""
    if overlap > largest_overlap(size):
        other = f", or overlap {size // 8}" if size >= SMALLEST_TILE else ""
        text = f"is over half of size {size}; take size {max(2 * overlap, SMALLEST_TILE)} or more{other}"
        yield ("val", "tile", "overlap"), text, overlap
    if use_chop:
        yield ("val", "use_chop"), "cannot go with val:tile; remove one (tile has no seams)", True


def read_keys(keys: Mapping[str, Key], opt: Mapping[str, Any], path: KeyPath = ()) -> dict[str, Any]:
    """Return the values of the keys that the section at `path` has. Raises UsageError with key and value."""
    section, values = value_at(opt, path), {}
    for name, spec in keys.items():
        if isinstance(section, Mapping) and name in section:
            try:
                values[name] = convert(spec, section[name])
            except WrongValueError as error:
                raise UsageError(f"{key_name((*path, name))} = {short(section[name])}: {error}") from error
    return values


def _read(settings: type[S], opt: Mapping[str, Any], path: KeyPath) -> S:
    """Read a section as an object; missing keys get their defaults."""
    return settings(**read_keys(all_keys(settings), opt, path))
