"""Content of a table (scores of images, means, published numbers, missing results), and its formats."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from rgt_arch.evaluation.reports import ABSENT, ResultTable, number
from rgt_arch.version import __version__
from rgt_arch.weights.zoo import plain_name

BENCHMARKS: Mapping[str, int] = {"Set5": 5, "Set14": 14, "B100": 100, "Urban100": 100, "Manga109": 109}
"""The paper's sets, in its order, with their numbers of images."""
SCALES = (2, 3, 4)
FORMATS = ("markdown", "latex", "csv", "csv-images", "json")

_PACKAGE = Path(__file__).parents[2]
_CODE = ("archs", "data", "evaluation/tables", "inference", "models", "weights")  # determines the scores


Score = dict[str, float]
"""`psnr` in dB and `ssim` on Y of YCbCr, and metrics of pyiqa, with a border of `scale` pixels cut off."""


def mean_score(scores: Collection[Score]) -> Score:
    """Return the mean of one or more scores, added up in their order."""
    return {name: sum(score[name] for score in scores) / len(scores) for name in next(iter(scores))}


@dataclass(frozen=True)
class Result:
    """A method on one set at one scale: the scores of its images, or the reason why they are missing."""

    method: str
    scale: int
    benchmark: str
    images: Mapping[str, Score] = field(default_factory=dict)
    """By HR file name, sorted, without suffix where that is unique."""
    missing: str = ""
    """The missing weights or images and how to get them; empty if it was measured."""

    @property
    def mean(self) -> Score | None:
        """Mean over the images; None without images."""
        return mean_score(self.images.values()) if self.images else None

    @property
    def published(self) -> Score | None:
        """The published score of this method, scale and set, if there is one."""
        return published(self.method, self.scale, self.benchmark)

    @property
    def complete(self) -> bool:
        """Whether the set has as many images as in the paper; otherwise it is not compared."""
        return len(self.images) == BENCHMARKS.get(self.benchmark, len(self.images))

    @property
    def difference(self) -> Score | None:
        """Measured minus published; None if one of them is missing or the set is incomplete."""
        mean, paper = self.mean, self.published
        if mean is None or paper is None or not self.complete:
            return None
        return {name: mean[name] - value for name, value in paper.items()}


@dataclass(frozen=True)
class Table:
    """All results in the requested order, and notes on how they were measured."""

    results: tuple[Result, ...]
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> list[Result]:
        """The results that could not be measured."""
        return [result for result in self.results if result.missing]

    def text(self, form: str) -> str:
        """Return the table in one of `FORMATS`, laid out as the paper's Table 2: measured, published, difference."""
        sets = list(dict.fromkeys(result.benchmark for result in self.results))
        kinds = next((list(result.mean) for result in self.results if result.mean), ["psnr", "ssim"])
        shown, others = ["PSNR", "SSIM", *kinds[2:]], kinds[2:]
        head = [("", "Method"), ("", "Scale"), ("", ""), *((name, kind) for name in sets for kind in shown)]
        rows = []
        for (method, scale), group in groupby(self.results, lambda result: (result.method, result.scale)):
            results = list(group)
            measured = [cell for r in results for cell in _cells(r.mean, kinds, "missing" if r.missing else ABSENT)]
            rows.append([method, f"×{scale}", "measured", *measured])
            if any(result.published for result in results):
                rows.append(["", "", "published", *(cell for r in results for cell in _cells(r.published, kinds))])
                differences = [cell for r in results for cell in _cells(r.difference, kinds, sign="+")]
                rows.append(["", "", "difference", *differences])
        remedies: dict[str, list[str]] = {}
        for result in self.missing:
            remedies.setdefault(result.missing, []).append(f"{result.method} ×{result.scale} {result.benchmark}")
        remarks = [
            "PSNR (dB) and SSIM on Y of YCbCr, border = scale; difference = measured − published.",
            *([f"{', '.join(others)}: pyiqa's, border = scale."] if others else []),
            *self.notes,
            *(f"Missing: {', '.join(dict.fromkeys(what))}: {how}" for how, what in remedies.items()),
        ]
        records = {"csv": [_record(result, others) for result in self.results]}
        records["csv-images"] = list(self._image_records(kinds))
        return ResultTable(head, rows, 3, remarks, records, self._content()).text(form)

    def _image_records(self, kinds: Sequence[str]) -> Iterator[dict[str, object]]:
        """A row for each image; a missing set has one row without an image."""
        for result in self.results:
            images: Mapping[str, Score | None] = result.images or ({"": None} if result.missing else {})
            for name, score in images.items():
                numbers: Mapping[str, object] = score or dict.fromkeys(kinds, "")
                yield {**_start(result), "image": name, **numbers, "missing": result.missing}

    def _content(self) -> dict[str, object]:
        """Everything, for JSON: means, images, published numbers and their source, versions."""
        results = [
            {
                **_start(result),
                "missing": result.missing or None,
                "measured": result.mean,
                "published": result.published,
                "difference": result.difference,
                "complete": result.complete and not result.missing,
                "images": result.images,
            }
            for result in self.results
        ]
        source = {key: paper()[key] for key in ("source", "protocol")}
        return {"published": source, "software": software(), "notes": self.notes, "results": results}


def _start(result: Result) -> dict[str, object]:
    return {"method": result.method, "scale": result.scale, "set": result.benchmark}


def _record(result: Result, others: Sequence[str]) -> dict[str, object]:
    """A row of CSV."""
    scores = {"": result.mean, "_published": result.published, "_difference": result.difference}
    numbers = {f"{m}{kind}": (score or {}).get(m, "") for kind, score in scores.items() for m in ("psnr", "ssim")}
    more = {name: (result.mean or {}).get(name, "") for name in others}
    return {**_start(result), "images": len(result.images), **numbers, **more, "missing": result.missing}


def _cells(score: Score | None, kinds: Sequence[str], absent: str = ABSENT, sign: str = "") -> list[str]:
    """PSNR with two digits and SSIM with four, as in the paper, and other metrics with four."""
    if score is None:
        return [absent] * len(kinds)
    return [number(score.get(kind), 2 if kind == "psnr" else 4, sign) for kind in kinds]


@functools.cache
def paper() -> dict[str, Any]:
    """Return the published numbers: `table2` by method, scale (x2) and set, `bicubic`, their source, parameters."""
    content: dict[str, Any] = json.loads((_PACKAGE / "evaluation/paper_tables.json").read_text("utf-8"))
    return content


def published(method: str, scale: int, benchmark: str) -> Score | None:
    """Return the published score of a method of the paper (RGT-S, RCAN, …) or bicubic; case and `_` do not matter."""
    methods = {"bicubic": paper()["bicubic"], **paper()["table2"]}
    rows: dict[str, Any] = next((rows for name, rows in methods.items() if plain_name(name) == plain_name(method)), {})
    numbers: Score | None = rows.get(f"x{scale}", {}).get(benchmark)
    return numbers


@functools.cache
def software() -> dict[str, str]:
    """Return versions and a digest of the scoring code, so that scores kept before an edit are not used after it."""
    import basicsr  # not at the top: `rgt complexity` imports this module and runs without BasicSR
    import torch

    digest = hashlib.sha256()
    for file in sorted(file for room in _CODE for file in (_PACKAGE / room).rglob("*.py")):
        digest.update(file.read_bytes())
    versions = {"rgt_arch": __version__, "torch": torch.__version__, "basicsr": basicsr.__version__}
    return {**versions, "code": digest.hexdigest()}
