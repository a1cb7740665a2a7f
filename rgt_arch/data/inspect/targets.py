"""`check_target` reports on all images of a path; `validate_options` checks an option file and its data quickly."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rgt_arch.config.loading import WrittenOptions, read_written, sections, subsection
from rgt_arch.config.problems import Report
from rgt_arch.data.inspect.datasets import DataSet
from rgt_arch.data.inspect.looks import Images, is_lmdb
from rgt_arch.data.inspect.pairs import check_pairs
from rgt_arch.data.inspect.sections import VERDICTS, Section, counted, stopped
from rgt_arch.data.lmdb_reader import read_keys
from rgt_arch.data.pairing import (
    MetaLine,
    Pairing,
    PairingError,
    guess_template,
    images_below,
    list_images,
    pair_names,
    pairs_from_meta_info,
    read_list,
)
from rgt_arch.errors import UsageError

_NAMES_TRIED = 50
_STRANGERS = "{n} file{s} not named like images, which BasicSR would read as images and `rgt prepare` passes over"


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

    lq: the LR images of `target`'s HR images. scale: the expected one, by default that of most pairs.
    root: the folder that the names of a meta-info text are relative to, by default the text's or one beside it.
    bicubic: compare LR images with the bicubic of HR. jobs: worker processes.

    Raises UsageError for a target that cannot be checked, and for arguments that do not go together.
    """
    suffix = target.suffix.lower()
    if scale is not None and scale < 1:
        raise UsageError(f"--scale is {scale}; it must be a whole number, 1 or more")
    if root is not None and suffix != ".txt":
        raise UsageError("--root goes with a meta-info text only; leave it out")
    if not target.exists():
        raise UsageError(f"{target}: no such file or folder; correct the name")
    if suffix in (".yml", ".yaml"):
        if lq is not None or scale is not None:
            raise UsageError(f"{target}: an option file names its own data; leave out --lr and --scale")
        return _check_options(target, bicubic=bicubic, jobs=jobs)
    if target.is_dir():
        gt, pairing = _images(target, str(target)), None
        lr = None if lq is None else _images(lq, f"LR {lq}")
        if lr is not None:
            pairing = pair_names(gt.names, lr.names, guess_template(gt.names, lr.names) or "{}")
    elif suffix == ".txt":
        gt, lr, pairing = _listed(target, root, lq)
    else:
        raise UsageError(
            f"{target}: cannot be checked; name a folder, an LMDB folder (.lmdb), a meta-info text (.txt) or an option "
            "file (.yml)"
        )
    if lr is None or pairing is None:
        if scale is not None or bicubic:
            raise UsageError("--scale and --bicubic need --lr, the folder of the LR images")
        section = gt.examine(jobs=jobs)
        if target.is_dir() and not is_lmdb(target) and (deeper := sum("/" in name for name in gt.names)):
            section.note(
                f"{deeper} of {len(gt.names)} files are in sub-folders, which BasicSR does not look into: make an LMDB "
                "with `rgt prepare lmdb`"
            )
        section.note(_STRANGERS, gt.strangers)
        return [section]
    last = Section("HR and LR")
    last.problem(f"{_STRANGERS}; move them away", [*gt.strangers, *lr.strangers], stops="everything")
    found = check_pairs(last, pairing, gt, lr, scale, bicubic=bicubic, jobs=jobs)
    found[-1].verdict = VERDICTS[stopped(found)]
    return found


def _images(folder: Path, title: str) -> Images:
    """Return the images below a folder, or the keys in an LMDB's meta_info.txt. Raises UsageError if none exist."""
    if is_lmdb(folder):
        sizes = read_keys(folder, 0)
        return Images(title, folder, list(sizes), sizes)
    if (folder / "data.mdb").exists():
        raise UsageError(f"{folder}: looks like an LMDB; BasicSR takes it for one if its name ends with .lmdb")
    others: list[Path] = []
    names = images_below(folder, others)
    return Images(title, folder, names, strangers=[file.name for file in others if file.parent == folder])


def _listed(text: Path, root: Path | None, lq: Path | None) -> tuple[Images, Images | None, Pairing]:
    """Return the images of a meta-info text, the LR images (of a folder, or of pairs in the text) and their pairing."""
    lines = read_list(text)
    parsed = [MetaLine.parse(line) for line in lines]
    is_pairs = ", " in lines[0] and parsed[0].size is None
    template = "{}"
    if lq is not None and not is_pairs:
        names = [Path(line.split(" ")[0]).name for line in lines]
        template = guess_template(names, list_images(lq)) or "{}"
    try:
        pairing = pairs_from_meta_info(lines, template, comma=is_pairs)
    except PairingError as error:
        raise UsageError(f"{text}: {error}") from error
    hr_names, lr_names = ([pair[side] for pair in pairing.pairs] for side in (0, 1))
    root = root or _find_root(text, hr_names, "--root")
    sizes = {} if is_pairs else {name: line.size for name, line in zip(hr_names, parsed, strict=True)}
    kind = "pairs (HR, LR)" if is_pairs else "images"
    gt = Images(f"{text}: {len(lines)} {kind}, files in {root}", root, list(dict.fromkeys(hr_names)), sizes)
    if is_pairs and lq is None:
        lq = _find_root(text, lr_names, "--lr")
    return gt, None if lq is None else Images(f"LR {lq}", lq, list(dict.fromkeys(lr_names))), pairing


def _find_root(text: Path, names: Sequence[str], flag: str) -> Path:
    """Return the folder of the listed files: the text's, or one beside the text. Raises UsageError for neither.

    flag: the flag that names the folder, for the message.
    """
    here = text.parent
    beside = sorted(entry for entry in here.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    namesake = here / text.stem.removeprefix("meta_info_")  # preferred to other folders with equal names
    candidates = [here, *([namesake] if namesake in beside else []), *beside]
    counts = {folder: sum((folder / name).is_file() for name in names[:_NAMES_TRIED]) for folder in candidates}
    best = max(candidates, key=lambda folder: counts[folder])
    if not counts[best]:
        raise UsageError(f"{text}: {names[0]} is neither beside it nor in a folder beside it; give {flag} FOLDER")
    return best


def _check_options(file: Path, *, bicubic: bool, jobs: int) -> list[Section]:
    """Return the reports on an option file and on each of its data sets; a data set's last report has the verdict.

    Relative paths are relative to the current directory, as in `basicsr train`. Raises UsageError for a file that
    cannot be read or has no data set.
    """
    from rgt_arch.config.checks.networks import check_files  # torch, which most checks do not need
    from rgt_arch.config.validation import check_options

    written = read_written(file)
    opt = copy.deepcopy(written.options)  # the checks change it, and compare it with the written options
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
        looks = data_set.images["dataroot_gt"].looks if "dataroot_gt" in data_set.images else {}
        if data_set.is_train:
            trained = {look.digest: name for name, look in looks.items()}
            continue
        shared = [f"{name} = {trained[look.digest]}" for name, look in looks.items() if look.digest in trained]
        result[-1].note("{n} HR image{s} that the training data has too", shared)
    command = f"`basicsr {'train' if is_train else 'test'}`"
    head.problem(f"{{n}} mistake{{s}} at which {command} stops", report.errors, stops="everything")
    head.note(f"{{n}} file{{s}} beside the data that {command} needs and that cannot be used", weights)
    return result


def validate_options(
    opt: dict[str, Any],
    *,
    file: str | Path,
    is_train: bool,
    root: str | Path,
    resume_root: str | Path | None = None,
    written: WrittenOptions | None = None,
) -> list[str]:
    """Check the options of a training or test run and return warnings, one line each.

    opt: from `load_options` and `apply_overrides`, before BasicSR adds its own keys; `check_options` changes it in
    place. file: its name for messages. root: the folder that relative paths start from. resume_root: with
    --auto_resume, the folder that contains experiments/ (a resumed run needs no initial weights); else None.
    written: the result of `read_written`, for line numbers in messages.

    Raises one UsageError with all problems, one line each: file, line, key, value, remedy. Reads names, at most 64
    image headers and 8 pairs of images per data set, and meta-info files; creates nothing.
    """
    from rgt_arch.config.checks.networks import check_files  # as above
    from rgt_arch.config.validation import check_options

    report = Report(str(file), written)
    check_options(opt, report, is_train=is_train)
    check_files(opt, report, Path(root), None if resume_root is None else Path(resume_root))
    for phase, data in sections(opt.get("datasets")):
        DataSet(opt, phase, data, report, Path(root)).check_headers()
    report.raise_errors()
    return report.warnings
