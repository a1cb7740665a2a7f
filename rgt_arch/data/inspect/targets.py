"""`check_target`: what a path is, and the report on all images there."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from rgt_arch.config.checks.networks import check_files
from rgt_arch.config.loading import read_written
from rgt_arch.config.report import Report
from rgt_arch.config.tree import sections, subsection
from rgt_arch.config.validation import check_options
from rgt_arch.data.inspect.datasets import DataSet
from rgt_arch.data.inspect.pairs import check_pairs, known_equal
from rgt_arch.data.inspect.places import (
    Entry,
    check_names,
    check_place,
    check_sizes,
    find_root,
    is_lmdb,
    list_names,
    present_names,
    read_entries,
    unlisted,
)
from rgt_arch.data.inspect.report import Section, counted, verdict_on_pairs
from rgt_arch.data.pairing import Pairing, guess_template, list_images, pair_names
from rgt_arch.errors import UsageError

# BasicSR looks every LR name up in a list (data/data_util.py:204).
_SLOW_FOLDERS = 20_000


def check_target(
    target: Path,
    lq: Path | None = None,
    *,
    scale: int | None = None,
    root: Path | None = None,
    bicubic: bool = False,
    jobs: int,
) -> list[Section]:
    """Check a folder, an LMDB folder, a meta-info text or an option file; nothing is changed.

    lq: LR images that belong to the HR images of `target`. scale: what it should be, by default what it is.
    root: the folder that the names of a meta-info text are relative to, by default found out.
    bicubic: compare LR images with the bicubic of HR. jobs: worker processes.

    Raises UsageError if there is nothing that could be checked, or for arguments that do not go together.
    """
    target = Path(target)
    if scale is not None and scale < 1:
        raise UsageError(f"--scale is {scale}; it must be a whole number, 1 or more")
    if not target.exists():
        raise UsageError(f"{target}: no such file or folder; correct the name")
    if target.is_dir():
        if root is not None:
            raise UsageError("--root goes with a meta-info text only; leave it out")
        return _check_directory(target, lq, scale, bicubic, jobs)
    if target.suffix.lower() in (".yml", ".yaml"):
        if lq is not None or scale is not None or root is not None:
            raise UsageError(f"{target}: an option file names its own data; leave out --lr, --scale and --root")
        return _check_options(target, bicubic=bicubic, jobs=jobs)
    if target.suffix.lower() == ".txt":
        return _check_text(target, root, lq, scale, bicubic=bicubic, jobs=jobs)
    raise UsageError(
        f"{target}: cannot be checked; name a folder, an LMDB folder (.lmdb), a meta-info text (.txt) or an option "
        "file (.yml)"
    )


def _check_directory(target: Path, lq: Path | None, scale: int | None, bicubic: bool, jobs: int) -> list[Section]:
    for folder in (target, lq):
        if folder is not None and not is_lmdb(folder) and (folder / "data.mdb").exists():
            raise UsageError(f"{folder}: looks like an LMDB; BasicSR takes it for one if its name ends with .lmdb")
    if lq is None:
        if scale is not None or bicubic:
            raise UsageError("--scale and --bicubic need --lr, the folder of the LR images")
        names = list_names(target)
        section = Section(str(target))
        check_place(section, target, names, jobs=jobs)
        check_names(section, names)
        return [section]
    if not lq.is_dir():
        raise UsageError(f"{lq}: no such folder" if not lq.exists() else f"{lq}: is a file; name its folder")
    if lq.samefile(target):
        raise UsageError(f"{target}: is given as HR and as LR; name the folder of the LR images with --lr")
    if is_lmdb(target) != is_lmdb(lq):
        raise UsageError(f"{target} and {lq}: one is an LMDB, the other a folder; check two of a kind")
    gt_names, lq_names = list_names(target), list_names(lq)
    pairing = pair_names(gt_names, lq_names, guess_template(gt_names, lq_names) or "{}")
    first, second, last = Section(f"HR {target}"), Section(f"LR {lq}"), Section("HR and LR")
    gt = check_place(first, target, gt_names, unit="HR image", jobs=jobs)
    equal = known_equal(gt, pairing.pairs)
    lr = check_place(second, lq, lq_names, unit="LR image", equal=equal, jobs=jobs)
    check_pairs(last, pairing, gt, lr, scale, bicubic=bicubic, jobs=jobs)
    if not is_lmdb(target):
        check_names(first, gt_names)
        check_names(second, lq_names)
        if len(pairing.pairs) > _SLOW_FOLDERS:
            last.note(f"BasicSR takes long to pair {len(pairing.pairs)} files: give it a meta-info text, or make LMDBs")
    last.verdict = verdict_on_pairs((first, second, last))
    return [first, second, last]


def _check_text(
    text: Path, root: Path | None, lq: Path | None, scale: int | None, *, bicubic: bool, jobs: int
) -> list[Section]:
    """The reports on a text's lines and HR images and, for pairs or with `lq`, on LR images and how they fit.

    root: the folder that names are relative to; None: the text's folder, or the one in it that has the files.
    lq: the folder of the LR images; for pairs the one that their names are relative to, by default found as `root` is.
    """
    first = Section(str(text))
    entries = read_entries(text, first)
    root = root or find_root(text, [entry.gt for entry in entries], "--root")
    first.facts.append(f"files in {root}")
    there = present_names(first, [entry.gt for entry in entries], root)
    gt = check_place(first, root, there, jobs=jobs)
    check_sizes(first, gt, {entry.gt: entry.size for entry in entries})
    names = [name for entry in entries for name in (entry.gt, entry.lq) if name]
    first.note(f"{{n}} file{{s}} in {root} that the list lacks", unlisted(root, names, text))
    pairs = [(entry.gt, entry.lq) for entry in entries if entry.lq is not None]
    if not pairs and lq is None:
        if scale is not None or bicubic:
            raise UsageError(f"{text}: lists no pairs; --scale and --bicubic need --lr, the folder of the LR images")
        return [first]
    last = Section("HR and LR")
    if pairs:
        lq, pairing = lq or find_root(text, [name for _, name in pairs], "--lr"), Pairing("", pairs, [], [], [])
    else:
        assert lq is not None
        pairing = _pairs_in_folder(entries, lq, last)
    second = Section(f"LR {lq}")
    there = present_names(second, [name for _, name in pairing.pairs], lq)
    equal = known_equal(gt, pairing.pairs)
    lr = check_place(second, lq, there, unit="LR image", equal=equal, jobs=jobs)
    check_pairs(last, pairing, gt, lr, scale, bicubic=bicubic, jobs=jobs)
    last.verdict = verdict_on_pairs((first, second, last))
    return [first, second, last]


def _pairs_in_folder(entries: Sequence[Entry], lq: Path, section: Section) -> Pairing:
    """The LR images in a folder that belong to a list of HR names."""
    if not lq.is_dir():
        raise UsageError(f"{lq}: no such folder")
    # BasicSR looks for LR images in that very folder, whatever the HR names' folders (data/data_util.py:153).
    owners = {PurePosixPath(entry.gt).name: entry.gt for entry in entries}
    counts = Counter(PurePosixPath(entry.gt).name for entry in entries)
    same = [name for name, count in counts.items() if count > 1]
    section.problem("{n} HR name{s} in more than one folder, for which BasicSR takes the same LR image", same)
    names = list_images(lq)
    found = pair_names(owners, names, guess_template(owners, names) or "{}")
    section.note("{n} LR image{s} that the list does not ask for", found.lone_lq)
    pairs = [(owners[gt], name) for gt, name in found.pairs]
    return Pairing(found.template, pairs, found.other_suffix, found.lone_gt, [])


def _check_options(file: Path, *, bicubic: bool, jobs: int) -> list[Section]:
    """The reports on an option file and on each of its data sets, of which the last says whether it can be used.

    Relative paths are relative to the current directory, as in `basicsr train`. Raises UsageError for a file that
    cannot be read, or names no data set.
    """
    written = read_written(file)
    opt = copy.deepcopy(written.options)  # the checks change it, and compare it with what is written
    datasets = sections(opt.get("datasets"))
    if not datasets:
        raise UsageError(f"{file}: no data set in it, at datasets:")
    head = Section(str(file))
    head.facts.append(counted("{n} data set{s}: ", len(datasets)) + ", ".join(phase for phase, _ in datasets))
    is_train = "train" in opt or "train" in subsection(opt, "datasets")
    report = Report(str(file), written)
    check_options(opt, report, is_train=is_train)
    found = len(report.errors)
    check_files(opt, report, Path.cwd())
    report.errors, weights = report.errors[:found], report.errors[found:]
    result = [head]
    trained: dict[bytes, str] = {}
    for phase, data in datasets:
        data_set = DataSet(opt, phase, data, report, Path.cwd())
        result += data_set.sections(bicubic=bicubic, jobs=jobs)
        looks = data_set.looks
        if data_set.is_train:
            trained = {look.digest: name for name, look in looks.items()}
            continue
        shared = [f"{name} = {trained[look.digest]}" for name, look in looks.items() if look.digest in trained]
        result[-1].note("{n} HR image{s} that the training data has too", shared)
    command = f"`basicsr {'train' if is_train else 'test'}`"
    head.problem(f"{{n}} mistake{{s}} at which {command} stops", report.errors, stops="everything")
    head.note(f"{{n}} file{{s}} other than data that {command} misses", weights)
    return result
