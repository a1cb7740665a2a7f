"""What earlier calls of `rgt ablation` left in the folder of a training, and whether it is what is asked for now."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rgt_arch.basicsr_compat.run_folders import saved_iterations
from rgt_arch.config import load_options
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.ablation.inputs import Content, Contents
from rgt_arch.evaluation.ablation.plan import Options, Plan, Variant, first_difference
from rgt_arch.evaluation.tables.store import software
from rgt_arch.files import written_whole

Scores = dict[str, dict[str, float]]
"""{data set: {metric: mean over its images}}"""


@dataclass(frozen=True)
class Record:
    """What a training was started with."""

    contents: Contents
    software: Sequence[Mapping[str, str]]
    """Versions and digest of the code, in turn, if it was interrupted and went on with others."""

    def going_on(self) -> Record:
        """With the software of now."""
        return self if software() in self.software else replace(self, software=[*self.software, software()])


@dataclass(frozen=True)
class Place:
    """The folder of a training, in which its `basicsr train` is started."""

    folder: Path
    variant: Variant = field(compare=False)
    seed: int

    @property
    def option_file(self) -> Path:
        return self.folder / "train.yml"

    @property
    def record_file(self) -> Path:
        return self.folder / "inputs.json"

    @property
    def result_file(self) -> Path:
        return self.folder / "result.json"

    @property
    def states(self) -> Path:
        return self.folder / "experiments" / self.variant.slug / "training_states"

    def newest_state(self) -> int:
        """Iterations that are saved; 0 where there are none."""
        return next(iter(saved_iterations(self.states)), 0)

    def is_begun(self) -> bool:
        """Whether something of it is kept that a table shows or a training goes on from."""
        return self.option_file.is_file() and (self.result_file.is_file() or bool(self.newest_state()))

    def check_options(self, options: Options) -> None:
        """Raises UsageError for a folder with content of others, or of other options: it would be lost."""
        if not self.option_file.is_file():
            if self._holds_something():
                raise UsageError(
                    f"{self.folder}: is not empty and no ablation made it; choose another folder with --keep"
                )
            return
        there = load_options(self.option_file)
        path = there.get("path")
        there["path"] = {**(path if isinstance(path, dict) else {}), "resume_state": None}
        difference = first_difference(there, options)
        if difference:
            key, before, now = difference
            raise UsageError(
                f"{self.folder}: holds a run in which {key} is {before!r}, now it is {now!r}; choose another folder "
                "with --keep, or remove that one"
            )

    def _holds_something(self) -> bool:
        """Hidden files are what is left of one that was being written."""
        try:
            return any(not file.name.startswith(".") for file in self.folder.iterdir())
        except FileNotFoundError:
            return False
        except OSError as error:
            raise UsageError(
                f"{self.folder}: cannot be read as a folder ({error.strerror}); choose another folder with --keep"
            ) from error

    def scores(self, plan: Plan) -> Scores | None:
        """Of a training that has come to its end; None where it has not. Raises UsageError for a damaged file."""
        content = _read_json(self.result_file, "a result; remove it, and its run is validated anew")
        if content is None:
            return None
        try:
            scores: Scores = {}
            for name, metric, _ in plan.measured():
                scores.setdefault(name, {})[metric] = float(content["scores"][name][metric])
            return scores
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{self.result_file}: cannot be read as a result; remove it, and its run is validated anew"
            ) from error

    def keep_scores(self, scores: Scores) -> None:
        """Raises UserError where the disk refuses."""
        _write_json(self.result_file, {"scores": scores, "seed": self.seed})

    def record(self) -> Record | None:
        """What it was started with; None where that is not on record. Raises UsageError for a damaged file."""
        remedy = "a record of what was trained on; choose another folder with --keep, or remove the one that it is in"
        content = _read_json(self.record_file, remedy)
        if content is None:
            return None
        try:
            contents = {str(key): Content(**facts) for key, facts in content["contents"].items()}
            return Record(contents, [dict(one) for one in content["software"]])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{self.record_file}: cannot be read as {remedy}") from error

    def keep_record(self, record: Record) -> None:
        """Raises UserError where the disk refuses."""
        contents = {key: asdict(content) for key, content in record.contents.items()}
        _write_json(self.record_file, {"contents": contents, "software": record.software})


def check_same_data(records: Mapping[Place, Record], now: Contents | None) -> None:
    """Raises UsageError where trainings had other data, or other weights to start from, than there is `now`.

    now: None where that does not matter, but whether they had the same.
    """
    first = next(iter(records), None)
    for place, record in records.items():
        other, whose = (records[first].contents, f"in {first.folder}") if now is None and first else (now or {}, "now")
        for key in {**record.contents, **other}:
            before, after = record.contents.get(key), other.get(key)
            if before is None or after is None or before.digest != after.digest:
                alike = before and after and str(before) == str(after)
                what = (
                    f"{before}, {whose} with other bytes" if alike else f"{before or 'none'}; {whose} {after or 'none'}"
                )
                raise UsageError(
                    f"{place.folder}: {key} held other files when this was trained ({what}); choose another folder "
                    "with --keep, or remove that one"
                )


def doubts(begun: Iterable[Place], records: Mapping[Place, Record]) -> list[str]:
    """What cannot be said of kept trainings: that they had the same data, or the same software as now."""
    begun = list(begun)
    found = []
    if unknown := [place for place in begun if place not in records]:
        found.append(
            f"{_count(unknown, begun)}: no record of the data (earlier versions wrote none), so whether it was the "
            f"same cannot be known ({_named(unknown)})"
        )
    different = [place for place, record in records.items() if any(one != software() for one in record.software)]
    if different:
        others = [one for place in different for one in records[place].software]
        changed = {
            key: " and ".join(dict.fromkeys(one[key] for one in others if one.get(key, value) != value))
            for key, value in software().items()
        }
        what = [
            f"{key} {before}, now {software()[key]}" if key != "code" else "other code of rgt_arch"
            for key, before in changed.items()
            if before
        ]
        found.append(f"{_count(different, begun)}: made with other software ({', '.join(what)}; {_named(different)})")
    return found


def _count(places: Sequence[Place], of: Sequence[Place]) -> str:
    return f"{len(places)} of {len(of)} kept trainings"


def _named(places: Sequence[Place]) -> str:
    names = [f"{place.variant.label} with seed {place.seed}" for place in places[:3]]
    return ", ".join(names) + (", …" if len(places) > 3 else "")


def _read_json(file: Path, what: str) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read as {what}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file}: cannot be read as {what}")
    return content


def _write_json(file: Path, content: dict[str, Any]) -> None:
    with written_whole(file) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
