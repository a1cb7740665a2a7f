"""Meta-info texts: BasicSR's lists of HR names, and Real-ESRGAN's lists of pairs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rgt_arch.data.images import Size
from rgt_arch.data.inspect.folders import describe_pairing
from rgt_arch.data.inspect.lmdbs import is_lmdb
from rgt_arch.data.inspect.looks import Images, describe, examine_files
from rgt_arch.data.inspect.pairs import check_pairs, known_equal
from rgt_arch.data.inspect.report import Section, counted, verdict_on_pairs
from rgt_arch.data.pairing import MetaLine, guess_template, list_images, pair_names
from rgt_arch.errors import UsageError, printable

_BOM = "\ufeff"
_NAMES_TRIED = 50


@dataclass(frozen=True)
class Entry:
    """A line of a meta-info text; size: (height, width) of the HR image."""

    gt: str
    lq: str | None = None
    size: Size | None = None


def read_lines(text: Path) -> list[str]:
    """The lines of a meta-info text. Raises UsageError if it cannot be read or lists nothing."""
    try:
        if not text.is_file():
            raise UsageError(f"{text}: is not a regular file")
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


def check_meta_info(
    text: Path, root: Path | None, lq: Path | None, scale: int | None, *, bicubic: bool, jobs: int
) -> list[Section]:
    """The reports on a text's lines and HR images and, for pairs or with `lq`, on LR images and how they fit.

    root: the folder that names are relative to; None: the text's folder, or the one in it that has the files.
    lq: the folder of the LR images; for pairs the one that their names are relative to, by default `root`.
    scale, bicubic: as in `check_folders`. Raises UsageError for what is not text, and where no file is found.
    """
    section = Section(str(text))
    entries = read_entries(text, section)
    root = root or _find_root(text, [entry.gt for entry in entries], "--root")
    section.facts.append(f"files in {root}")
    gt_images = _examine(section, [entry.gt for entry in entries], root, jobs)
    describe(section, gt_images)
    _compare_sizes(section, entries, gt_images)
    other_files = _unlisted(root, [name for entry in entries for name in (entry.gt, entry.lq) if name], text)
    section.note(f"{{n}} file{{s}} in {root} that the list lacks", map(printable, other_files))

    pairs = [(entry.gt, entry.lq) for entry in entries if entry.lq is not None]
    if not pairs and lq is None:
        if scale is not None or bicubic:
            raise UsageError(f"{text}: lists no pairs; --scale and --bicubic need --lr, the folder of the LR images")
        return [section]
    pair_section, template = Section("HR and LR"), ""
    if pairs:
        lq = lq or _find_root(text, [name for _, name in pairs], "--lr")
    else:
        assert lq is not None
        pairs, template = _pairs_in_folder(entries, lq, pair_section)
    lq_section = Section(f"LR {lq}")
    lq_images = _examine(lq_section, [name for _, name in pairs], lq, jobs)
    describe(lq_section, lq_images, "LR image", known_equal(gt_images, pairs))
    found = check_pairs(pair_section, pairs, gt_images, lq_images, scale, bicubic=bicubic, jobs=jobs)
    pair_section.facts.insert(0, f"{counted('{n} pair{s}', len(pairs))}, scale {found or 'unknown'}{template}")
    pair_section.verdict = verdict_on_pairs((section, lq_section, pair_section))
    return [section, lq_section, pair_section]


def read_entries(text: Path, section: Section) -> list[Entry]:
    """The lines of a meta-info text; `section` gets what is wrong with them. Raises UsageError as `read_lines`."""
    if is_lmdb(text.absolute().parent):
        raise UsageError(f"{text}: belongs to an LMDB; check {text.parent} as a whole")
    lines = read_lines(text)
    if lines[0].startswith(_BOM):
        section.problem(
            "it starts with a byte order mark, which BasicSR takes for a part of the first name", stops="everything"
        )
        lines[0] = lines[0].removeprefix(_BOM)
    empty = [f"line {number}" for number, line in enumerate(lines, 1) if not line.strip()]
    section.problem("{n} empty line{s}, which BasicSR takes for images", empty, stops="everything")
    written = Counter(line.strip() for line in lines if line.strip())
    first = MetaLine.parse(next(iter(written)))
    is_pair_list = ", " in first.text and first.size is None
    section.facts.append(counted("{n} line{s}", len(lines)) + (", pairs (HR, LR)" if is_pair_list else ""))
    repeated = [printable(line) for line, count in written.items() if count > 1]
    section.problem("{n} line{s} given more than once", repeated)
    if is_pair_list:
        return _pairs(written, text, section)
    entries = [Entry(line.name, size=line.size) for line in map(MetaLine.parse, written)]
    cut = [printable(entry.gt) for entry in entries if " " in entry.gt]
    section.problem("{n} name{s} with a space, at which BasicSR cuts", cut, stops="everything")
    return entries


def _pairs(lines: Iterable[str], text: Path, section: Section) -> list[Entry]:
    good, bad = [], []
    for line in lines:
        names = line.split(", ")
        if len(names) == 2 and all(names):
            good.append(Entry(names[0], names[1]))
        else:
            bad.append(printable(line))
    if not good:
        raise UsageError(f"{text}: lists no pairs: no line reads 'HR name, LR name', the first one is {bad[0]!r}")
    section.problem("{n} line{s} that do not read 'HR name, LR name'", bad, stops="everything")
    return good


def _find_root(text: Path, names: Sequence[str], flag: str) -> Path:
    """Where the files are: beside the text, or in a folder beside it. Raises UsageError if they are not.

    flag: what the user can name the folder with.
    """
    here = text.parent
    beside = sorted(entry for entry in here.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    namesake = here / text.stem.removeprefix("meta_info_")  # of several folders with such names it is this one's list
    candidates = [here, *([namesake] if namesake in beside else []), *beside]

    def present(folder: Path) -> int:
        return sum((folder / name).is_file() for name in names[:_NAMES_TRIED])

    best = max(candidates, key=present)
    if not present(best):
        raise UsageError(f"{text}: {names[0]} is neither beside it nor in a folder beside it; give {flag} FOLDER")
    return best


def _compare_sizes(section: Section, entries: Sequence[Entry], images: Images) -> None:
    wrong = []
    for entry in entries:
        look = images.looks.get(entry.gt)
        if look is not None and entry.size is not None and entry.size != (look.height, look.width):
            height, width = entry.size
            wrong.append(f"{printable(entry.gt)}: listed ({height},{width}), is ({look.height},{look.width})")
    section.problem("{n} size{s} that the image does not have (height, width)", wrong)


def _examine(section: Section, names: Sequence[str], root: Path, jobs: int) -> Images:
    """The images of a list; missing ones are reported apart from damaged ones."""
    present = {name: os.path.lexists(root / name) for name in names}
    missing = [printable(name) for name, found in present.items() if not found]
    section.problem(f"{{n}} file{{s}} missing in {root}", missing, stops="everything")
    return examine_files(root, [name for name, found in present.items() if found], jobs=jobs)


def _unlisted(root: Path, names: Iterable[str], text: Path) -> list[str]:
    """Files that lie beside listed ones and are not listed themselves."""
    listed = {PurePosixPath(name).as_posix() for name in names}
    folders = sorted({PurePosixPath(name).parent for name in listed})
    found = [
        (folder / name).as_posix()
        for folder in folders
        if (root / folder).is_dir()
        for name in list_images(root / folder)
    ]
    return [name for name in found if name not in listed and (root / name) != text]


def _pairs_in_folder(entries: Sequence[Entry], lq: Path, section: Section) -> tuple[list[tuple[str, str]], str]:
    """The LR images in a folder that belong to a list of HR names, and a text about the template that fits."""
    if not lq.is_dir():
        raise UsageError(f"{lq}: no such folder")
    # BasicSR looks for LR images in that very folder, whatever the HR names' folders (data/data_util.py:153).
    owners = {PurePosixPath(entry.gt).name: entry.gt for entry in entries}
    counts = Counter(PurePosixPath(entry.gt).name for entry in entries)
    same = [printable(name) for name, count in counts.items() if count > 1]
    section.problem("{n} HR name{s} in more than one folder, for which BasicSR takes the same LR image", same)
    names = list_images(lq)
    pairing = pair_names(owners, names, guess_template(owners, names) or "{}")
    section.note("{n} LR image{s} that the list does not ask for", map(printable, pairing.lone_lq))
    pairing.lone_lq.clear()
    describe_pairing(section, pairing)
    return [(owners[gt], name) for gt, name in pairing.pairs], f", filename_tmpl: '{pairing.template}'"
