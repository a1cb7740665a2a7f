"""The reference of option-file keys, as Markdown, made from the tables that validation uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rgt_arch.config import tables
from rgt_arch.config.loading import KeyPath
from rgt_arch.config.schema import Key, limits


class Table(NamedTuple):
    """Keys of one section, as one class reads them."""

    title: str
    path: KeyPath
    """The section; "*" stands for any data set."""
    owner: str
    """The model, data set or backend that must be named for the keys to be read; "" for keys that are always read."""
    keys: Mapping[str, Key]


def documented_tables() -> list[Table]:
    """All keys of option files that the tables know.

    Arguments of networks, losses, metrics, optimisers and schedulers are not among them: they are those of the classes.
    """
    found = [Table("Top level", (), "", tables.TOP)]
    for name, keys in tables.DATASETS.items():
        found.append(Table(f"`datasets:*` of type {name}", ("datasets", "*"), name, keys))
    found.append(Table("`datasets:*` of every type", ("datasets", "*"), "", tables.DATASET))
    backend = ("datasets", "*", "io_backend")
    found += [
        Table("`datasets:*:io_backend`", backend, "", tables.IO_BACKEND),
        Table("`datasets:*:io_backend` of type lmdb", backend, "lmdb", tables.IO_BACKEND_LMDB),
        Table("`datasets:*:io_backend` of type memcached", backend, "memcached", tables.IO_BACKEND_MEMCACHED),
    ]
    for model, parts in tables.MODELS.items():
        for part, keys in parts.items():
            title = f"{f'`{part}`' if part else 'Top level'}, read by {model}"
            found.append(Table(title, (part,) if part else (), model, keys))
    found += [
        Table("`val:tile`, read by RGTModel", ("val", "tile"), "RGTModel", tables.TILE),
        Table("`logger`", ("logger",), "", tables.LOGGER),
        Table("`logger:wandb`", ("logger", "wandb"), "", tables.WANDB),
        Table("`dist_params`", ("dist_params",), "", tables.DIST_PARAMS),
    ]
    return [table for table in found if table.keys]


def describe_options() -> str:
    """`documented_tables` as Markdown tables."""
    return "\n".join(_block(table.title, table.keys) for table in documented_tables())


def _block(title: str, keys: Mapping[str, Key]) -> str:
    rows = [f"| `{name}` | {_values(key)} | {key.required or ''} | {key.text} |" for name, key in keys.items()]
    return "\n".join([f"### {title}", "", "| key | takes | needed | what for |", "|---|---|---|---|", *rows, ""])


def _values(key: Key) -> str:
    text = ", ".join(key.choices)
    if not text or key.kind == "names":
        text = f"{key.kind}: {text}" if text else key.kind
    if key.count is not None:
        text = f"{key.count} {text}"
    if key.low is not None and key.high is not None:
        text += f" {limits(key).removeprefix('from ')}"
    elif key.low is not None and key.low > 1e-3:
        text += f" ≥ {key.low:g}"
    return f"{text}, `~`" if key.nullable else text
