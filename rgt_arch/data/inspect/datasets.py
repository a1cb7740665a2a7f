"""The data sets of an option file: what BasicSR's own classes would read, and what is wrong with it.

A `DataSet` is checked at two depths: `check_headers` before a run (names and at most 64 image headers or keys), and
`sections` for `rgt prepare check` (every pixel).
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rgt_arch.config.classes import find_class
from rgt_arch.config.report import Report
from rgt_arch.config.tree import subsection
from rgt_arch.data.images import Size
from rgt_arch.data.inspect.looks import Look
from rgt_arch.data.inspect.pairs import check_pairs, header_faults, known_equal
from rgt_arch.data.inspect.places import check_place, list_names, read_keys, read_lines
from rgt_arch.data.inspect.report import Section, counted, stopped
from rgt_arch.data.pairing import (
    IMAGE_SUFFIXES,
    Pair,
    Pairing,
    PairingError,
    list_images,
    pair_names,
    pairs_from_folders,
    pairs_from_meta_info,
    spread,
)
from rgt_arch.errors import UsageError

SAMPLED_PAIRS = 32  # of a data set are looked at before a run: 64 image headers
_SIDES = {"dataroot_gt": "HR", "dataroot_lq": "LR"}
_MEMCACHED = ("server_list_cfg", "client_cfg", "sys_path")
_COLOURS = ("y", "rgb", "n")  # of these BasicSR knows y; the others stand in people's files for "no"


@dataclass
class DataSet:
    """One data set of an option file. `report` gets the mistakes, `looks` the looks at HR images."""

    opt: dict[str, Any]
    phase: str
    data: dict[str, Any]
    report: Report
    root: Path
    looks: dict[str, Look] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    """Those that are there, by key."""
    pairing: Pairing = field(default_factory=lambda: Pairing("", [], [], [], []))
    """The names that BasicSR reads or, where it stops, those that fit and those that do not."""
    sizes: tuple[dict[str, Size], dict[str, Size]] | None = None
    """Of the images of LMDBs, by key."""

    def __post_init__(self) -> None:
        self.path = ("datasets", self.phase)
        self.is_train = self.phase.split("_")[0] == "train"
        self.backend = subsection(self.data, "io_backend").get("type")
        self.scale = self.opt.get("scale", self.data.get("scale"))
        found = find_class("dataset", self.data.get("type"))
        kinds = {parent.__name__ for parent in getattr(found, "__mro__", ())}
        self.is_paired = bool(kinds & {"PairedImageDataset", "RealESRGANPairedDataset"})
        self.is_single = "SingleImageDataset" in kinds
        self.is_degrading = "RealESRGANDataset" in kinds
        # In validation PairedImageDataset cuts off a rest at the right and bottom, RealESRGANPairedDataset does not.
        self.exact = self.is_train or "PairedImageDataset" not in kinds
        self.meta_key = "meta_info" if kinds & {"RealESRGANPairedDataset", "RealESRGANDataset"} else "meta_info_file"

    def check_headers(self) -> None:
        """Report what is wrong with names and with a sample of the images."""
        pairs = self.listing()
        if pairs is None or (self.is_paired and not self.known_scale):
            return
        scale, patch = (self.known_scale, self.patch) if self.is_paired else (1, 0)
        sample = spread(pairs, SAMPLED_PAIRS)
        for key, text in header_faults(sample, scale, exact=self.exact, gt_size=patch, known=self.sizes):
            if self.is_paired or key == self.single_key:
                self.error(key, text)

    def sections(self, *, bicubic: bool, jobs: int) -> list[Section]:
        """The reports on all its images and, last, on the data set itself."""
        last = Section(f"datasets:{self.phase} ({self.data.get('name', 'no name')}, {self.data.get('type')})")
        pairs, parts = self.listing(), list[Section]()
        try:
            if len(self.folders) == len(_SIDES):
                parts = self._check_pairs(last, bicubic, jobs)
            else:
                if not self.is_paired and not self.is_single:
                    last.note("a type that pairs and crops in its own way: only its files were checked")
                    roots = {key: self.data[key] for key in _SIDES if isinstance(self.data.get(key), str)}
                    self.folders = {key: self.root / Path(value).expanduser() for key, value in roots.items()}
                for key, folder in self.folders.items():
                    seen = [pair.name for pair in pairs] if pairs and self.is_single else list_names(folder)
                    parts.append(self._section(key))
                    check_place(parts[-1], folder, sorted(seen), jobs=jobs)
        except UsageError as error:
            last.problem(str(error), stops="everything")
        if self.is_paired or self.is_single:
            use = "train on" if self.is_train else "validate or test on"
            if pairs is None or stopped([*parts, last]) != "nothing" or self.report.is_faulty(self.path):
                last.verdict = f"BasicSR cannot {use} it as it is"
            else:
                unit = "pair" if self.is_paired else "image"
                last.verdict = f"BasicSR can {use} it: it sees {counted(f'{{n}} {unit}{{s}}', len(pairs))}"
        return [*parts, last]

    def listing(self) -> list[Pair] | None:
        """What BasicSR reads, single images as pairs of a file with itself; reports mistakes in names and lists.

        None where it stops or its way is not known. Fills `folders`, `pairing` and `sizes`.
        """
        if isinstance(self.data.get("color"), str) and self.data["color"] not in _COLOURS:
            text = "is not y, so colours are read; set y or rgb"
            self.report.warn((*self.path, "color"), text, self.data["color"])
        if self.backend == "memcached":
            self._check_memcached()
        if self.is_degrading:
            self._check_degrading()
        if self.is_paired and self.scale is None:
            self.report.error(("scale",), f"is missing, and {':'.join(self.path)} needs it; add scale: 4")
        if not (self.is_paired or self.is_single or self.is_degrading):
            return None
        keys = list(_SIDES) if self.is_paired else [self.single_key]
        self.folders = {key: folder for key in keys if (folder := self._folder(key)) is not None}
        lines = None if self.backend == "lmdb" else self._meta_info()
        if len(self.folders) < len(keys):
            return None
        gt, lq = self.folders[keys[0]], self.folders[keys[-1]]
        try:
            return self._list_lmdbs(gt, lq) if self.backend == "lmdb" else self._list_files(gt, lq, lines)
        except PairingError as error:
            self.error(error.key, str(error), self.data.get(error.key))
            return None

    def error(self, key: str, message: str, value: Any = None) -> None:
        """Report a mistake at a key of this data set."""
        self.report.error((*self.path, key), message, value)

    @property
    def single_key(self) -> str:
        """The folder of a data set of single images."""
        return "dataroot_lq" if self.is_single else "dataroot_gt"

    @property
    def known_scale(self) -> int:
        """The scale, 0 where it is missing or faulty."""
        if not isinstance(self.scale, int) or self.scale < 1 or self.report.is_faulty(("scale",)):
            return 0
        return self.scale

    @property
    def patch(self) -> int:
        """The side of HR patches in training, or 0."""
        size = self.data.get("gt_size")
        return size if self.is_train and isinstance(size, int) else 0

    def _list_lmdbs(self, gt: Path, lq: Path) -> list[Pair] | None:
        """HR and LR LMDBs need the same keys; the sizes in their meta_info.txt stand in for image headers."""
        self.pairing = pair_names(list_names(gt), list_names(lq), "{}")
        found = []
        for key, folder in self.folders.items():
            try:
                found.append(read_keys(folder, SAMPLED_PAIRS))
            except UsageError as error:
                self.error(key, str(error), self.data[key])
        if len(found) < len(self.folders):
            return None
        self.sizes = found[0], found[-1]
        if odd := sorted([*self.pairing.lone_gt, *self.pairing.lone_lq]):
            where = f"{odd[0]!r} (in {'dataroot_gt' if odd[0] in found[0] else 'dataroot_lq'})"
            text = f"{len(odd)} keys are in one LMDB only, such as {where}; make both from the same names"
            self.error("dataroot_lq", text)
            return None
        return [Pair(key, Path(key), Path(key)) for key in sorted(found[0])]

    def _list_files(self, gt: Path, lq: Path, lines: list[tuple[int, str]] | None) -> list[Pair] | None:
        template = self.data.get("filename_tmpl", "{}")
        if not isinstance(template, str) or (lines is None and self.data.get(self.meta_key)):
            return None  # reported already
        if lines is None:
            names = [self._images(key, folder) for key, folder in self.folders.items()]
            if not all(names):
                return None
            if not self.is_paired:
                return [Pair(name, gt / name, gt / name) for name in names[0]]
            self.pairing = pair_names(names[0], names[1], template)
            return pairs_from_folders(names[0], names[1], gt, lq, template)
        if self.is_paired:
            pairs = pairs_from_meta_info(lines, gt, lq, template, comma=self.meta_key == "meta_info")
        else:
            listed = [(number, line.split(" ")[0]) for number, line in lines]
            pairs = [Pair(name, gt / name, gt / name, number) for number, name in listed]
        matched = sorted({(os.path.relpath(pair.gt, gt), os.path.relpath(pair.lq, lq)) for pair in pairs})
        self.pairing = Pairing(template, matched, [], [], [])
        sampled = [(pair.line, file) for pair in spread(pairs, SAMPLED_PAIRS) for file in (pair.gt, pair.lq)]
        if missing := next(((line, file) for line, file in sampled if not file.is_file()), None):
            text = f"line {missing[0]} stands for {missing[1]}, which does not exist; correct it or filename_tmpl"
            self.error(self.meta_key, text)
            return None
        return pairs

    def _folder(self, key: str) -> Path | None:
        """The folder that a key names, if it is there and of the kind that the backend reads."""
        value = self.data.get(key)
        if not isinstance(value, str):
            return None  # reported as missing or of the wrong type
        folder = self.root / Path(value).expanduser()
        is_lmdb = value.endswith(".lmdb")
        if not folder.is_dir():
            what = "is a file, not a folder" if folder.exists() else f"no such folder{self._under(value)}"
            self.error(key, f"{what}; correct the path", value)
        elif self.backend == "lmdb" and not is_lmdb:
            text = "io_backend is lmdb, but the name does not end with .lmdb; give an LMDB, or type: disk"
            self.error(key, text, value)
        elif self.backend == "disk" and is_lmdb:
            self.error(key, "is an LMDB, but io_backend is disk; set io_backend: {type: lmdb}", value)
        else:
            return folder
        return None

    def _under(self, value: str) -> str:
        return "" if Path(value).expanduser().is_absolute() else f" under {self.root}"

    def _meta_info(self) -> list[tuple[int, str]] | None:
        """The numbered lines of the meta-info file, or None where there is no such key or file."""
        key, value = self.meta_key, self.data.get(self.meta_key)
        if not isinstance(value, str):
            return None
        file = self.root / Path(value).expanduser()
        lines: list[tuple[int, str]] = []
        if not file.is_file():
            what = "is a folder, not a file" if file.is_dir() else f"no such file{self._under(value)}"
            self.error(key, f"{what}; correct the path", value)
            return None
        try:
            lines = list(enumerate(read_lines(file), 1))
        except UsageError as error:
            self.error(key, str(error).removeprefix(f"{file}: "), value)
        if empty := next((number for number, line in lines if not line.strip()), 0):
            self.error(key, f"line {empty} is empty, which BasicSR takes for an image; remove it", value)
            return None
        return lines or None

    def _images(self, key: str, folder: Path) -> list[str]:
        """The file names BasicSR would take for images; reports a folder that is empty or holds something else."""
        try:
            names = list_images(folder)
        except UsageError as error:
            self.error(key, str(error).removeprefix(f"{folder}: "), self.data[key])
            return []
        others = [name for name in names if Path(name).suffix.lower() not in IMAGE_SUFFIXES]
        if names and not others:
            return names
        more = f" and {len(others) - 1} more files" if len(others) > 1 else ""
        odd = f"holds {others[0]}{more}, which BasicSR would read as an image; move it away" if others else ""
        self.error(key, odd or "the folder holds no images; fill it or correct the path", self.data[key])
        return []

    def _check_memcached(self) -> None:
        """What BasicSR's MemcachedBackend needs (utils/file_client.py:47)."""
        path, options = (*self.path, "io_backend"), subsection(self.data, "io_backend")
        for key in _MEMCACHED:
            value = options.get(key)
            if isinstance(value, str) and not (self.root / Path(value).expanduser()).exists():
                self.report.error((*path, key), f"no such file{self._under(value)}; correct the path", value)
        if importlib.util.find_spec("mc") is None and not options.get("sys_path"):
            self.report.error(path, "memcached needs the module mc of its client; take type: disk or lmdb")

    def _check_degrading(self) -> None:
        """Kinds of blur kernels need a probability each, and files a list."""
        for order in ("", "2"):
            kinds, weights = self.data.get(f"kernel_list{order}"), self.data.get(f"kernel_prob{order}")
            if self.report.is_faulty((*self.path, f"kernel_list{order}")):
                continue
            if isinstance(kinds, list) and isinstance(weights, list) and len(kinds) != len(weights):
                text = f"has {len(weights)} entries, kernel_list{order} has {len(kinds)}; match them"
                self.error(f"kernel_prob{order}", text, weights)
        if self.backend != "lmdb" and "meta_info" not in self.data:
            text = "is missing; add a text file with one image name a line"
            self.report.error((*self.path, "meta_info"), text)

    def _check_pairs(self, last: Section, bicubic: bool, jobs: int) -> list[Section]:
        """The reports on HR and LR images; `last` gets how they fit together."""
        pairing = self.pairing
        matched = [*pairing.pairs, *pairing.other_suffix]
        names_gt = sorted({gt for gt, _ in matched}.union(pairing.lone_gt))
        names_lq = sorted({lq for _, lq in matched}.union(pairing.lone_lq))
        first, second = (self._section(key) for key in _SIDES)
        gt = check_place(first, self.folders["dataroot_gt"], names_gt, unit="HR image", jobs=jobs)
        equal = known_equal(gt, pairing.pairs)
        lq = check_place(second, self.folders["dataroot_lq"], names_lq, unit="LR image", equal=equal, jobs=jobs)
        self.looks = gt.looks
        scale, exact, patch = self.known_scale or None, self.exact, self.patch
        check_pairs(last, pairing, gt, lq, scale, jobs=jobs, bicubic=bicubic, exact=exact, gt_size=patch)
        return [first, second]

    def _section(self, key: str) -> Section:
        return Section(f"datasets:{self.phase} {_SIDES[key]}: {self.data[key]}")
