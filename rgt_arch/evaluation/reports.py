"""Tables of results in every format, and reports that go to stdout or a file."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rgt_arch.files import write_text

ABSENT = "–"
_TEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "×": "$\\times$", "−": "$-$",
       "±": "$\\pm$", "–": "--", "∞": "$\\infty$"}
)  # fmt: skip


@dataclass(frozen=True)
class ResultTable:
    """A table for people, as Markdown and LaTeX, and its numbers in full, as CSV and JSON."""

    head: Sequence[tuple[str, str]]
    """Heading of a group of columns, or "", and heading of the column."""
    rows: Sequence[Sequence[str]]
    """A row whose first cell is not empty begins a group."""
    left: int
    """Number of columns aligned to the left, from the first."""
    remarks: Sequence[str]
    records: Mapping[str, Sequence[Mapping[str, object]]]
    """CSV rows by format name."""
    content: object
    """Content of the JSON."""

    def text(self, form: str) -> str:
        """Return the table as `markdown`, `latex`, `json`, or one of `records`."""
        if form == "json":
            return json_text(self.content)
        if form in ("markdown", "latex"):
            return self._markdown() if form == "markdown" else self._latex()
        file = io.StringIO()
        writer = csv.DictWriter(file, list(self.records[form][0]) if self.records[form] else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records[form])
        return file.getvalue()

    def _markdown(self) -> str:
        lines = [[" ".join(filter(None, names)) for names in self.head]]
        lines += [[":--" if number < self.left else "--:" for number in range(len(self.head))]]
        lines += [[cell.replace("|", "\\|") for cell in row] for row in self.rows]
        table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
        return table + "\n" + "".join(f"- {remark}\n" for remark in self.remarks)

    def _latex(self) -> str:
        """A tabular for the package booktabs; the remarks are comments above it."""
        groups = [(name.translate(_TEX), len(list(columns))) for name, columns in groupby(n for n, _ in self.head)]
        spans = [f"\\multicolumn{{{count}}}{{c}}{{{name}}}" if name else " & " * (count - 1) for name, count in groups]
        lines = [
            *(f"% {remark}" for remark in self.remarks),
            f"\\begin{{tabular}}{{{'l' * self.left}{'r' * (len(self.head) - self.left)}}}",
            "\\toprule",
            " & ".join(spans) + " \\\\",
            " & ".join(name.translate(_TEX) for _, name in self.head) + " \\\\",
        ]
        for row in self.rows:
            lines += ["\\midrule"] if row[0] else []
            lines.append(" & ".join(cell.translate(_TEX) for cell in row) + " \\\\")
        return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def number(value: float | None, digits: int, sign: str = "") -> str:
    """Format a number for tables. digits: decimals. sign: + shows the sign of positive numbers too."""
    if value is None or math.isinf(value):
        return ABSENT if value is None else "∞"
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a text table with the first column aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in (head, *rows)
    )


def json_text(content: object) -> str:
    """Return JSON, where NaN and infinity become null."""
    return json.dumps(_finite(content), indent=1, allow_nan=False) + "\n"


def deliver(report: dict[str, Any], text: str, target: str | None) -> None:
    """Print the text, and write the report as JSON to the file `target`; with - print the JSON instead."""
    if target == "-":
        print(json_text(report), end="")
        return
    if target is not None:  # first, because stdout may be closed
        write_text(json_text(report), Path(target))
    print(text)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
