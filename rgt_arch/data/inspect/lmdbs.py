"""LMDB folders: data.mdb against meta_info.txt, both ways, and each image in it."""

from __future__ import annotations

import functools
import os
import stat
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmdb

from rgt_arch.data import lmdb_reader
from rgt_arch.data.images import Size
from rgt_arch.data.inspect.looks import Images, describe, examine
from rgt_arch.data.inspect.pairs import check_pairs, known_equal
from rgt_arch.data.inspect.report import Section, counted, verdict_on_pairs
from rgt_arch.data.pairing import MetaLine, spread
from rgt_arch.data.parallel import Summary, successes
from rgt_arch.errors import UsageError, UserError, printable

META_INFO = "meta_info.txt"
_MAKE = "make it again with `rgt prepare lmdb`"


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
    """The LMDB, opened in a worker process only: lmdb opens no path that was open before a fork."""
    return lmdb.open(os.path.realpath(path), readonly=True, lock=False, readahead=False, create=False)


def is_lmdb(path: Path) -> bool:
    """Whether a folder is an LMDB by its name, as BasicSR decides."""
    return path.name.endswith(".lmdb")


def read_meta_info(path: Path) -> list[MetaLine]:
    """The lines of an LMDB's meta_info.txt. Raises UsageError if there are none."""
    try:
        lines = (path / META_INFO).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"its {META_INFO}, which BasicSR needs, cannot be read: {reason}") from error
    if not lines:
        raise UsageError(f"its {META_INFO} is empty: BasicSR would see no images")
    return [MetaLine.parse(line) for line in lines]


def read_keys(path: Path, sample: int) -> dict[str, Size]:
    """The sizes of an LMDB's images by key, (0, 0) if unknown, from meta_info.txt; looks up `sample` of the keys.

    Raises UsageError for an LMDB that BasicSR cannot read.
    """
    for name in ("data.mdb", META_INFO):
        if not (path / name).is_file():
            raise UsageError(f"holds no {name}; {_MAKE}")
        if not (path / name).stat().st_size:
            raise UsageError(f"its {name} is empty; {_MAKE}")
    sizes: dict[str, Size] = {}
    for line in read_meta_info(path):
        if line.key in sizes or not line.key.isascii():
            why = "not ASCII" if line.key not in sizes else "used twice (keys end at the first dot of a name)"
            raise UsageError(f"the key {line.key!r} is {why}; rename the images and make it again")
        sizes[line.key] = line.size or (0, 0)
    try:
        lmdb_reader.check(str(path), spread(list(sizes), sample))
    except UsageError as error:
        raise UsageError(str(error).removeprefix(f"{path}: ")) from error
    return sizes


def check_lmdb(
    path: Path, *, jobs: int, title: str = "", unit: str = "image", equal: Collection[frozenset[str]] = ()
) -> LmdbCheck:
    """The report on an LMDB folder. title: of the section, the path by default. unit, equal: as in `describe`.

    Raises UsageError for a folder that is not an LMDB, or one that was cut off.
    """
    section = Section(title or str(path))
    stored = [StoredImage(key.decode(errors="surrogateescape"), path, key) for key in _keys(path)]
    images = examine(stored, f"reading {path.name}", jobs=jobs, isolate=True)
    describe(section, images, unit, equal)
    check = LmdbCheck(section, images)
    odd = [printable(name) for name in images.tasks if not name.isascii()]
    section.problem("{n} key{s} not ASCII, which plain BasicSR cannot ask for", odd, stops="everything")
    try:
        lines = read_meta_info(path)
    except UsageError as error:
        section.problem(str(error), stops="everything")
        return check
    check.keys = [line.key for line in lines]
    _compare(section, images, lines)
    return check


def check_lmdb_pair(
    section: Section, gt: Path, lq: Path, titles: Sequence[str], *, jobs: int
) -> tuple[LmdbCheck, LmdbCheck, list[tuple[str, str]]]:
    """The reports on an HR and an LR LMDB, and the keys that both list; `section` gets those that only one lists."""
    gt_check = check_lmdb(gt, jobs=jobs, title=titles[0], unit="HR image")
    pairs = [(key, key) for key in sorted(set(gt_check.keys))]
    equal = known_equal(gt_check.images, pairs)
    lq_check = check_lmdb(lq, jobs=jobs, title=titles[1], unit="LR image", equal=equal)
    gt_keys, lq_keys = set(gt_check.keys), set(lq_check.keys)
    for name, keys, others in (("HR", gt_check.keys, lq_keys), ("LR", lq_check.keys, gt_keys)):
        lone = [printable(key) for key in dict.fromkeys(keys) if key not in others]
        section.problem(f"{{n}} key{{s}} listed in the {name} LMDB only", lone, stops="everything")
    return gt_check, lq_check, [pair for pair in pairs if pair[0] in lq_keys]


def check_lmdbs(gt: Path, lq: Path, scale: int | None, *, bicubic: bool, jobs: int) -> list[Section]:
    """The reports on an HR and an LR LMDB, and on how they fit together for training; as `check_folders`."""
    section = Section("HR and LR")
    gt_check, lq_check, pairs = check_lmdb_pair(section, gt, lq, (f"HR {gt}", f"LR {lq}"), jobs=jobs)
    found = check_pairs(section, pairs, gt_check.images, lq_check.images, scale, bicubic=bicubic, jobs=jobs)
    section.facts.insert(0, f"{counted('{n} pair{s}', len(pairs))}, scale {found or 'unknown'}")
    section.verdict = verdict_on_pairs((gt_check.section, lq_check.section, section))
    return [gt_check.section, lq_check.section, section]


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
        if (problem := lmdb_reader.truncation(database.source, environment)) is not None:
            return problem
        with environment.begin() as transaction, transaction.cursor() as cursor:
            return list(cursor.iternext(values=False))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except lmdb.Error as error:
        reason = str(error).removeprefix(f"{os.path.realpath(database.source)}: ")
        return f"cannot be read as an LMDB ({reason}); make it again"


def _compare(section: Section, images: Images, lines: list[MetaLine]) -> None:
    """meta_info.txt against the data: keys both ways, and sizes."""
    cut, lost, sizes, listed = [], [], [], set()
    for line in lines:
        whole = line.name.rpartition(".")[0]  # a name with dots was stored under all of it except its suffix
        look = images.looks.get(line.key)
        if line.key in images.tasks:
            listed.add(line.key)
            if look is not None and line.size is None:
                sizes.append(f"{printable(line.key)}: no size is listed")
            elif look is not None and line.size != (look.height, look.width):
                height, width = line.size or (0, 0)
                sizes.append(f"{printable(line.key)}: listed ({height},{width}), is ({look.height},{look.width})")
        elif whole in images.tasks:
            listed.add(whole)
            cut.append(f"{printable(whole)}: BasicSR asks for {printable(line.key)}")
        else:
            lost.append(printable(line.text))
    repeated = [printable(key) for key, count in Counter(line.key for line in lines).items() if count > 1]
    unlisted = [printable(name) for name in images.tasks if name not in listed]
    section.problem("{n} key{s} with a dot, at which BasicSR cuts", cut, stops="everything")
    section.problem(f"{{n}} line{{s}} of {META_INFO} without data", lost, stops="everything")
    section.problem(f"{{n}} key{{s}} not listed in {META_INFO}, so that BasicSR does not see the data", unlisted)
    section.problem(f"{{n}} key{{s}} listed more than once in {META_INFO}", repeated)
    section.problem(f"{{n}} size{{s}} in {META_INFO} that the data does not have (height, width)", sizes)
