"""How HR and LR images fit together: names, sizes, colours, and whether LR is the bicubic of HR."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.data.checks.looking import Images, ImageTask, Look, equal_groups
from rgt_arch.data.checks.report import Section, counted
from rgt_arch.data.images import decode
from rgt_arch.data.parallel import Summary, successes
from rgt_arch.errors import printable

TEMPLATES = ("{}", "{}x2", "{}x3", "{}x4", "{}x8")
Pairs = Sequence[tuple[str, str]]  # names of HR and LR image


@dataclass
class Pairing:
    """Which names belong together."""

    template: str
    """BasicSR's filename_tmpl."""
    pairs: list[tuple[str, str]] = field(default_factory=list)
    other_endings: list[tuple[str, str]] = field(default_factory=list)
    """Pairs but for the file format, which BasicSR does not take for pairs (data/data_util.py:204)."""
    lone_gt: list[str] = field(default_factory=list)
    lone_lq: list[str] = field(default_factory=list)

    def describe(self, section: Section) -> None:
        """Add what does not fit to `section`."""
        section.problem(
            "{n} pair{s} with different endings, which BasicSR needs to be the same",
            (f"{printable(gt)} with {printable(lq)}" for gt, lq in self.other_endings),
            stops="everything",
        )
        section.problem("{n} HR image{s} without LR image", map(printable, self.lone_gt), stops="everything")
        section.problem("{n} LR image{s} without HR image", map(printable, self.lone_lq), stops="everything")


def pair_names(gt: Collection[str], lq: Collection[str], template: str | None = None) -> Pairing:
    """Pair file names (with folders, / between) by `template`, or by the one of TEMPLATES that pairs the most."""
    present = {_split(name)[0] for name in lq}
    stems = [_split(name)[0] for name in gt]
    pairing = Pairing(
        template or max(TEMPLATES, key=lambda choice: sum(_fill(choice, stem) in present for stem in stems))
    )
    left = dict.fromkeys(lq)
    waiting = []
    for name in gt:
        stem, ending = _split(name)
        partner = _fill(pairing.template, stem)
        if f"{partner}{ending}" in left:
            del left[f"{partner}{ending}"]
            pairing.pairs.append((name, f"{partner}{ending}"))
        else:
            waiting.append((name, partner))
    by_stem = {_split(name)[0]: name for name in left}
    for name, partner in waiting:
        other = by_stem.pop(partner, None)
        if other is None:
            pairing.lone_gt.append(name)
        else:
            pairing.other_endings.append((name, other))
            del left[other]
    pairing.lone_lq = list(left)
    return pairing


def _split(name: str) -> tuple[str, str]:
    ending = PurePosixPath(name).suffix
    return name.removesuffix(ending), ending


def _fill(template: str, stem: str) -> str:
    folder, slash, name = stem.rpartition("/")
    return f"{folder}{slash}{template.format(name)}"


def check_pairs(
    section: Section,
    pairs: Pairs,
    gt: Images,
    lq: Images,
    scale: int | None,
    *,
    jobs: int,
    bicubic: bool = False,
    training: bool = True,
    patch: int = 0,
) -> int | None:
    """Add to `section` the pairs whose sizes or colours do not fit; returns the scale.

    scale: None to take the one that most pairs have; None is returned where there are no pairs.
    bicubic: say how many LR images are MATLAB's bicubic of their HR images, bit for bit, and which are not.
    training: HR must be exactly scale × LR, as basicsr/data/transforms.py:64 demands; otherwise a rest of up to
    scale − 1 pixels at the right and bottom is cut off as in paired_image_dataset.py:93. patch: side of HR patches in
    pixels, 0 for none.
    """
    usable = [(g, q) for g, q in pairs if g in gt.looks and q in lq.looks]
    if scale is None:
        ratios = Counter(max(1, round(gt.looks[g].height / lq.looks[q].height)) for g, q in usable)
        if not ratios:
            return None
        scale = ratios.most_common(1)[0][0]
    _check_sizes(section, [(g, q, gt.looks[g], lq.looks[q]) for g, q in usable], scale, training, patch)
    if bicubic:
        tasks = [_PairTask(gt.tasks[g], lq.tasks[q], scale) for g, q in usable]
        _check_bicubic(section, tasks, jobs=jobs, isolate=gt.isolate or lq.isolate)
    return scale


def known_equal(gt: Images, pairs: Pairs) -> set[frozenset[str]]:
    """The LR names of HR images that are equal: that those are equal too is no news."""
    partner = dict(pairs)
    return {frozenset(partner[name] for name in group if name in partner) for group in equal_groups(gt)}


def _check_sizes(
    section: Section, looks: Sequence[tuple[str, str, Look, Look]], scale: int, training: bool, patch: int
) -> None:
    wrong, rest, small, colours, depths = [], [], [], [], []
    for gt_name, lq_name, hr, lr in looks:
        names = f"{printable(gt_name)} {hr.dimensions()}, {printable(lq_name)} {lr.dimensions()}"
        over = (hr.height - scale * lr.height, hr.width - scale * lr.width)
        if not all(0 <= pixels < scale for pixels in over):
            wrong.append(names)
        elif any(over):
            rest.append(names)
        if min(lr.height, lr.width) < patch // scale:
            small.append(names)
        if hr.colourless != lr.colourless:
            colours.append(f"{printable(gt_name)} {_colours(hr)}, {printable(lq_name)} {_colours(lr)}")
        if ("16-bit" in hr.traits) != ("16-bit" in lr.traits):
            depths.append(f"{printable(gt_name)}, {printable(lq_name)}")
    section.problem(f"{{n}} pair{{s}} whose HR image is not {scale} × the LR image", wrong, stops="everything")
    if training:
        section.problem(
            f"{{n}} pair{{s}} whose HR image is up to {scale - 1} pixels larger than {scale} × LR: validation cuts "
            "that off, training refuses it (`rgt prepare lr` writes cropped HR images)",
            rest,
            stops="training",
        )
    elif rest:
        section.facts.append(
            counted(f"{{n}} HR image{{s}} larger than {scale} × LR by a rest that validation cuts off", len(rest))
        )
    section.problem(f"{{n}} pair{{s}} smaller than gt_size {patch}, at which training stops", small, stops="training")
    section.problem("{n} pair{s} with and without colours", colours)
    section.note("{n} pair{s} with 8 bits and 16 bits", depths)


def _colours(look: Look) -> str:
    return "is grey" if look.colourless else "has colours"


@dataclass(frozen=True)
class _PairTask:
    gt: ImageTask
    lq: ImageTask
    scale: int

    @property
    def source(self) -> Path:
        return self.lq.source


def _check_bicubic(section: Section, tasks: Sequence[_PairTask], *, jobs: int, isolate: bool) -> None:
    others, summary = [], Summary()
    results = successes(_is_bicubic, tasks, summary, jobs=jobs, title="bicubic", unit="pair", isolate=isolate)
    for task, equal in results:
        if not equal:
            others.append(printable(task.lq.name))
    section.problem("{n} pair{s} could not be compared", map(printable, summary.failures))
    equal_count = len(tasks) - len(others) - len(summary.failures)
    section.facts.append(
        f"{equal_count} of {counted('{n} LR image{s}', len(tasks))} bit-equal to MATLAB's bicubic of HR"
        + ("" if equal_count else " (those cut out of larger LR images cannot be: their edges saw more)")
    )
    if equal_count:  # where none is, LR is meant to be something else
        section.note("{n} LR image{s} unlike the bicubic", others)


def _is_bicubic(task: _PairTask) -> bool:
    gt, lq = (decode(image.content(), image.source) for image in (task.gt, task.lq))
    if min(gt.shape[:2]) < task.scale:
        return False
    return np.array_equal(_in_colour(hr_lr_pair(gt, task.scale)[1], lq), _in_colour(lq, gt))


def _in_colour(image: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """A grey image with three channels if the other one has three."""
    return np.repeat(image[..., None], 3, axis=2) if image.ndim < other.ndim else image
