"""Tables of text, Markdown and CSV, and reports that go to stdout or a file."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rgt_arch.files import written_whole


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A text table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in (head, *rows)
    )


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int, remarks: Iterable[str]) -> str:
    """A Markdown table with a list of remarks below; the first `left` columns are aligned to the left."""
    lines = [head, [":--" if number < left else "--:" for number in range(len(head))]]
    lines += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    return table + "\n" + "".join(f"- {remark}\n" for remark in remarks)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV, numbers in full."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def json_text(content: object) -> str:
    """JSON, which has no NaN and no infinity: they become null."""
    return json.dumps(_finite(content), indent=1, allow_nan=False) + "\n"


def deliver(report: dict[str, Any], text: str, target: str | None) -> None:
    """Print the text; write the report as JSON to a file too, or with - to stdout in place of the text."""
    if target == "-":
        print(json_text(report), end="")
        return
    if target is not None:  # first, because stdout may be closed
        with written_whole(Path(target)) as beside:
            beside.write_text(json_text(report), encoding="utf-8")
    print(text)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
