"""Scores of images kept on disk, so that an interrupted table resumes; other facts give other file names."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import basicsr
import torch

import rgt_arch
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.tables.results import Score
from rgt_arch.files import check_place, written_whole
from rgt_arch.version import __version__

# The code that decides a score: after an edit, earlier scores are not used.
_CODE = (
    "archs",
    "models",
    "weights/building.py",
    "weights/reading.py",
    "inference/ensemble.py",
    "inference/tiling.py",
    "data/bicubic.py",
    "evaluation/tables",
)


class Store:
    """A folder with a small JSON file for each score, named after the image and a digest of all facts."""

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        """fresh: ignore earlier scores and replace them."""
        self.folder = folder
        self._fresh = fresh

    def read(self, place: str, image: str, facts: dict[str, Any]) -> Score | None:
        """The score that was kept under exactly these facts, or None; a damaged file counts as missing."""
        if self._fresh:
            return None
        try:
            content = json.loads(self._file(place, image, facts).read_text("utf-8"))
            score = Score(**content["score"])
            sound = content["facts"] == facts and all(isinstance(number, float) for number in asdict(score).values())
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return score if sound else None

    def check(self) -> None:
        """Raise UserError if scores cannot be written; called before long work."""
        _make(self.folder)
        check_place(self.folder / "score.json")

    def write(self, place: str, image: str, facts: dict[str, Any], score: Score) -> None:
        """Keep a score. Raises UserError for a folder that cannot be written."""
        file = self._file(place, image, facts)
        _make(file.parent)
        with written_whole(file) as beside:
            beside.write_text(json.dumps({"score": asdict(score), "facts": facts}, indent=1) + "\n", "utf-8")

    def _file(self, place: str, image: str, facts: dict[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return self.folder / re.sub(r"[^\w.+/-]", "_", place) / f"{image}.{digest[:16]}.json"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be created ({error.strerror}); choose another folder with --keep"
        ) from error


@functools.cache
def software() -> dict[str, str]:
    """Versions, and a digest of the code that decides a score."""
    root = Path(rgt_arch.__file__).parent
    digest = hashlib.sha256()
    for place in _CODE:
        for file in sorted((root / place).rglob("*.py")) if (root / place).is_dir() else [root / place]:
            digest.update(file.read_bytes())
    versions = {"rgt_arch": __version__, "torch": torch.__version__, "basicsr": basicsr.__version__}
    return {**versions, "code": digest.hexdigest()}
