"""Checking the data sets of an option file: the very files that BasicSR's own data set classes would read."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any

from rgt_arch.config import load_options, validate_options
from rgt_arch.config.checks.pairing import PairingError, list_images, lq_name
from rgt_arch.config.classes import find_class
from rgt_arch.config.tree import sections, subsection
from rgt_arch.data.checks.folders import file_images
from rgt_arch.data.checks.lmdbs import LmdbCheck, check_keys, check_lmdb
from rgt_arch.data.checks.looking import Images, describe, examine
from rgt_arch.data.checks.pairs import check_pairs, known_equal, pair_names
from rgt_arch.data.checks.report import Section, counted, stopped
from rgt_arch.errors import UsageError, printable

_ROOTS = {"dataroot_gt": "HR", "dataroot_lq": "LR"}
_PAIRED = ("PairedImageDataset", "RealESRGANPairedDataset")


def check_options(file: Path, *, bicubic: bool, jobs: int) -> list[Section]:
    """The reports on an option file and on each of its data sets, of which the last says whether it can be used.

    Relative paths are relative to the current directory, as in `basicsr train`. Raises UsageError for a file that
    cannot be read, or names no data set.
    """
    opt = load_options(file)
    datasets = sections(opt.get("datasets"))
    if not datasets:
        raise UsageError(f"{file}: no data set in it, at datasets:")
    head = Section(str(file))
    head.facts.append(counted("{n} data set{s}: ", len(datasets)) + ", ".join(phase for phase, _ in datasets))
    _validate(opt, file, head)
    report = [head]
    trained: dict[bytes, str] = {}
    for phase, data in datasets:
        check = _DataSet(opt, phase, data, bicubic, jobs)
        report += check.sections()
        if check.training:
            trained = {look.digest: name for name, look in check.gt.looks.items()}
        else:
            shared = [
                f"{printable(n)} = {printable(trained[i.digest])}"
                for n, i in check.gt.looks.items()
                if i.digest in trained
            ]
            report[-1].note("{n} HR image{s} that the training data has too", shared)
    return report


def _validate(opt: dict[str, Any], file: Path, section: Section) -> None:
    """What `basicsr train` or `basicsr test` would refuse the file for."""
    is_train = "train" in opt or "train" in subsection(opt, "datasets")
    try:
        validate_options(opt, file=file, is_train=is_train, root=os.getcwd())
    except UsageError as error:
        lines = str(error).split("\n  ")
        errors = lines[1:] or lines
        weights = [line for line in errors if re.search(r":\d+: path:", line)]
        command = "train" if is_train else "test"
        section.problem(
            f"{{n}} mistake{{s}} at which `basicsr {command}` stops",
            [e for e in errors if e not in weights],
            stops="everything",
        )
        section.note(f"{{n}} file{{s}} other than data that `basicsr {command}` misses", weights)


class _DataSet:
    """The check of one data set."""

    def __init__(self, opt: dict[str, Any], phase: str, data: dict[str, Any], bicubic: bool, jobs: int) -> None:
        self.training = phase.split("_")[0] == "train"
        self.gt, self.lq = Images(), Images()
        self._phase, self._data, self._bicubic, self._jobs = phase, data, bicubic, jobs
        self._scale = opt.get("scale", data.get("scale"))
        self._patch = data.get("gt_size") if self.training else 0
        self._is_lmdb = subsection(data, "io_backend").get("type") == "lmdb"
        self._class = find_class("dataset", data.get("type"))

    def sections(self) -> list[Section]:
        """The reports on its images and, last, on the data set itself."""
        name = f"datasets:{self._phase} ({self._data.get('name', 'no name')}, {self._data.get('type')})"
        last = Section(name)
        kind = getattr(self._class, "__name__", "")
        parts: list[Section] = []
        seen = None
        try:
            if kind in _PAIRED:
                seen, parts = self._paired(last)
            elif kind == "SingleImageDataset":
                seen, parts = self._single(last)
            else:
                parts = self._others(last)
        except UsageError as error:
            last.problem(str(error), stops="everything")
        stops = stopped([*parts, last]) != "nothing"
        use = "train on" if self.training else "validate or test on"
        if kind in (*_PAIRED, "SingleImageDataset"):
            found = f": it sees {counted('{n} ' + ('pair' if kind in _PAIRED else 'image') + '{s}', seen or 0)}"
            last.verdict = f"BasicSR cannot {use} it as it is" if stops or not seen else f"BasicSR can {use} it{found}"
        return [*parts, last]

    def _paired(self, last: Section) -> tuple[int | None, list[Section]]:
        paths = self._basicsr_paths(last)
        gt_root, lq_root = (self._root(key) for key in _ROOTS)
        if self._is_lmdb:
            gt, lq = self._lmdbs(gt_root, lq_root, last)
            self.gt, self.lq = gt.images, lq.images
            parts = [gt.section, lq.section]
            pairs = [(key, key) for key in sorted(set(gt.keys) & set(lq.keys))]
        else:
            pairs = self._file_pairs(paths, gt_root, lq_root, last)
            self.gt = examine(
                file_images(gt_root, sorted({gt for gt, _ in pairs})), f"{self._phase} HR", jobs=self._jobs
            )
            self.lq = examine(
                file_images(lq_root, sorted({lq for _, lq in pairs})), f"{self._phase} LR", jobs=self._jobs
            )
            parts = []
            for key, images, equal in (
                ("dataroot_gt", self.gt, set()),
                ("dataroot_lq", self.lq, known_equal(self.gt, pairs)),
            ):
                parts.append(Section(self._title(key)))
                describe(parts[-1], images, f"{_ROOTS[key]} image", equal)
        scale = self._scale if isinstance(self._scale, int) and self._scale >= 1 else None
        patch = self._patch if isinstance(self._patch, int) else 0
        # In validation only PairedImageDataset cuts off a rest (data/paired_image_dataset.py:93).
        exact = self.training or self._class.__name__ != "PairedImageDataset"
        check_pairs(
            last,
            pairs,
            self.gt,
            self.lq,
            scale,
            jobs=self._jobs,
            bicubic=self._bicubic,
            training=exact,
            patch=patch,
        )
        return None if paths is None else len(paths), parts

    def _single(self, last: Section) -> tuple[int | None, list[Section]]:
        paths = self._basicsr_paths(last)
        root = self._root("dataroot_lq")
        if self._is_lmdb:
            check = check_lmdb(root, jobs=self._jobs, title=self._title("dataroot_lq"))
            return None if paths is None else len(paths), [check.section]
        part = Section(self._title("dataroot_lq"))
        names = sorted({os.path.relpath(path, root) for path in paths or ()})
        describe(part, examine(file_images(root, names), self._phase, jobs=self._jobs))
        return None if paths is None else len(paths), [part]

    def _others(self, last: Section) -> list[Section]:
        """A type whose way of reading is not known here."""
        last.note("a type that pairs and crops in its own way: only its files were checked")
        parts = []
        for key in _ROOTS:
            if not isinstance(self._data.get(key), str):
                continue
            root = self._root(key)
            if self._is_lmdb:
                parts.append(check_lmdb(root, jobs=self._jobs, title=self._title(key)).section)
                continue
            part = Section(self._title(key))
            describe(part, examine(file_images(root, _names(root)), f"{self._phase} {_ROOTS[key]}", jobs=self._jobs))
            parts.append(part)
        return parts

    def _basicsr_paths(self, last: Section) -> list[Any] | None:
        """What BasicSR's data set lists to read; None if it cannot be built, for which `last` gets the reason."""
        settings = copy.deepcopy(self._data) | {"phase": self._phase.split("_")[0], "scale": self._scale}
        for key in _ROOTS:
            if isinstance(settings.get(key), str):
                settings[key] = str(self._root(key))
        try:
            return list(self._class(settings).paths)
        except Exception as error:  # it raises whatever it trips over
            reason = " ".join(str(error).split())
            last.problem(f"BasicSR cannot list its images ({type(error).__name__}: {reason})", stops="everything")
            return None

    def _file_pairs(self, paths: list[Any] | None, gt: Path, lq: Path, last: Section) -> list[tuple[str, str]]:
        """The pairs that BasicSR reads or, where it stops, those that fit, and in `last` what does not."""
        if paths is not None:
            return sorted((os.path.relpath(p["gt_path"], gt), os.path.relpath(p["lq_path"], lq)) for p in paths)
        if self._data.get("meta_info_file") or self._data.get("meta_info"):
            return []
        template = str(self._data.get("filename_tmpl", "{}"))
        try:
            lq_name("name", template)
        except PairingError as error:
            raise UsageError(f"filename_tmpl {template!r} {error}") from error
        pairing = pair_names(_names(gt), _names(lq), template)
        pairing.describe(last)
        best = pair_names(_names(gt), _names(lq))
        if len(best.pairs) > len(pairing.pairs):
            last.note(f"filename_tmpl: '{best.template}' fits more of the names than '{template}'")
        return pairing.pairs

    def _lmdbs(self, gt: Path, lq: Path, last: Section) -> tuple[LmdbCheck, LmdbCheck]:
        gt_check = check_lmdb(gt, jobs=self._jobs, title=self._title("dataroot_gt"), unit="HR image")
        equal = known_equal(gt_check.images, [(key, key) for key in gt_check.keys])
        lq_check = check_lmdb(lq, jobs=self._jobs, title=self._title("dataroot_lq"), unit="LR image", equal=equal)
        check_keys(last, gt_check, lq_check)
        return gt_check, lq_check

    def _root(self, key: str) -> Path:
        value = self._data.get(key)
        if not isinstance(value, str):
            raise UsageError(f"{key} is missing")
        root = Path(value).expanduser()
        if not root.is_dir():
            raise UsageError(f"{key}: {value}: no such folder")
        return root

    def _title(self, key: str) -> str:
        return f"datasets:{self._phase} {_ROOTS[key]}: {self._data[key]}"


def _names(folder: Path) -> list[str]:
    try:
        return list_images(folder)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be listed ({error.strerror})") from error
