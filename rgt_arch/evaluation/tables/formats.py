"""A table as Markdown, LaTeX, CSV and JSON, in the layout of the paper's Table 2."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict

from rgt_arch.evaluation.reports import csv_text, json_text, markdown_table
from rgt_arch.evaluation.tables.results import Result, Score, Table, paper
from rgt_arch.evaluation.tables.store import software

_DASH = "–"
_TEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "×": "$\\times$", "−": "$-$",
       "–": "--", "∞": "$\\infty$"}
)  # fmt: skip


def as_markdown(table: Table) -> str:
    """Rows for measured, published and difference under each method and scale; below it what is missing, and notes."""
    columns = [f"{name} {metric}" for name in _sets(table) for metric in ("PSNR", "SSIM")]
    remarks = ["PSNR (dB) and SSIM on Y of YCbCr, border = scale; difference = measured − published.", *_remarks(table)]
    return markdown_table(["Method", "Scale", "", *columns], _rows(table), left=3, remarks=remarks)


def as_latex(table: Table) -> str:
    """A tabular for the package booktabs; what is missing and the notes are comments above it."""
    sets = _sets(table)
    header = " & ".join(f"\\multicolumn{{2}}{{c}}{{{name.translate(_TEX)}}}" for name in sets)
    lines = [
        *(f"% {remark}" for remark in _remarks(table)),
        f"\\begin{{tabular}}{{lll{'rr' * len(sets)}}}",
        "\\toprule",
        f"Method & Scale & & {header} \\\\",
        " & & " + " & PSNR & SSIM" * len(sets) + " \\\\",
    ]
    for row in _rows(table):
        lines += ["\\midrule"] if row[0] else []
        lines.append(" & ".join(cell.translate(_TEX) for cell in row) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def as_csv(table: Table) -> str:
    """A line for each method, scale and set, numbers in full."""
    columns = [f"{metric}{kind}" for kind in ("", "_published", "_difference") for metric in ("psnr", "ssim")]
    rows: list[list[object]] = [["method", "scale", "set", "images", *columns, "missing"]]
    for result in table.results:
        scores = [result.mean, result.published, result.difference]
        numbers = [number for score in scores for number in ((score.psnr, score.ssim) if score else ("", ""))]
        rows.append([result.method, result.scale, result.benchmark, len(result.images), *numbers, result.missing])
    return csv_text(rows)


def as_image_csv(table: Table) -> str:
    """A line for each image, numbers in full; a missing set has one line without an image."""
    rows: list[list[object]] = [["method", "scale", "set", "image", "psnr", "ssim", "missing"]]
    for result in table.results:
        start = [result.method, result.scale, result.benchmark]
        rows += [[*start, name, score.psnr, score.ssim, ""] for name, score in result.images.items()]
        rows += [[*start, "", "", "", result.missing]] if result.missing else []
    return csv_text(rows)


def as_json(table: Table) -> str:
    """Everything: means, images, published numbers and their source, versions. The PSNR of equal images is null."""
    results = [
        {
            "method": result.method,
            "scale": result.scale,
            "set": result.benchmark,
            "missing": result.missing or None,
            "measured": _plain(result.mean),
            "published": _plain(result.published),
            "difference": _plain(result.difference),
            "complete": result.complete and not result.missing,
            "images": {name: asdict(score) for name, score in result.images.items()},
        }
        for result in table.results
    ]
    published = {key: paper()[key] for key in ("source", "protocol")}
    return json_text({"published": published, "software": software(), "notes": table.notes, "results": results})


FORMATS: Mapping[str, Callable[[Table], str]] = {
    "markdown": as_markdown,
    "latex": as_latex,
    "csv": as_csv,
    "csv-images": as_image_csv,
    "json": as_json,
}


def _sets(table: Table) -> list[str]:
    return list(dict.fromkeys(result.benchmark for result in table.results))


def _rows(table: Table) -> list[list[str]]:
    """Method, scale and kind of row, then two cells for each set; method and scale are in their first row only."""
    groups: dict[tuple[str, int], list[Result]] = {}
    for result in table.results:
        groups.setdefault((result.method, result.scale), []).append(result)
    rows = []
    for (method, scale), results in groups.items():
        measured = [cell for result in results for cell in _cells(result.mean, "missing" if result.missing else _DASH)]
        rows.append([method, f"×{scale}", "measured", *measured])
        if any(result.published for result in results):
            rows.append(["", "", "published", *(cell for result in results for cell in _cells(result.published))])
            differences = [cell for result in results for cell in _cells(result.difference, sign="+")]
            rows.append(["", "", "difference", *differences])
    return rows


def _cells(score: Score | None, absent: str = _DASH, sign: str = "") -> tuple[str, str]:
    """PSNR with two digits and SSIM with four, as in the paper."""
    if score is None:
        return absent, absent
    psnr = "∞" if math.isinf(score.psnr) else f"{score.psnr:{sign}.2f}"
    return psnr.replace("-", "−"), f"{score.ssim:{sign}.4f}".replace("-", "−")


def _remarks(table: Table) -> list[str]:
    """The notes, then what is missing with how to get it: the same remedy once for all."""
    groups: dict[str, list[str]] = {}
    for result in table.missing:
        groups.setdefault(result.missing, []).append(f"{result.method} ×{result.scale} {result.benchmark}")
    return [*table.notes, *(f"Missing: {', '.join(dict.fromkeys(whats))}: {how}" for how, whats in groups.items())]


def _plain(score: Score | None) -> dict[str, float] | None:
    return asdict(score) if score else None
