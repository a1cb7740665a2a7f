"""How measurements are told: what they were taken on, tables, and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rgt_arch.evaluation.machine import describe_machine
from rgt_arch.evaluation.speed.settings import DTYPES, SpeedSettings
from rgt_arch.files import written_whole

_ALLOCATORS = ("tcmalloc", "jemalloc", "mimalloc")


def allocator() -> str:
    """The allocator that LD_PRELOAD puts in the system's place: temporaries cost much less under a caching one."""
    preloaded = os.environ.get("LD_PRELOAD", "")
    return next((name for name in _ALLOCATORS if name in preloaded), "the system's")


def conditions_of(settings: SpeedSettings) -> dict[str, Any]:
    """What figures were taken on and under, for JSON."""
    return {
        "machine": describe_machine(settings.torch_device()),
        "allocator": allocator(),
        "network": settings.describe(),
        "settings": asdict(settings),
    }


def heading(facts: dict[str, Any], *notes: str) -> str:
    """`conditions_of` and further lines, as they stand above a table."""
    lines = [facts["machine"]]
    if facts["allocator"] != "the system's":
        lines.append(f"memory allocator: {facts['allocator']} (LD_PRELOAD)")
    return "\n".join([*lines, f"{facts['network']}, {'; '.join(notes)}"])


def variant_name(maker: str, dtype: str) -> str:
    """A row's name, such as "ours bfloat16"."""
    return f"{maker} {DTYPES[dtype]}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A text table: the first column to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if number else cell.ljust(width) for number, (cell, width) in enumerate(zipped))
        for zipped in (list(zip(row, widths, strict=True)) for row in (head, *rows))
    )


def ratio(value: float | None, digits: int = 2) -> str:
    """A ratio as a table shows it."""
    return "–" if value is None else f"{value:.{digits}f}"


def deliver(report: dict[str, Any], text: str, target: str | None) -> None:
    """Print the text; write the report as JSON to a file, or with - to stdout in place of the text."""
    document = json.dumps(report, indent=2) + "\n"
    if target == "-":
        print(document, end="")
        return
    if target is not None:  # first, for who reads stdout may have closed it
        with written_whole(Path(target)) as beside:
            beside.write_text(document, encoding="utf-8")
    print(text)
