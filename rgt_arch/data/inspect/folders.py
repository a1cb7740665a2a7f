"""Folders of images, and HR folders with their LR folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from rgt_arch.data.images import find_files
from rgt_arch.data.inspect.looks import Images, describe, examine_files
from rgt_arch.data.inspect.pairs import check_pairs, known_equal
from rgt_arch.data.inspect.report import Section, counted, verdict_on_pairs
from rgt_arch.data.pairing import Pairing, guess_template, pair_names
from rgt_arch.errors import UsageError, printable

# BasicSR looks every LR name up in a list (data/data_util.py:204).
_SLOW_FOLDERS = 20_000


def check_folder(folder: Path, *, jobs: int) -> Section:
    """The report on all images of a folder and its sub-folders. Raises UsageError if there are none."""
    return _report(folder, str(folder), "image", _image_names(folder), (), jobs)[0]


def check_folders(gt: Path, lq: Path, scale: int | None, *, bicubic: bool, jobs: int) -> list[Section]:
    """The reports on an HR and an LR folder, and on how they fit together for training.

    scale: None to find it out. bicubic: compare LR with the bicubic of HR. Raises UsageError as `check_folder`.
    """
    gt_names, lq_names = _image_names(gt), _image_names(lq)
    pairing = pair_names(gt_names, lq_names, guess_template(gt_names, lq_names) or "{}")
    gt_section, gt_images = _report(gt, f"HR {gt}", "HR image", gt_names, (), jobs)
    equal = known_equal(gt_images, pairing.pairs)
    lq_section, lq_images = _report(lq, f"LR {lq}", "LR image", lq_names, equal, jobs)
    section = Section("HR and LR")
    describe_pairing(section, pairing)
    found = check_pairs(section, pairing.pairs, gt_images, lq_images, scale, bicubic=bicubic, jobs=jobs)
    paired = counted("{n} pair{s}", len(pairing.pairs))
    section.facts.insert(0, f"{paired}, scale {found or 'unknown'}, filename_tmpl: '{pairing.template}'")
    if len(pairing.pairs) > _SLOW_FOLDERS:
        section.note(f"BasicSR takes long to pair {len(pairing.pairs)} files: give it a meta-info text, or make LMDBs")
    section.verdict = verdict_on_pairs((gt_section, lq_section, section))
    return [gt_section, lq_section, section]


def describe_pairing(section: Section, pairing: Pairing) -> None:
    """Add the names that do not pair to `section`."""
    other = [f"{printable(gt)} with {printable(lq)}" for gt, lq in pairing.other_suffix]
    section.problem("{n} pair{s} with different endings, which BasicSR needs to be the same", other, stops="everything")
    section.problem("{n} HR image{s} without LR image", map(printable, pairing.lone_gt), stops="everything")
    section.problem("{n} LR image{s} without HR image", map(printable, pairing.lone_lq), stops="everything")


def _image_names(folder: Path) -> list[str]:
    """All files below a folder, relative to it, LMDBs apart. Raises UsageError if there are none."""
    names = [path.relative_to(folder).as_posix() for path in find_files(folder)]
    names = [name for name in names if not any(part.endswith(".lmdb") for part in PurePosixPath(name).parts[:-1])]
    if not names:
        raise UsageError(f"{folder}: holds LMDBs only; check one of them")
    return names


def _report(
    folder: Path, title: str, unit: str, names: list[str], equal: Collection[frozenset[str]], jobs: int
) -> tuple[Section, Images]:
    section = Section(title)
    images = examine_files(folder, names, jobs=jobs)
    describe(section, images, unit, equal)
    deeper = [name for name in names if "/" in name]
    if deeper:
        section.note(
            f"{len(deeper)} of {len(names)} files are in sub-folders, which BasicSR does not look into: list them with "
            "`rgt prepare meta`, or make an LMDB"
        )
    spaced = [printable(name) for name in names if " " in name]
    section.note("{n} name{s} with a space, at which BasicSR cuts the names of a meta-info text", spaced)
    stems = Counter(name.removesuffix(PurePosixPath(name).suffix) for name in names)
    twice = [printable(stem) for stem, count in stems.items() if count > 1]
    text = "{n} name{s} used with more than one ending: results of validation would overwrite each other"
    section.note(text, twice)
    return section, images
