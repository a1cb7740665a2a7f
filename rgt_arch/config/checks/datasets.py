"""The data a file points at: folders, LMDBs, meta info, HR/LR pairs and sizes. Reads names and headers only."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from rgt_arch.data import lmdb_reader as lmdb_backend
from rgt_arch.config.checks.images import UNREADABLE, check_sizes, read_sizes
from rgt_arch.config.checks.networks import check_weights
from rgt_arch.config.checks.pairing import (
    IMAGE_SUFFIXES,
    Pair,
    PairingError,
    list_images,
    pairs_from_folders,
    pairs_from_meta_info,
    spread,
)
from rgt_arch.config.classes import find_class
from rgt_arch.config.report import Report
from rgt_arch.config.tables import IO_BACKEND_MEMCACHED
from rgt_arch.config.tree import sections, subsection
from rgt_arch.errors import UsageError
from rgt_arch.weights.zoo import find_entry, require

# At most so many pairs are looked at per data set: 64 image headers.
SAMPLED_PAIRS = 32
_MAKE_LMDB = "make it again with `rgt prepare lmdb`"
_COLOURS = ("y", "rgb", "n")  # of these BasicSR knows y; the others stand in people's files for "no"


def check_datasets(opt: dict[str, Any], report: Report, root: Path) -> None:
    """Check every data set of a class whose layout is known; paths are relative to `root`."""
    for phase, data in sections(opt.get("datasets")):
        found = find_class("dataset", data.get("type"))
        kinds = {parent.__name__ for parent in getattr(found, "__mro__", ())}
        checker = _DataChecker(opt, phase, data, report, root)
        if isinstance(data.get("color"), str) and data["color"] not in _COLOURS:
            report.warn((*checker.path, "color"), "is not y, so colours are read; set y or rgb", data["color"])
        if checker.backend == "memcached":
            checker.memcached()
        if kinds & {"PairedImageDataset", "RealESRGANPairedDataset"}:
            checker.paired("meta_info" if "RealESRGANPairedDataset" in kinds else "meta_info_file")
        elif "SingleImageDataset" in kinds:
            checker.single("dataroot_lq", "meta_info_file")
        elif "RealESRGANDataset" in kinds:
            checker.single("dataroot_gt", "meta_info")
            checker.kernels()
            if checker.backend != "lmdb" and "meta_info" not in data:
                report.missing((*checker.path, "meta_info"), "is missing; add a text file with one image name a line")


def check_files(opt: dict[str, Any], report: Report, root: Path, resume_root: Path | None = None) -> None:
    """Weights and training states that the file points at, but for weights that a resumed run takes elsewhere.

    Published weights go by their names, which the model looks up.
    """
    paths = subsection(opt, "path")
    resumed = isinstance(paths.get("resume_state"), str) or _has_states(opt, resume_root)
    kept = paths.get("ignore_resume_networks") or ()
    for key, value in paths.items():
        is_weights = key.startswith("pretrain_network") and not (resumed and key.removeprefix("pretrain_") not in kept)
        if isinstance(value, str) and (is_weights or key == "resume_state"):
            file = root / Path(value).expanduser()
            entry = find_entry(value) if is_weights and not file.exists() else None
            if entry:
                try:
                    require(entry)
                except UsageError as error:
                    report.error(("path", key), str(error).removeprefix(f"{entry.name}: "), value)
            elif not file.is_file():
                what = "is a folder, not a file" if file.is_dir() else f"no such file{_under(root, value)}"
                report.error(("path", key), f"{what}; correct the path, or ~ for none", value)
            elif is_weights:
                check_weights(opt, key, file, report)


def _has_states(opt: dict[str, Any], resume_root: Path | None) -> bool:
    """Whether --auto_resume finds a state of this run."""
    if resume_root is None or not isinstance(opt.get("name"), str):
        return False
    states = resume_root / "experiments" / opt["name"] / "training_states"
    return any(states.glob("[0-9]*.state"))


def _under(root: Path, value: str) -> str:
    return "" if Path(value).expanduser().is_absolute() else f" under {root}"


class _DataChecker:
    """The checks of one data set."""

    def __init__(self, opt: dict[str, Any], phase: str, data: dict[str, Any], report: Report, root: Path) -> None:
        self.path = ("datasets", phase)
        self.train = phase.split("_")[0] == "train"
        self.data = data
        self.report = report
        self.root = root
        self.backend = subsection(data, "io_backend").get("type")
        self.scale = opt.get("scale", data.get("scale"))

    def error(self, key: str, message: str, value: Any = None) -> None:
        self.report.error((*self.path, key), message, value)

    def folder(self, key: str) -> Path | None:
        """The folder that a key names, if it is there and of the kind that the backend reads."""
        value = self.data.get(key)
        if not isinstance(value, str):
            return None  # reported as missing or of the wrong type
        folder = self.root / Path(value).expanduser()
        lmdb = value.endswith(".lmdb")
        if not folder.is_dir():
            what = "is a file, not a folder" if folder.exists() else f"no such folder{_under(self.root, value)}"
            self.error(key, f"{what}; correct the path", value)
        elif self.backend == "lmdb" and not lmdb:
            self.error(
                key, "io_backend is lmdb, but the name does not end with .lmdb; give an LMDB, or type: disk", value
            )
        elif self.backend == "disk" and lmdb:
            self.error(key, "is an LMDB, but io_backend is disk; set io_backend: {type: lmdb}", value)
        else:
            return folder
        return None

    def meta_info(self, key: str) -> list[tuple[int, str]] | None:
        """The lines of a meta-info file with their numbers, or None where there is no such key or file."""
        value = self.data.get(key)
        if not isinstance(value, str):
            return None
        file = self.root / Path(value).expanduser()
        if not file.is_file():
            what = "is a folder, not a file" if file.is_dir() else f"no such file{_under(self.root, value)}"
            self.error(key, f"{what}; correct the path", value)
            return None
        content = file.read_bytes()
        if b"\0" in content:
            self.error(key, "is no text; write one image name a line, or make it with `rgt prepare meta`", value)
            return None
        lines = content.decode(errors="replace").splitlines()
        if not lines:
            self.error(key, "is empty; write one image name a line", value)
        for number, line in enumerate(lines, 1):
            if not line.strip():
                self.error(key, f"line {number} is empty, which BasicSR takes for an image; remove it", value)
                return None
        return list(enumerate(lines, 1))

    def memcached(self) -> None:
        """What BasicSR's MemcachedBackend needs (utils/file_client.py:47)."""
        path, options = (*self.path, "io_backend"), subsection(self.data, "io_backend")
        for key in IO_BACKEND_MEMCACHED:
            value = options.get(key)
            if isinstance(value, str) and not (self.root / Path(value).expanduser()).exists():
                self.report.error((*path, key), f"no such file{_under(self.root, value)}; correct the path", value)
        if importlib.util.find_spec("mc") is None and not options.get("sys_path"):
            self.report.error(path, "memcached needs the module mc of its client; take type: disk or lmdb")

    def single(self, root_key: str, meta_key: str) -> None:
        """A data set of single images."""
        folder = self.folder(root_key)
        if self.backend == "lmdb":
            self.lmdb_keys(root_key, folder)
            return
        lines = self.meta_info(meta_key)
        if folder is None:
            return
        if lines:
            files = [folder / line.split(" ")[0] for _, line in lines]
            if not self.existing(meta_key, [(number, file) for (number, _), file in zip(lines, files, strict=True)]):
                return
        elif meta_key not in self.data:
            files = [folder / name for name in self.images(root_key, folder)]
        else:
            return
        sample = spread(files, 2 * SAMPLED_PAIRS)
        if broken := read_sizes(sample)[1]:
            self.error(root_key, f"{len(broken)} of {len(sample)} looked at: {broken[0]} {UNREADABLE}")

    def paired(self, meta_key: str) -> None:
        """A data set of HR/LR pairs."""
        if self.scale is None:
            self.report.missing(("scale",), f"is missing, and {':'.join(self.path)} needs it; add scale: 4")
        gt, lq = self.folder("dataroot_gt"), self.folder("dataroot_lq")
        if self.backend == "lmdb":
            self.paired_lmdb(gt, lq)
            return
        lines = self.meta_info(meta_key)
        if gt is None or lq is None or (lines is None and self.data.get(meta_key) is not None):
            return
        template = self.data.get("filename_tmpl", "{}")
        if not isinstance(template, str):
            return  # reported as of the wrong type
        try:
            if lines is not None:
                pairs = pairs_from_meta_info(lines, gt, lq, template, comma=meta_key == "meta_info")
                sample = spread(pairs, SAMPLED_PAIRS)
                if not self.existing(meta_key, [(p.line, file) for p in sample for file in (p.gt, p.lq)]):
                    return
            else:
                names_gt, names_lq = self.images("dataroot_gt", gt), self.images("dataroot_lq", lq)
                if not names_gt or not names_lq:
                    return
                sample = spread(pairs_from_folders(names_gt, names_lq, gt, lq, template), SAMPLED_PAIRS)
        except PairingError as error:
            self.error(error.key, str(error), self.data.get(error.key))
            return
        self.sizes(sample)

    def kernels(self) -> None:
        """Kinds of blur kernels need a probability each."""
        for order in ("", "2"):
            kinds, weights = self.data.get(f"kernel_list{order}"), self.data.get(f"kernel_prob{order}")
            if self.report.is_faulty((*self.path, f"kernel_list{order}")):
                continue
            if isinstance(kinds, list) and isinstance(weights, list) and len(kinds) != len(weights):
                text = f"has {len(weights)} entries, kernel_list{order} has {len(kinds)}; match them"
                self.error(f"kernel_prob{order}", text, weights)

    def images(self, key: str, folder: Path) -> list[str]:
        """The file names BasicSR would take for images; reports a folder that is empty or holds something else."""
        names = list_images(folder)
        value = self.data[key]
        if not names:
            self.error(key, "the folder holds no images; fill it or correct the path", value)
        others = [name for name in names if Path(name).suffix.lower() not in IMAGE_SUFFIXES]
        if others:
            more = f" and {len(others) - 1} more files" if len(others) > 1 else ""
            self.error(key, f"holds {others[0]}{more}, which BasicSR would read as an image; move it away", value)
            return []
        return names

    def existing(self, key: str, files: list[tuple[int, Path]]) -> bool:
        """Report the files of a meta-info file that are not there (of an evenly spread sample)."""
        missing = [(number, file) for number, file in spread(files, 2 * SAMPLED_PAIRS) if not file.is_file()]
        if missing:
            number, file = missing[0]
            self.error(key, f"line {number} stands for {file}, which does not exist; correct it or filename_tmpl")
        return not missing

    def lmdb_keys(self, key: str, folder: Path | None) -> dict[str, tuple[int, int]] | None:
        """{key: (height, width)} of an LMDB folder, from its meta_info.txt; the database is asked for some of them."""
        if folder is None:
            return None
        for name in ("data.mdb", "meta_info.txt"):
            if not (folder / name).is_file():
                self.error(key, f"holds no {name}; {_MAKE_LMDB}", self.data[key])
                return None
            if not (folder / name).stat().st_size:
                self.error(key, f"its {name} is empty; {_MAKE_LMDB}", self.data[key])
                return None
        keys: dict[str, tuple[int, int]] = {}
        for line in (folder / "meta_info.txt").read_text(encoding="utf-8", errors="replace").splitlines():
            name = line.split(".")[0]
            if name in keys or not name.isascii():
                why = "not ASCII" if name not in keys else "used twice (keys end at the first dot of a name)"
                self.error(key, f"the key {name!r} is {why}; rename the images and make it again", self.data[key])
                return None
            shape = line.rpartition("(")[2].partition(")")[0].split(",")
            keys[name] = (int(shape[0]), int(shape[1])) if len(shape) >= 2 and shape[0].isdigit() else (0, 0)
        try:
            lmdb_backend.check(str(folder), spread(list(keys), SAMPLED_PAIRS))
        except UsageError as error:
            self.error(key, str(error).removeprefix(f"{folder}: "), self.data[key])
            return None
        return keys

    def paired_lmdb(self, gt: Path | None, lq: Path | None) -> None:
        """HR and LR LMDBs need the same keys; the sizes in their meta_info.txt stand in for image headers."""
        keys_gt, keys_lq = self.lmdb_keys("dataroot_gt", gt), self.lmdb_keys("dataroot_lq", lq)
        if keys_gt is None or keys_lq is None:
            return
        odd = sorted(keys_gt.keys() ^ keys_lq.keys())
        if odd:
            where = "dataroot_gt" if odd[0] in keys_gt else "dataroot_lq"
            self.error(
                "dataroot_lq",
                f"{len(odd)} keys are in one LMDB only, such as {odd[0]!r} (in {where}); make both from the same names",
            )
            return
        names = spread(sorted(keys_gt), SAMPLED_PAIRS)
        self.sizes([Pair(name, Path(name), Path(name), 0) for name in names], keys_gt, keys_lq)

    def sizes(
        self,
        pairs: list[Pair],
        gt_sizes: dict[str, tuple[int, int]] | None = None,
        lq_sizes: dict[str, tuple[int, int]] | None = None,
    ) -> None:
        """Check HR against LR sizes, and LR sizes against the training patch."""
        if not isinstance(self.scale, int) or self.report.is_faulty(("scale",)):
            return
        size = self.data.get("gt_size")
        patch = size // self.scale if self.train and isinstance(size, int) else 0
        # RealESRGANPairedDataset does not cut off what is left over at the right and bottom, PairedImageDataset does.
        spare = 0 if self.train or self.data.get("type") != "PairedImageDataset" else self.scale - 1
        for key, message in check_sizes(pairs, self.scale, spare, patch, gt_sizes, lq_sizes):
            self.error(key, message)
