"""Checking LMDB folders: data.mdb against meta_info.txt, both ways, and each image in it."""

from __future__ import annotations

import functools
import os
import stat
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmdb
from basicsr.data.data_util import paired_paths_from_lmdb

from rgt_arch.data.checks.looking import Images, Look, describe, examine
from rgt_arch.data.checks.pairs import check_pairs, known_equal
from rgt_arch.data.checks.report import Section, counted, stopped, verdict_on_pairs
from rgt_arch.data.lmdb_files import truncation
from rgt_arch.data.parallel import Summary, successes
from rgt_arch.errors import UsageError, UserError, printable

META_INFO = "meta_info.txt"


@dataclass(frozen=True)
class StoredImage:
    """An image that is a value of an LMDB."""

    name: str
    lmdb: Path
    key: bytes

    @property
    def source(self) -> Path:
        """The LMDB and the key, for messages."""
        return self.lmdb / self.name

    def content(self) -> bytes:
        """The value. Raises UserError if it cannot be read."""
        try:
            with _environment(self.lmdb).begin() as transaction:
                value: bytes | None = transaction.get(self.key)
        except lmdb.Error as error:
            raise UserError(f"{self.source}: cannot be read ({error})") from error
        if not value:
            raise UserError(f"{self.source}: is empty (0 bytes)")
        return value


@dataclass(frozen=True)
class _Database:
    source: Path


@dataclass
class LmdbCheck:
    """What was found in an LMDB."""

    section: Section
    images: Images
    """By key."""
    keys: list[str] = field(default_factory=list)
    """What plain BasicSR looks for, in the order of meta_info.txt."""


@functools.cache
def _environment(path: Path) -> Any:
    """The LMDB, opened in a worker process only: one that this process has open could not be opened after a fork."""
    return lmdb.open(os.path.realpath(path), readonly=True, lock=False, readahead=False, create=False)


def is_lmdb(path: Path) -> bool:
    """Whether a folder is an LMDB by its name, as BasicSR decides."""
    return path.name.endswith(".lmdb")


def check_lmdb(
    path: Path, *, jobs: int, title: str = "", unit: str = "image", equal: Collection[frozenset[str]] = ()
) -> LmdbCheck:
    """The report on an LMDB folder. title: of the section, the path by default. unit, equal: as in `describe`.

    Raises UsageError for a folder that is no LMDB, or one that was cut off.
    """
    section = Section(title or str(path))
    stored = [StoredImage(key.decode(errors="surrogateescape"), path, key) for key in _keys(path)]
    images = examine(stored, f"reading {path.name}", jobs=jobs, isolate=True)
    describe(section, images, unit, equal)
    check = LmdbCheck(section, images)
    section.problem(
        "{n} key{s} not ASCII, which plain BasicSR cannot ask for",
        (printable(name) for name in images.tasks if not name.isascii()),
        stops="everything",
    )
    lines = _meta_lines(path, section)
    if lines is not None:
        check.keys = [line.split(".")[0] for line in lines]  # as data/data_util.py:98
        _compare(section, images, lines)
    return check


def check_lmdbs(gt: Path, lq: Path, scale: int | None, *, bicubic: bool, jobs: int) -> list[Section]:
    """The reports on an HR and an LR LMDB, and on how they fit together for training; as `check_folders`."""
    gt_check = check_lmdb(gt, jobs=jobs, title=f"HR {gt}", unit="HR image")
    pairs = [(key, key) for key in sorted(set(gt_check.keys))]
    equal = known_equal(gt_check.images, pairs)
    lq_check = check_lmdb(lq, jobs=jobs, title=f"LR {lq}", unit="LR image", equal=equal)

    section = Section("HR and LR")
    check_keys(section, gt_check, lq_check)
    lq_keys = set(lq_check.keys)
    pairs = [pair for pair in pairs if pair[0] in lq_keys]
    found = check_pairs(section, pairs, gt_check.images, lq_check.images, scale, bicubic=bicubic, jobs=jobs)
    section.facts.insert(0, f"{counted('{n} pair{s}', len(pairs))}, scale {found or 'unknown'}")
    if stopped([section]) != "everything" and gt_check.keys and lq_check.keys:
        seen = len(paired_paths_from_lmdb([str(lq), str(gt)], ["lq", "gt"]))
        if seen != len(pairs):
            section.problem(f"BasicSR finds {counted('{n} pair{s}', seen)}", stops="everything")
    section.verdict = verdict_on_pairs((gt_check.section, lq_check.section, section))
    return [gt_check.section, lq_check.section, section]


def check_keys(section: Section, gt: LmdbCheck, lq: LmdbCheck) -> None:
    """Add to `section` the keys that only one of two LMDBs lists, at which BasicSR stops (data/data_util.py:100)."""
    for name, keys, others in (("HR", gt.keys, set(lq.keys)), ("LR", lq.keys, set(gt.keys))):
        lone = [printable(key) for key in dict.fromkeys(keys) if key not in others]
        section.problem(f"{{n}} key{{s}} listed in the {name} LMDB only", lone, stops="everything")


def _keys(path: Path) -> list[bytes]:
    """The keys of an LMDB, read in a process of their own, which a damaged file can kill. Raises UsageError."""
    summary = Summary()
    title = f"opening {path.name}"
    for _, found in successes(_list_keys, [_Database(path)], summary, jobs=1, title=title, unit="LMDB", isolate=True):
        if isinstance(found, str):
            raise UsageError(f"{path / 'data.mdb'}: {found}")
        if not found:
            raise UsageError(f"{path}: there are no images in it")
        return found
    raise UsageError(summary.failures[0])


def _list_keys(database: _Database) -> list[bytes] | str:
    """All keys in their order, or why they cannot be read."""
    data = database.source / "data.mdb"
    try:
        if not stat.S_ISREG(os.stat(data).st_mode):
            return "is not a regular file"
        environment = _environment(database.source)
        if (problem := truncation(database.source, environment)) is not None:
            return problem
        with environment.begin() as transaction, transaction.cursor() as cursor:
            return list(cursor.iternext(values=False))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except lmdb.Error as error:
        reason = str(error).removeprefix(f"{os.path.realpath(database.source)}: ")
        return f"cannot be read as an LMDB ({reason}); make it again"


def _meta_lines(path: Path, section: Section) -> list[str] | None:
    """The lines of an LMDB's meta_info.txt, or None where there are none, which `section` then says."""
    try:
        lines = (path / META_INFO).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        section.problem(f"its {META_INFO}, which BasicSR needs, cannot be read: {reason}", stops="everything")
        return None
    if not lines:
        section.problem(f"its {META_INFO} is empty: BasicSR would see no images", stops="everything")
        return None
    return lines


def _compare(section: Section, images: Images, lines: list[str]) -> None:
    """meta_info.txt against the data: keys both ways, and sizes."""
    cut, lost, sizes, listed = [], [], [], set()
    for line in lines:
        key = line.split(".")[0]
        # A name with dots was stored under all of it but its ending.
        whole = line.split(" (")[0].rpartition(".")[0]
        if key in images.tasks:
            listed.add(key)
            if (wrong := _wrong_size(line, images.looks.get(key))) is not None:
                sizes.append(f"{printable(key)}: {wrong}")
        elif whole in images.tasks:
            listed.add(whole)
            cut.append(f"{printable(whole)}: BasicSR asks for {printable(key)}")
        else:
            lost.append(printable(line))
    repeated = [printable(line) for line, count in Counter(line.split(".")[0] for line in lines).items() if count > 1]
    section.problem("{n} key{s} with a dot, at which BasicSR cuts", cut, stops="everything")
    section.problem(f"{{n}} line{{s}} of {META_INFO} without data", lost, stops="everything")
    section.problem(
        f"{{n}} key{{s}} not listed in {META_INFO}, so that BasicSR does not see the data",
        (printable(name) for name in images.tasks if name not in listed),
    )
    section.problem(f"{{n}} key{{s}} listed more than once in {META_INFO}", repeated)
    section.problem(f"{{n}} size{{s}} in {META_INFO} that the data does not have (height, width)", sizes)


def _wrong_size(line: str, look: Look | None) -> str | None:
    """What is wrong with a line's `(height,width,channels)`; None if nothing is, or nothing is known."""
    shape = line.rpartition("(")[2].partition(")")[0].split(",")
    if look is None:
        return None
    if len(shape) != 3 or not all(part.strip().isdigit() for part in shape):
        return "no size is listed"
    height, width = int(shape[0]), int(shape[1])
    return (
        None
        if (height, width) == (look.height, look.width)
        else (f"listed ({height},{width}), is ({look.height},{look.width})")
    )
