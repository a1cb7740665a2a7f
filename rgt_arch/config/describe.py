"""The reference of option-file keys, as Markdown, made from the tables that validation uses."""

from __future__ import annotations

from rgt_arch.config.schema import Key, limits
from rgt_arch.config.tables import ANY_DATASET, TABLES, Table


def describe_options() -> str:
    """All keys of option files that the tables know, as Markdown tables.

    Arguments of networks, losses, metrics, optimisers and schedulers are not among them: see their classes.
    """
    return "\n".join(_block(table) for table in TABLES)


def table_title(table: Table) -> str:
    """The heading of a table: its section, and the class that reads it."""
    section = f"`{':'.join(table.path)}`" if table.path else "Top level"
    if table.path[:1] == ANY_DATASET[:1]:
        every = " of every type" if table.path == ANY_DATASET else ""
        return section + (f" of type {table.owner}" if table.owner else every)
    return section + (f", read by {table.owner}" if table.owner else "")


def _block(table: Table) -> str:
    rows = [f"| `{name}` | {_values(key)} | {_needed(key)} | {key.text} |" for name, key in table.keys.items()]
    head = [f"### {table_title(table)}", "", "| key | takes | needed, or default | what for |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def _needed(key: Key) -> str:
    default = str(key.default).lower() if isinstance(key.default, bool) else key.default
    return key.required or ("" if default is None else str(default))


def _values(key: Key) -> str:
    text = ", ".join(key.choices)
    if not text or key.kind == "names":
        text = f"{key.kind}: {text}" if text else key.kind
    if key.count is not None:
        text = f"{key.count} {text}"
    if key.low is not None and key.high is None:
        text += f" ≥ {key.low:g}"
    elif limits(key):
        text += f" {limits(key).removeprefix('from ')}"
    return f"{text}, `~`" if key.nullable else text
