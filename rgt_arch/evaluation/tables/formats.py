"""A table as Markdown, LaTeX, CSV and JSON, in the layout of the paper's Table 2."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict

from rgt_arch.evaluation.tables.results import Result, Score, Table, paper
from rgt_arch.evaluation.tables.store import software

_DASH = "–"


def as_markdown(table: Table) -> str:
    """Rows for measured, published and difference under each method and scale; below it what is missing, and notes."""
    sets = _sets(table)
    lines = [
        "| Method | Scale | |" + "".join(f" {name} PSNR | {name} SSIM |" for name in sets),
        "|:--|:--|:--|" + "--:|--:|" * len(sets),
    ]
    for method, scale, kind, cells in _rows(table):
        name = method.replace("|", "\\|")
        lines.append(f"| {name} | {scale} | {kind} | " + " | ".join(cells) + " |")
    remarks = [
        "PSNR (dB) and SSIM on Y of YCbCr, border = scale; difference = measured − published.",
        *table.notes,
        *(f"Missing: {what}: {how}" for what, how in _missing(table).items()),
    ]
    return "\n".join([*lines, "", *(f"- {remark}" for remark in remarks)]) + "\n"


def as_latex(table: Table) -> str:
    """A tabular for the package booktabs; what is missing and the notes are comments above it."""
    sets = _sets(table)
    header = " & ".join(f"\\multicolumn{{2}}{{c}}{{{_tex(name)}}}" for name in sets)
    lines = [f"% {remark}" for remark in table.notes]
    lines += [f"% Missing: {what}: {how}" for what, how in _missing(table).items()]
    lines += [
        f"\\begin{{tabular}}{{lll{'rr' * len(sets)}}}",
        "\\toprule",
        f"Method & Scale & & {header} \\\\",
        " & & " + " & PSNR & SSIM" * len(sets) + " \\\\",
    ]
    for method, scale, kind, cells in _rows(table):
        if kind == "measured":
            lines.append("\\midrule")
        lines.append(" & ".join(_tex(cell) for cell in (method, scale, kind, *cells)) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def as_csv(table: Table) -> str:
    """A line for each method, scale and set, numbers in full."""
    rows: list[list[object]] = []
    for result in table.results:
        scores = [result.mean, result.published, result.difference]
        numbers = [number for score in scores for number in ((score.psnr, score.ssim) if score else ("", ""))]
        rows.append([result.method, result.scale, result.benchmark, len(result.images), *numbers, result.missing])
    kinds = ("", "_published", "_difference")
    columns = [f"{metric}{kind}" for kind in kinds for metric in ("psnr", "ssim")]
    return _csv([["method", "scale", "set", "images", *columns, "missing"], *rows])


def as_image_csv(table: Table) -> str:
    """A line for each image, numbers in full; sets that are missing have one line without an image."""
    rows: list[list[object]] = [["method", "scale", "set", "image", "psnr", "ssim", "missing"]]
    for result in table.results:
        start = [result.method, result.scale, result.benchmark]
        rows += [[*start, name, score.psnr, score.ssim, ""] for name, score in result.images.items()]
        if result.missing:
            rows.append([*start, "", "", "", result.missing])
    return _csv(rows)


def as_json(table: Table) -> str:
    """Everything: means, images, published numbers and where they come from, versions."""
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
            "images": {name: _plain(score) for name, score in result.images.items()},
        }
        for result in table.results
    ]
    content = {"published": {key: paper()[key] for key in ("source", "protocol")}, "software": software()}
    return json.dumps({**content, "notes": table.notes, "results": results}, indent=1, allow_nan=False) + "\n"


FORMATS: Mapping[str, Callable[[Table], str]] = {
    "markdown": as_markdown,
    "latex": as_latex,
    "csv": as_csv,
    "csv-images": as_image_csv,
    "json": as_json,
}


def _sets(table: Table) -> list[str]:
    return list(dict.fromkeys(result.benchmark for result in table.results))


def _rows(table: Table) -> list[tuple[str, str, str, list[str]]]:
    """(method, scale, kind of row, two cells for each set); method and scale stand in the first row of theirs only."""
    groups: dict[tuple[str, int], list[Result]] = {}
    for result in table.results:
        groups.setdefault((result.method, result.scale), []).append(result)
    rows = []
    for (method, scale), results in groups.items():
        measured = [cell for result in results for cell in _cells(result.mean, "missing" if result.missing else _DASH)]
        rows.append((method, f"×{scale}", "measured", measured))
        if any(result.published for result in results):
            rows.append(("", "", "published", [cell for result in results for cell in _cells(result.published)]))
            rows.append(("", "", "difference", [c for result in results for c in _cells(result.difference, sign="+")]))
    return rows


def _cells(score: Score | None, absent: str = _DASH, sign: str = "") -> tuple[str, str]:
    """PSNR with two digits and SSIM with four, as the paper has them."""
    if score is None:
        return absent, absent
    psnr, ssim = f"{score.psnr:{sign}.2f}", f"{score.ssim:{sign}.4f}"
    return ("∞" if math.isinf(score.psnr) else psnr.replace("-", "−")), ssim.replace("-", "−")


def _missing(table: Table) -> dict[str, str]:
    """What is missing, with how to get it; the same remedy is said once for all that it helps."""
    groups: dict[str, list[str]] = {}
    for result in table.missing:
        groups.setdefault(result.missing, []).append(f"{result.method} ×{result.scale} {result.benchmark}")
    return {", ".join(dict.fromkeys(whats)): how for how, whats in groups.items()}


def _plain(score: Score | None) -> dict[str, float | None] | None:
    """JSON has no infinity: the PSNR of equal images is null."""
    return {key: value if math.isfinite(value) else None for key, value in asdict(score).items()} if score else None


def _csv(rows: list[list[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _tex(text: str) -> str:
    text = re.sub(r"([&%$#_{}])|\\", lambda sign: f"\\{sign[1]}" if sign[1] else "\\textbackslash{}", text)
    for sign, command in (
        ("~", "\\textasciitilde{}"),
        ("^", "\\textasciicircum{}"),
        ("×", "$\\times$"),
        ("−", "$-$"),
        ("–", "--"),
        ("∞", "$\\infty$"),
    ):
        text = text.replace(sign, command)
    return text
