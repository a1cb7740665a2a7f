"""The reference of option-file keys, as Markdown, made from the tables that validation uses."""

from __future__ import annotations

from collections.abc import Mapping

from rgt_arch.config import tables
from rgt_arch.config.schema import Key


def describe_options() -> str:
    """All keys of option files that the tables know, by section, as Markdown tables.

    Arguments of networks, losses, metrics, optimisers and schedulers are not listed: they are those of the classes.
    """
    blocks = [_block("Top level", tables.TOP)]
    for name, table in tables.DATASETS.items():
        blocks.append(_block(f"`datasets:*` of type {name}", table))
    blocks.append(_block("`datasets:*` of every type", tables.DATASET))
    for model, parts in tables.MODELS.items():
        for part, table in parts.items():
            if table:
                blocks.append(_block(f"{f'`{part}`' if part else 'Top level'}, read by {model}", table))
    for title, table in (
        ("`val:tile`, read by RGTModel", tables.TILE),
        ("`logger`", tables.LOGGER),
        ("`logger:wandb`", tables.WANDB),
        ("`dist_params`", tables.DIST_PARAMS),
    ):
        blocks.append(_block(title, table))
    return "\n".join(blocks)


def _block(title: str, keys: Mapping[str, Key]) -> str:
    rows = [f"| `{name}` | {_values(key)} | {key.required or ''} | {key.text} |" for name, key in keys.items()]
    return "\n".join([f"### {title}", "", "| key | takes | needed | what for |", "|---|---|---|---|", *rows, ""])


def _values(key: Key) -> str:
    text = ", ".join(key.choices) or key.kind
    if key.low is not None and key.high is not None:
        text += f" {key.low:g} to {key.high:g}"
    elif key.low is not None and key.low > 1e-3:
        text += f" ≥ {key.low:g}"
    return f"{text}, `~`" if key.nullable else text
