"""A section of a report: facts, problems and notes, as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from rgt_arch.errors import printable

LINES_SHOWN = 20
# What a problem stops in BasicSR. "nothing": BasicSR runs, but with other data than intended.
Stops = Literal["nothing", "training", "everything"]
VERDICTS: dict[Stops, str] = {
    "everything": "BasicSR cannot use them as they are",
    "training": "BasicSR can validate and test on them, but not train",
    "nothing": "BasicSR can train on them",
}


class Finding(NamedTuple):
    """One kind of problem or note, with a line for each image that has it."""

    heading: str
    lines: Sequence[str]
    stops: Stops


class Section:
    """The report on one place, such as a folder, or on the pairing of two."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.facts: list[str] = []
        self.problems: list[Finding] = []
        self.notes: list[Finding] = []
        self.verdict = ""

    def problem(self, heading: str, lines: Iterable[str] | None = None, *, stops: Stops = "nothing") -> None:
        """Add a problem, unless `lines` is given and empty; {n} and {s} in `heading` as for `counted`."""
        _add(self.problems, heading, lines, stops)

    def note(self, heading: str, lines: Iterable[str] | None = None) -> None:
        """Add something worth knowing that is not a fault; `heading` and `lines` as for `problem`."""
        _add(self.notes, heading, lines, "nothing")

    def text(self, limit: int | None = LINES_SHOWN) -> str:
        """The section for a terminal, at most `limit` lines for each problem and a quarter of that for each note."""
        shown = [self.title, *(f"  {fact}" for fact in self.facts)]
        for kind, findings, most in (("PROBLEM", self.problems, limit), ("note", self.notes, limit and limit // 4)):
            for heading, lines, _ in findings:
                shown += [f"  {kind}: {heading}", *(f"    {line}" for line in lines[:most])]
                if hidden := len(lines[most:]) if most is not None else 0:
                    shown.append(f"    and {hidden} more (--all lists them)")
        return "\n".join([*shown, f"  => {self.verdict}"] if self.verdict else shown)


def _add(findings: list[Finding], heading: str, lines: Iterable[str] | None, stops: Stops) -> None:
    listed = [printable(line) for line in lines or ()]
    if lines is None or listed:
        findings.append(Finding(counted(heading, len(listed)), listed, stops))


def counted(text: str, number: int) -> str:
    """Return `text` with {n} replaced by the number and {s} by a plural s."""
    return text.replace("{n}", str(number)).replace("{s}", "" if number == 1 else "s")


def summary(sections: Sequence[Section]) -> str:
    """Return the last line of a report."""
    kinds = sum(len(section.problems) for section in sections)
    return counted("{n} kind{s} of problem, listed above", kinds) if kinds else "no problems"


def stopped(sections: Iterable[Section]) -> Stops:
    """Return what the worst problem stops."""
    found = {problem.stops for section in sections for problem in section.problems}
    return next((stops for stops in VERDICTS if stops in found), "nothing")
