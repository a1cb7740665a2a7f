"""Check the data sets of an option file, as BasicSR's own classes would read them.

A `DataSet` is checked at two depths: `check_headers` before a run (names, at most 64 image headers or keys, and the
pixels of 8 pairs), and `sections` for `rgt prepare check` (every pixel).
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

from rgt_arch.config.classes import find_class, is_known, parents
from rgt_arch.config.loading import subsection
from rgt_arch.config.problems import Report
from rgt_arch.data.inspect.looks import Images, Look, Stored, is_coloured, look
from rgt_arch.data.inspect.pairs import check_pairs, header_faults, mismatches, size_faults
from rgt_arch.data.inspect.sections import Section, counted, stopped
from rgt_arch.data.lmdb_reader import read_keys
from rgt_arch.data.pairing import (
    IMAGE_SUFFIXES,
    Pairing,
    PairingError,
    images_below,
    list_images,
    no_images,
    pair_names,
    pairs_from_meta_info,
    read_list,
    require_partners,
    spread,
)
from rgt_arch.errors import UsageError

SAMPLED_PAIRS = 32  # per data set are checked before a run: 64 image headers
COMPARED_PAIRS = 8  # per data set are decoded before a run: half a second for DF2K
_SIDES = {"dataroot_gt": "HR", "dataroot_lq": "LR"}


class DataSet:
    """One data set of an option file. Its mistakes go to `report`."""

    def __init__(self, opt: dict[str, Any], phase: str, data: dict[str, Any], report: Report, root: Path) -> None:
        self.phase, self.data, self.report, self.root = phase, data, report, root
        self.is_train = phase.split("_")[0] == "train"
        self.backend = subsection(data, "io_backend").get("type")
        scale, patch = opt.get("scale", data.get("scale")), data.get("gt_size")
        self.scale = scale if isinstance(scale, int) and scale >= 1 and not report.is_faulty(("scale",)) else 0
        """0 where it is missing or faulty."""
        self.patch = patch if self.is_train and isinstance(patch, int) else 0
        kinds = set(parents(find_class("dataset", data.get("type"))))
        self.is_paired = bool(kinds & {"PairedImageDataset", "RealESRGANPairedDataset"})
        self.is_bicubic = "BicubicDataset" in kinds
        single = {"SingleImageDataset": "dataroot_lq"}
        single |= dict.fromkeys(("RealESRGANDataset", "BicubicDataset"), "dataroot_gt")
        self.keys = list(_SIDES) if self.is_paired else [key for kind, key in single.items() if kind in kinds]
        """Options that name the folders to read; empty for an unknown class of data set."""
        # In validation PairedImageDataset cuts off a rest at the right and bottom, RealESRGANPairedDataset does not.
        self.exact = self.is_train or "PairedImageDataset" not in kinds
        self.meta_key = "meta_info" if kinds & {"RealESRGANPairedDataset", "RealESRGANDataset"} else "meta_info_file"
        self.needs_scale = self.is_paired or self.is_bicubic
        if self.needs_scale and scale is None:
            report.error(("scale",), f"is missing, and datasets:{phase} needs it; add scale: 4")
        self.images: dict[str, Images] = {}
        """The images of each existing folder, by option."""
        self.pairing: Pairing | None = None
        """Paired names, and names without a partner, at which BasicSR stops."""
        self.opt = opt

    def check_headers(self) -> None:
        """Report faults of the names and of a sample of the images."""
        if not self._read() or self.pairing is None or (self.needs_scale and not self.scale):
            return
        gt, lq = self.images[self.keys[0]], self.images[self.keys[-1]]
        scale, patch = self.scale if self.is_paired else 1, self.patch if self.needs_scale else 0
        sample = spread(list(enumerate(self.pairing.files(gt.place, lq.place), 1)), SAMPLED_PAIRS)
        known = (gt.sizes, lq.sizes) if self.backend == "lmdb" else None
        files = [(line, file) for line, pair in sample for file in (pair.gt, pair.lq) if known is None]
        if missing := next(((line, file) for line, file in files if not os.path.lexists(file)), None):
            text = f"line {missing[0]} names {missing[1]}, which does not exist; correct it"
            self._error(self.meta_key, f"{text} or filename_tmpl" if self.is_paired else text)
            return
        for key, text in header_faults(
            [pair for _, pair in sample], scale, exact=self.exact, gt_size=patch, known=known
        ):
            if self.is_paired or key in (*self.keys, "gt_size"):
                self._error(key, text)
        self._check_channels()
        if self.is_paired and not self.report.is_faulty(("datasets", self.phase)):
            self._compare_pixels(self.pairing, gt.place, lq.place)

    def _compare_pixels(self, pairing: Pairing, gt: Path, lq: Path) -> None:
        """Warn if most of a few LR images show another picture than their HR images; single ones may look so."""
        pairs = spread(pairing.pairs, COMPARED_PAIRS)
        looks = [(g, q, look(Stored(gt, g)), look(Stored(lq, q))) for g, q in pairs]
        seen = [(g, q, hr, lr) for g, q, hr, lr in looks if isinstance(hr, Look) and isinstance(lr, Look)]
        wrong = list(mismatches(seen)) if seen else []
        if len(wrong) > len(seen) / 2:
            text = f"{len(wrong)} of {len(seen)} looked at: {wrong[0]}; `rgt prepare check` compares all pairs"
            self.report.warn(("datasets", self.phase, "dataroot_lq"), text)

    def sections(self, *, bicubic: bool, jobs: int) -> list[Section]:
        """Return the reports on all its images and, last, on the data set itself."""
        last = Section(f"datasets:{self.phase} ({self.data.get('name', 'no name')}, {self.data.get('type')})")
        is_sound, parts = self._read(), list[Section]()
        if is_sound:
            self._check_channels()
        if self.is_paired and len(self.images) == len(_SIDES) and self.pairing is not None:
            gt, lq = self.images.values()
            scale, exact, patch = self.scale or None, self.exact, self.patch
            *parts, last = check_pairs(
                last, self.pairing, gt, lq, scale, jobs=jobs, bicubic=bicubic, exact=exact, gt_size=patch
            )
        else:
            parts = [images.examine(jobs=jobs) for images in self.images.values()]
            looks = [each for images in self.images.values() for each in images.looks.items() if self.is_bicubic]
            sizes = [(name, name, each.size, each.size) for name, each in looks]
            for _, text, lines, stops in size_faults(sizes, 1, exact=self.exact, gt_size=self.patch):
                last.problem(f"{{n}} image{{s}}: {text}", lines, stops=stops)
        if not self.keys:
            last.note("a type that reads images in its own way: they were not checked")
            return [last]
        use = "train on" if self.is_train else "validate or test on"
        is_sound &= not self.report.is_faulty(("datasets", self.phase)) and (self.scale > 0 or not self.needs_scale)
        if not is_sound or stopped([*parts, last]) != "nothing":
            last.verdict = f"BasicSR cannot {use} it as it is"
        else:
            unit, number = "pair" if self.is_paired else "image", len(self.pairing.pairs) if self.pairing else 0
            last.verdict = f"BasicSR can {use} it: it sees {counted(f'{{n}} {unit}{{s}}', number)}"
        return [*parts, last]

    def _read(self) -> bool:
        """Fill `images` and `pairing`; report mistakes in folders, names, lists. Return whether BasicSR can read it."""
        before = len(self.report.errors)
        lines = self._list()
        for key in self.keys:
            self._open(key, is_listed=lines is not None)
        template = self.data.get("filename_tmpl", "{}") if self.backend == "disk" else "{}"
        if not self.keys or len(self.images) < len(self.keys) or not isinstance(template, str) or lines == []:
            return False
        gt, lq = self.images[self.keys[0]], self.images[self.keys[-1]]
        try:
            if lines:
                comma = self.is_paired and self.meta_key == "meta_info"
                self.pairing = pairs_from_meta_info(lines, template, comma)
                gt.names = list(dict.fromkeys(name for name, _ in self.pairing.pairs))
                if self.is_paired:
                    lq.names = list(dict.fromkeys(name for _, name in self.pairing.pairs))
                else:
                    self.pairing = Pairing("", [(name, name) for name in gt.names], [], [], [])
            else:
                self.pairing = pair_names(gt.names, lq.names, template)
            if odd := sorted([*self.pairing.lone_gt, *self.pairing.lone_lq]) if self.backend == "lmdb" else []:
                where = f"{odd[0]!r} (in {'dataroot_gt' if odd[0] in self.pairing.lone_gt else 'dataroot_lq'})"
                text = f"{len(odd)} keys are in one LMDB only, such as {where}; make both from the same names"
                self._error("dataroot_lq", text)
            elif not lines and len(self.report.errors) == before:
                require_partners(self.pairing, gt.names, lq.names, gt.place)
        except PairingError as error:
            self._error(error.key, str(error), self.data.get(error.key))
        return len(self.report.errors) == before

    def _check_channels(self) -> None:
        """Report images of other channels than network_g takes. Only RGTModel converts grey images."""
        arguments, model = subsection(self.opt, "network_g"), find_class("model", self.opt.get("model_type"))
        network = find_class("arch", arguments.get("type"))
        defaults = {} if network is None else inspect.signature(network).parameters
        option = next((key for key in ("in_chans", "num_in_ch") if key in defaults), "in_chans")
        taken: Any = arguments.get(option, getattr(defaults.get(option), "default", None))
        given = 1 if self.data.get("color") == "y" else 3
        converts = "RGTModel" in parents(model)
        is_fit = taken == given or (converts and (taken, given) == (3, 1))
        if is_fit or not isinstance(taken, int) or not (converts or (is_known(model) and is_known(network))):
            return
        what = "grey (color: y)" if given == 1 else "in colour" if converts else "read in colour"
        other = {(1, 3): ", or color: y", (3, 1): ", or remove color"}.get((taken, given), "")
        for images in self.images.values():
            for name in spread(images.names, SAMPLED_PAIRS):
                if not (converts and taken == 1) or is_coloured(Stored(images.place, name)):
                    channels = counted("{n} channel{s}", taken)
                    text = f"{name} is {what}, and network_g takes {channels}; set {option}: {given}{other}"
                    self._error("color", text)
                    return

    def _open(self, key: str, *, is_listed: bool) -> None:
        """Add the images of the folder that option `key` names, if BasicSR's backend can read the folder."""
        value = self.data.get(key)
        if not isinstance(value, str):
            return  # reported as missing or of the wrong type
        place, problem = self.root / Path(value).expanduser(), ""
        images = Images(f"datasets:{self.phase} {_SIDES[key]}: {value}", place, [])
        if not place.is_dir():
            what = "is a file, not a folder" if place.exists() else f"no such folder{self._under(value)}"
            other = "" if self.is_train or len(self.opt["datasets"]) < 2 else f", or remove datasets:{self.phase}"
            problem = f"{what}; correct the path{other}"
        elif self.backend == "lmdb" and not value.endswith(".lmdb"):
            problem = "io_backend is lmdb, but the name does not end with .lmdb; give an LMDB, or type: disk"
        elif self.backend == "disk" and value.endswith(".lmdb"):
            problem = "is an LMDB, but io_backend is disk; set io_backend: {type: lmdb}"
        else:
            try:
                if self.backend == "lmdb":
                    images.sizes = read_keys(place, SAMPLED_PAIRS)
                    images.names = list(images.sizes)
                elif self.is_bicubic and not is_listed:
                    images.names = images_below(place)
                elif not is_listed:
                    images.names = list_images(place)
                    problem = _strangers(images.names)
                self.images[key] = images
            except UsageError as error:
                problem = str(error).removeprefix(f"{place}: ")
        if problem:
            self._error(key, problem, value)

    def _list(self) -> list[str] | None:
        """Return the lines of the meta-info file, [] if it cannot be read, None if no file is used."""
        value = self.data.get(self.meta_key)
        if not value or self.backend == "lmdb" or not self.keys:
            return None
        if not isinstance(value, str):
            return []  # reported as of the wrong type
        file = self.root / Path(value).expanduser()
        try:
            if not file.exists():
                raise UsageError(f"no such file{self._under(value)}; correct the path")
            return read_list(file)
        except UsageError as error:
            self._error(self.meta_key, str(error).removeprefix(f"{file}: "), value)
            return []

    def _error(self, key: str, message: str, value: Any = None) -> None:
        self.report.error(("datasets", self.phase, key), message, value)

    def _under(self, value: str) -> str:
        return "" if Path(value).expanduser().is_absolute() else f" under {self.root}"


def _strangers(names: list[str]) -> str:
    """Describe the fault of a data folder: no images, or other files that BasicSR would read as images."""
    others = [name for name in names if Path(name).suffix.lower() not in IMAGE_SUFFIXES]
    more = f" and {len(others) - 1} more files" if len(others) > 1 else ""
    if others:
        return f"holds {others[0]}{more}, which BasicSR would read as an image; move it away"
    return "" if names else no_images()
