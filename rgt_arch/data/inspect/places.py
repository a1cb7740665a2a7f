"""The three places that hold images: folders, LMDB folders, and text files that list images of a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import lmdb

from rgt_arch.data.images import Size, find_files
from rgt_arch.data.inspect.looks import Images, Stored, describe, examine
from rgt_arch.data.inspect.report import Section, counted
from rgt_arch.data.lmdb_reader import check_keys, open_lmdb
from rgt_arch.data.pairing import MetaLine, list_images, spread
from rgt_arch.data.parallel import Summary, successes
from rgt_arch.errors import UsageError, printable

META_INFO = "meta_info.txt"
_MAKE = "make it again with `rgt prepare lmdb`"
_BOM = "\ufeff"
_NAMES_TRIED = 50


def is_lmdb(path: Path) -> bool:
    """Whether a folder is an LMDB by its name, as BasicSR decides."""
    return path.name.endswith(".lmdb")


def list_names(place: Path) -> list[str]:
    """The names of a place's images: files below a folder, LMDBs apart, or the keys in an LMDB's meta_info.txt.

    Raises UsageError for a folder without images. An LMDB without a list has no names: `check_place` reports it.
    """
    if is_lmdb(place):
        try:
            return list(dict.fromkeys(line.key for line in read_meta_info(place)))
        except UsageError:
            return []
    files = [path.relative_to(place) for path in find_files(place)]
    names = [file.as_posix() for file in files if not any(is_lmdb(folder) for folder in file.parents)]
    if not names:
        raise UsageError(f"{place}: holds LMDBs only; check one of them")
    return names


def check_place(
    section: Section,
    place: Path,
    names: Sequence[str],
    *,
    jobs: int,
    unit: str = "image",
    equal: Collection[frozenset[str]] = (),
) -> Images:
    """Look at the images of these names in a folder, or at all images of an LMDB, and add to `section` what they are.

    unit, equal: as in `describe`. Raises UsageError for an LMDB that cannot be read.
    """
    images = examine(place, _keys(place) if is_lmdb(place) else names, jobs=jobs, in_lmdb=is_lmdb(place))
    describe(section, images, unit, equal)
    if is_lmdb(place):
        _check_meta_info(section, images)
    return images


def check_names(section: Section, names: Sequence[str]) -> None:
    """Add to `section` the file names of a folder that BasicSR does not find, or takes for others."""
    if deeper := sum("/" in name for name in names):
        section.note(
            f"{deeper} of {len(names)} files are in sub-folders, which BasicSR does not look into: list them with "
            "`rgt prepare meta`, or make an LMDB"
        )
    text = "{n} name{s} with a space, at which BasicSR cuts the names of a meta-info text"
    section.note(text, (name for name in names if " " in name))
    stems = Counter(os.path.splitext(name)[0] for name in names)
    text = "{n} name{s} used with more than one ending: results of validation would overwrite each other"
    section.note(text, (stem for stem, count in stems.items() if count > 1))


def read_meta_info(path: Path) -> list[MetaLine]:
    """The lines of an LMDB's meta_info.txt. Raises UsageError if there are none."""
    try:
        return [MetaLine.parse(line) for line in read_lines(path / META_INFO)]
    except UsageError as error:
        raise UsageError(
            f"its {META_INFO}, which BasicSR needs, {str(error).removeprefix(f'{path / META_INFO}: ')}"
        ) from error


def read_keys(path: Path, sample: int) -> dict[str, Size]:
    """The sizes of an LMDB's images by key, (0, 0) if unknown, from meta_info.txt; looks up `sample` of the keys.

    Raises UsageError for an LMDB that BasicSR cannot read.
    """
    for name in ("data.mdb", META_INFO):
        if not (path / name).is_file() or not (path / name).stat().st_size:
            what = f"its {name} is empty" if (path / name).is_file() else f"holds no {name}"
            raise UsageError(f"{what}; {_MAKE}")
    sizes: dict[str, Size] = {}
    for line in read_meta_info(path):
        if line.key in sizes or not line.key.isascii():
            why = "not ASCII" if line.key not in sizes else "used twice (keys end at the first dot of a name)"
            raise UsageError(f"the key {line.key!r} is {why}; rename the images and make it again")
        sizes[line.key] = line.size or (0, 0)
    try:
        check_keys(str(path), spread(list(sizes), sample))
    except UsageError as error:
        raise UsageError(str(error).removeprefix(f"{path}: ")) from error
    return sizes


def _keys(path: Path) -> list[str]:
    """The keys of an LMDB, read in a process of their own, which a damaged file can kill. Raises UsageError."""
    if not (path / "data.mdb").is_file():  # opening a FIFO would wait for ever
        raise UsageError(f"{path}: holds no data.mdb that is a file; {_MAKE}")
    summary, title = Summary(), f"opening {path.name}"
    for _, found in successes(_list_keys, [Stored(path, "")], summary, jobs=1, title=title, unit="LMDB", isolate=True):
        if isinstance(found, str):
            raise UsageError(found)
        if not found:
            raise UsageError(f"{path}: there are no images in it")
        return found
    raise UsageError(summary.failures[0])


def _list_keys(image: Stored) -> list[str] | str:
    """All keys in their order, or why they cannot be read."""
    try:
        with open_lmdb(os.path.realpath(image.place)).begin() as transaction, transaction.cursor() as cursor:
            return [key.decode(errors="surrogateescape") for key in cursor.iternext(values=False)]
    except UsageError as error:
        return str(error)
    except lmdb.Error as error:
        return f"{image.place}: is damaged ({error}); {_MAKE}"


def _check_meta_info(section: Section, images: Images) -> None:
    """Compare an LMDB's meta_info.txt with its data, both ways."""
    odd = [name for name in images.names if not name.isascii()]
    section.problem("{n} key{s} not ASCII, which plain BasicSR cannot ask for", odd, stops="everything")
    try:
        lines = read_meta_info(images.place)
    except UsageError as error:
        section.problem(str(error), stops="everything")
        return
    present = set(images.names)
    whole = {line.text: line.name.rpartition(".")[0] for line in lines}  # the key of a name with dots, made by others
    cut = [line for line in lines if line.key not in present and whole[line.text] in present]
    text = "{n} key{s} with a dot, at which BasicSR cuts"
    section.problem(text, (f"{whole[line.text]}: BasicSR asks for {line.key}" for line in cut), stops="everything")
    lost = [line.text for line in lines if line.key not in present and whole[line.text] not in present]
    section.problem(f"{{n}} line{{s}} of {META_INFO} without data", lost, stops="everything")
    listed = {*(line.key for line in lines), *(whole[line.text] for line in cut)}
    text = f"{{n}} key{{s}} not listed in {META_INFO}, so that BasicSR does not see the data"
    section.problem(text, (name for name in images.names if name not in listed))
    section.problem(f"{{n}} key{{s}} listed more than once in {META_INFO}", _repeated(line.key for line in lines))
    check_sizes(section, images, {line.key: line.size or (0, 0) for line in lines})


def check_sizes(section: Section, images: Images, listed: Mapping[str, Size | None]) -> None:
    """Add to `section` the images whose listed size is not theirs."""
    wrong = []
    for name, size in listed.items():
        look = images.looks.get(name)
        if look is not None and size is not None and size != look.size:
            wrong.append(f"{name}: listed ({size[0]},{size[1]}), is ({look.size[0]},{look.size[1]})")
    section.problem("{n} listed size{s} that the image does not have (height, width)", wrong)


def _repeated(items: Iterable[str]) -> list[str]:
    return [item for item, count in Counter(items).items() if count > 1]


@dataclass(frozen=True)
class Entry:
    """A line of a meta-info text; size: (height, width) of the HR image."""

    gt: str
    lq: str | None = None
    size: Size | None = None


def read_lines(text: Path) -> list[str]:
    """The lines of a meta-info text. Raises UsageError if it cannot be read or lists nothing."""
    try:
        if not text.is_file():  # opening a FIFO would wait for ever
            raise UsageError(f"{text}: cannot be read (no such regular file)")
        content = text.read_bytes()
        if b"\0" in content:
            raise UsageError(f"{text}: is not text; write one image name a line, or make it with `rgt prepare meta`")
        lines = content.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"{text}: cannot be read ({reason})") from error
    if not any(line.strip() for line in lines):
        raise UsageError(f"{text}: is empty; write one image name a line")
    return lines


def read_entries(text: Path, section: Section) -> list[Entry]:
    """The lines of a meta-info text; `section` gets what is wrong with them. Raises UsageError as `read_lines`."""
    if is_lmdb(text.absolute().parent):
        raise UsageError(f"{text}: belongs to an LMDB; check {text.parent} as a whole")
    lines = read_lines(text)
    if lines[0].startswith(_BOM):
        what = "it starts with a byte order mark, which BasicSR takes for a part of the first name"
        section.problem(what, stops="everything")
        lines[0] = lines[0].removeprefix(_BOM)
    empty = [f"line {number}" for number, line in enumerate(lines, 1) if not line.strip()]
    section.problem("{n} empty line{s}, which BasicSR takes for images", empty, stops="everything")
    written = [line.strip() for line in lines if line.strip()]
    section.problem("{n} line{s} given more than once", _repeated(written))
    written = list(dict.fromkeys(written))
    parsed = [MetaLine.parse(line) for line in written]
    is_pair_list = ", " in written[0] and parsed[0].size is None
    section.facts.append(counted("{n} line{s}", len(lines)) + (", pairs (HR, LR)" if is_pair_list else ""))
    if not is_pair_list:
        cut = [line.name for line in parsed if " " in line.name]
        section.problem("{n} name{s} with a space, at which BasicSR cuts", cut, stops="everything")
        return [Entry(line.name, size=line.size) for line in parsed]
    pairs = {line: line.split(", ") for line in written}
    good = [Entry(names[0], names[1]) for names in pairs.values() if len(names) == 2 and all(names)]
    bad = [line for line, names in pairs.items() if len(names) != 2 or not all(names)]
    if not good:
        raise UsageError(
            f"{text}: lists no pairs: no line reads 'HR name, LR name', the first one is {printable(bad[0])!r}"
        )
    section.problem("{n} line{s} that do not read 'HR name, LR name'", bad, stops="everything")
    return good


def find_root(text: Path, names: Sequence[str], flag: str) -> Path:
    """Where the files are: beside the text, or in a folder beside it. Raises UsageError if they are not.

    flag: what the user can name the folder with.
    """
    here = text.parent
    beside = sorted(entry for entry in here.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    namesake = here / text.stem.removeprefix("meta_info_")  # of several folders with such names it is this one's list
    candidates = [here, *([namesake] if namesake in beside else []), *beside]
    counts = {folder: sum((folder / name).is_file() for name in names[:_NAMES_TRIED]) for folder in candidates}
    best = max(candidates, key=lambda folder: counts[folder])
    if not counts[best]:
        raise UsageError(f"{text}: {names[0]} is neither beside it nor in a folder beside it; give {flag} FOLDER")
    return best


def present_names(section: Section, names: Iterable[str], root: Path) -> list[str]:
    """The listed files that are there, each once; `section` gets the missing ones."""
    there = {name: os.path.lexists(root / name) for name in names}
    missing = [name for name, is_there in there.items() if not is_there]
    section.problem(f"{{n}} file{{s}} missing in {root}", missing, stops="everything")
    return [name for name, is_there in there.items() if is_there]


def unlisted(root: Path, names: Iterable[str], text: Path) -> list[str]:
    """Files beside listed ones that the list lacks."""
    listed = {PurePosixPath(name).as_posix() for name in names}
    folders = sorted({PurePosixPath(name).parent for name in listed})
    found = [folder / name for folder in folders if (root / folder).is_dir() for name in list_images(root / folder)]
    return [file.as_posix() for file in found if file.as_posix() not in listed and root / file != text]
