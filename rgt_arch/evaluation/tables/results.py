"""The content of a table: scores of images, their mean over a set, published numbers, and missing results."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rgt_arch.weights.zoo import plain_name

BENCHMARKS: Mapping[str, int] = {"Set5": 5, "Set14": 14, "B100": 100, "Urban100": 100, "Manga109": 109}
"""The paper's sets and how many images each has, in its order."""
SCALES = (2, 3, 4)

_PAPER = Path(__file__).parent.parent / "paper_tables.json"


@dataclass(frozen=True)
class Score:
    """PSNR in dB and SSIM on Y of YCbCr, with a border of `scale` pixels cut off."""

    psnr: float
    ssim: float


def mean_score(scores: Collection[Score]) -> Score:
    """The mean of one or more scores, added up in their order."""
    return Score(sum(s.psnr for s in scores) / len(scores), sum(s.ssim for s in scores) / len(scores))


@dataclass(frozen=True)
class Result:
    """A method on one set at one scale: its images' scores, or why there are none."""

    method: str
    scale: int
    benchmark: str
    images: Mapping[str, Score] = field(default_factory=dict)
    """By the HR file's name, without suffix where no other has the same, in order of names."""
    missing: str = ""
    """The missing weights or images and how to get them; empty if it was measured."""

    @property
    def mean(self) -> Score | None:
        """Mean over the images, added up in their order; None without images."""
        return mean_score(self.images.values()) if self.images else None

    @property
    def published(self) -> Score | None:
        """The published score of this method, scale and set, if there is one."""
        return published(self.method, self.scale, self.benchmark)

    @property
    def complete(self) -> bool:
        """Whether there are as many images as in the paper's set; other means are not compared with it."""
        return len(self.images) == BENCHMARKS.get(self.benchmark, len(self.images))

    @property
    def difference(self) -> Score | None:
        """Measured minus published; None if one of them is missing or the set is incomplete."""
        mean, paper = self.mean, self.published
        if mean is None or paper is None or not self.complete:
            return None
        return Score(mean.psnr - paper.psnr, mean.ssim - paper.ssim)


@dataclass(frozen=True)
class Table:
    """All results in the order in which they were asked for, and notes on how they were measured."""

    results: tuple[Result, ...]
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> list[Result]:
        """The results that could not be measured."""
        return [result for result in self.results if result.missing]


@functools.cache
def paper() -> dict[str, Any]:
    """The published numbers: `table2` by method, scale (x2) and set, `bicubic`, their source, parameters."""
    content: dict[str, Any] = json.loads(_PAPER.read_text("utf-8"))
    return content


def published(method: str, scale: int, benchmark: str) -> Score | None:
    """The paper's numbers for a method by its name there (RGT-S, RCAN, …) or bicubic; case and `_` do not matter."""
    methods = {"bicubic": paper()["bicubic"], **paper()["table2"]}
    rows: dict[str, Any] = next((rows for name, rows in methods.items() if plain_name(name) == plain_name(method)), {})
    numbers = rows.get(f"x{scale}", {}).get(benchmark)
    return Score(**numbers) if numbers else None
