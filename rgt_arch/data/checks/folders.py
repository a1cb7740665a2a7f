"""Checking folders of images, and HR folders with their LR folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from basicsr.data.data_util import paired_paths_from_folder

from rgt_arch.data.checks.looking import FileImage, Images, describe, examine
from rgt_arch.data.checks.pairs import Pairing, check_pairs, known_equal, pair_names
from rgt_arch.data.checks.report import Section, counted, stopped, verdict_on_pairs
from rgt_arch.data.images import find_files
from rgt_arch.errors import UsageError, printable

# BasicSR looks every LR name up in a list (data/data_util.py:204).
_SLOW_FOLDERS = 20_000


def check_folder(folder: Path, *, jobs: int) -> tuple[Section, Images]:
    """The report on all images of a folder and its sub-folders, and what they are.

    Raises UsageError if there is no such folder or nothing in it.
    """
    return _report(folder, str(folder), "image", _image_names(folder), (), jobs)


def check_folders(gt: Path, lq: Path, scale: int | None, *, bicubic: bool, jobs: int) -> list[Section]:
    """The reports on an HR and an LR folder, and on how they fit together for training.

    scale: None to find it out. bicubic: compare LR with the bicubic of HR. Raises UsageError as `check_folder`.
    """
    gt_names, lq_names = _image_names(gt), _image_names(lq)
    pairing = pair_names(gt_names, lq_names)
    gt_section, gt_images = _report(gt, f"HR {gt}", "HR image", gt_names, (), jobs)
    equal = known_equal(gt_images, pairing.pairs)
    lq_section, lq_images = _report(lq, f"LR {lq}", "LR image", lq_names, equal, jobs)

    section = Section("HR and LR")
    pairing.describe(section)
    found = check_pairs(section, pairing.pairs, gt_images, lq_images, scale, bicubic=bicubic, jobs=jobs)
    section.facts.insert(
        0,
        f"{counted('{n} pair{s}', len(pairing.pairs))}, scale {found or 'unknown'}, "
        f"filename_tmpl: '{pairing.template}'",
    )
    _compare_with_basicsr(section, gt, lq, pairing)
    section.verdict = verdict_on_pairs((gt_section, lq_section, section))
    return [gt_section, lq_section, section]


def file_images(folder: Path, names: Collection[str]) -> list[FileImage]:
    """Files below a folder as images to look at."""
    return [FileImage(name, folder / name) for name in names]


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
    images = examine(file_images(folder, names), f"reading {folder.resolve().name}", jobs=jobs)
    describe(section, images, unit, equal)
    deeper = [name for name in names if "/" in name]
    if deeper:
        section.note(
            f"{len(deeper)} of {len(names)} files are in sub-folders, which BasicSR does not look into: list them with "
            "`rgt prepare meta`, or make an LMDB"
        )
    section.note(
        "{n} name{s} with a space, at which BasicSR cuts the names of a meta-info text",
        (printable(name) for name in names if " " in name),
    )
    stems = Counter(name.removesuffix(PurePosixPath(name).suffix) for name in names)
    section.note(
        "{n} name{s} used with more than one ending: results of validation would overwrite each other",
        (printable(stem) for stem, count in stems.items() if count > 1),
    )
    return section, images


def _compare_with_basicsr(section: Section, gt: Path, lq: Path, pairing: Pairing) -> None:
    """Let BasicSR pair the folders, unless it is known that it cannot; its word counts."""
    paired = len(pairing.pairs)
    if stopped([section]) == "everything" or any("/" in name for pair in pairing.pairs for name in pair):
        return
    if paired > _SLOW_FOLDERS:
        section.note(f"BasicSR takes long to pair {paired} files: give it a meta-info text, or make LMDBs")
        return
    try:
        seen = len(paired_paths_from_folder([str(lq), str(gt)], ["lq", "gt"], pairing.template))
    except (AssertionError, OSError) as error:
        section.problem(f"BasicSR cannot pair the folders: {error}", stops="everything")
        return
    if seen != paired:
        section.problem(f"BasicSR finds {counted('{n} pair{s}', seen)}", stops="everything")
