"""Pair HR and LR images: by one template for a whole folder, by the lines of a list, or by the keys of LMDBs.

BasicSR applies exactly one template (`filename_tmpl`, data/data_util.py:145 and :189). `guess_template` finds it for
two folders from the command line. Every function takes time linear in the number of files.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import string
import urllib.parse
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar

from rgt_arch.data.images import passed_over_by_suffix, walk_files
from rgt_arch.errors import UsageError, UserError

# Formats that OpenCV decodes.
_FORMATS = "png jpg jpeg jpe jp2 bmp dib tif tiff webp avif ppm pgm pbm pnm pxm sr ras exr hdr pic gif"
IMAGE_SUFFIXES = frozenset(f".{name}" for name in _FORMATS.split())
MAX_KEY_BYTES = 511  # LMDB's own limit
# `quote` never encodes letters, digits and "_.-~". The other visible ASCII characters are kept too, except "%".
_KEPT = "".join(sorted(set(string.punctuation) - set("%.")))
_SHORTENED = "%~"  # unique to shortened keys: in other keys two hexadecimal digits follow every "%"
_USUAL = (("", ""), ("", "x2"), ("", "x3"), ("", "x4"), ("", "x8"))  # before and after the HR name
_NAMES_TRIED, _TEMPLATES_TRIED = 256, 16
_META_LINE = re.compile(r"(?: \((\d+), ?(\d+)(?:, ?\d+)?\))?(?: (\d+))?$")
T = TypeVar("T")


class PairingError(ValueError):
    """Names that cannot be paired; `key` is the option to correct."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Pair:
    """The files of an HR image and its LR image. name: HR's."""

    name: str
    gt: Path
    lq: Path


@dataclass(frozen=True)
class Pairing:
    """Paired names of two folders. All lists are in the order of the HR names, `lone_lq` in that of the LR names."""

    template: str
    pairs: list[tuple[str, str]]
    """(HR name, LR name) with the same suffix, as BasicSR requires (data/data_util.py:202)."""
    other_suffix: list[tuple[str, str]]
    """Pairs whose suffixes differ."""
    lone_gt: list[str]
    lone_lq: list[str]

    @property
    def all_pairs(self) -> list[tuple[str, str]]:
        """All pairs, for readers that do not require equal suffixes."""
        return sorted([*self.pairs, *self.other_suffix])

    def files(self, gt: Path, lq: Path) -> list[Pair]:
        """Return the pairs with equal suffixes as files of two folders."""
        return [Pair(name, gt / name, lq / partner) for name, partner in self.pairs]


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return at most `count` evenly spread items, the first and the last included."""
    if len(items) <= count:
        return list(items)
    return [items[index * (len(items) - 1) // (count - 1)] for index in range(count)]


def list_images(folder: Path) -> list[str]:
    """Return the files that BasicSR's `scandir` takes for images: all except hidden ones, no sub-folders, sorted.

    Raises UsageError if the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())
    except OSError as error:
        raise UsageError(f"{folder}: cannot be listed ({error.strerror})") from error


def images_below(folder: Path, passed_over: list[Path] | None = None) -> list[str]:
    """Return the names of the image files below a folder, judged by their suffix, in the order of `lmdb_key`.

    They are relative to the folder, with "/". passed_over: gets the other files. Raises UsageError for a folder that
    is missing, unreadable or without images.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; correct the name")
    files = sorted(walk_files(folder))  # two images with one key keep this order
    images = [file.relative_to(folder).as_posix() for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    others = [file for file in files if file.suffix.lower() not in IMAGE_SUFFIXES]
    if not images:
        raise UsageError(f"{folder}: {no_images(others)}")
    if passed_over is not None:
        passed_over += others
    return sorted(images, key=lambda name: lmdb_key(PurePath(name)))


def no_images(passed_over: Iterable[Path] = ()) -> str:
    """Return the message for a folder without images."""
    return f"there are no images in it; {passed_over_by_suffix(passed_over) or 'fill it or correct the path'}"


def lq_name(gt_name: str, template: str) -> str:
    """Return the LR name for an HR name, in the same sub-folder. Raises PairingError for an invalid template."""
    folder, slash, name = gt_name.rpartition("/")
    stem, suffix = os.path.splitext(name)
    with contextlib.suppress(IndexError, KeyError, ValueError):
        if stem in (found := template.format(stem)):
            return f"{folder}{slash}{found}{suffix}"
    raise PairingError("filename_tmpl", "is not a template; it needs one {} for the HR name: '{}x4'")


def pair_names(gt: Iterable[str], lq: Iterable[str], template: str) -> Pairing:
    """Pair file names, which may include sub-folders ("/"). Raises PairingError as `lq_name` does."""
    left = dict.fromkeys(sorted(lq))
    pairing, waiting = Pairing(template, [], [], [], []), []
    for name in sorted(gt):
        wanted = lq_name(name, template)
        if wanted in left:
            del left[wanted]
            pairing.pairs.append((name, wanted))
        else:
            waiting.append((name, _stem(wanted)))
    by_stem: dict[str, list[str]] = {}
    for name in left:
        by_stem.setdefault(_stem(name), []).append(name)
    for name, stem in waiting:
        others = by_stem.pop(stem, [])
        if len(others) == 1:
            pairing.other_suffix.append((name, others[0]))
            del left[others[0]]
        else:  # no candidate, or several
            pairing.lone_gt.append(name)
    pairing.lone_lq.extend(left)
    return pairing


def guess_template(gt: Collection[str], lq: Collection[str]) -> str | None:
    """Return the shortest template that pairs the most names, with any suffixes; None if none pairs two names.

    The template is the text around the HR name: 'baby_LRBI_x2.png' with 'baby.png' gives '{}_LRBI_x2'.
    """
    stems, present = {_stem(name) for name in gt}, {_stem(name) for name in lq}
    found = Counter(dict.fromkeys(_USUAL, 1))
    for lq_stem in spread(sorted(present), _NAMES_TRIED):
        folder, slash, name = lq_stem.rpartition("/")
        cuts = itertools.combinations(range(len(name) + 1), 2)
        found.update((name[:i], name[j:]) for i, j in cuts if f"{folder}{slash}{name[i:j]}" in stems)
    parts = [stem.rpartition("/") for stem in stems]
    counts = {
        (before, after): sum(f"{folder}{slash}{before}{name}{after}" in present for folder, slash, name in parts)
        for before, after in {*(around for around, _ in found.most_common(_TEMPLATES_TRIED)), *_USUAL}
    }
    best = min(counts, key=lambda around: (-counts[around], len("".join(around)), around))
    return "{}".join(re.sub(r"[{}]", r"\g<0>\g<0>", part) for part in best) if counts[best] else None


def is_result_of(name: str, hr_name: str) -> bool:
    """Whether a file has the name of an HR image, perhaps with an ending: baby.png, baby_x4.png, babyx4.png.

    For results of a single image, for which no folder exists to guess a template from. Case is ignored.
    """
    ending = re.compile(rf"{re.escape(_stem(hr_name))}(?:[^0-9A-Za-z].*|x\d+.*)?", re.IGNORECASE)
    return ending.fullmatch(_stem(name)) is not None


def pairs_from_folders(names_gt: list[str], names_lq: list[str], gt: Path, lq: Path, template: str) -> list[Pair]:
    """Pair two folder listings as BasicSR does. Raises PairingError for names without a partner, with a remedy."""
    found = pair_names(names_gt, names_lq, template)
    require_partners(found, names_gt, names_lq, gt)
    return found.files(gt, lq)


def require_partners(found: Pairing, names_gt: Collection[str], names_lq: Collection[str], gt: Path) -> None:
    """Raise PairingError, with a remedy, if names of two folders have no partner of the same suffix.

    found: the pairing of these names. gt: the HR folder, for the message.
    """
    template = found.template
    missing = sorted([*found.lone_gt, *(name for name, _ in found.other_suffix)])
    spare = sorted([*found.lone_lq, *(name for _, name in found.other_suffix)])
    if not missing and not spare:
        return
    lone = [f"{missing[0]} has no LR image {lq_name(missing[0], template)}"] if missing else []
    lone += [f"{spare[0]} has no HR image"] if spare else []
    other = guess_template(names_gt, names_lq) or template
    key, hint = "dataroot_lq", "rename, add or remove images"
    if other != template and 2 * len(pair_names(names_gt, names_lq, other).all_pairs) > len(names_gt):
        key, hint = "filename_tmpl", f"set filename_tmpl: '{other}'"
    elif found.other_suffix:
        hint = "the endings must be the same: save the LR images in the format of the HR images"
    count = f"the LR folder holds {len(names_lq)} images for {len(names_gt)} HR images in {gt}"
    raise PairingError(key, f"{count}; by filename_tmpl {template!r}, {'; '.join(lone)}; {hint}")


def read_list(file: Path) -> list[str]:
    """Read the lines of a meta-info text. Raises UsageError if it cannot be read or has an empty line."""
    try:
        if not file.is_file():  # opening a FIFO would wait for ever
            what = "is a folder, not a file" if file.is_dir() else "no such regular file"
            raise UsageError(f"{file}: {what}; correct the path")
        lines = file.read_text("utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{file}: is not text in UTF-8; write one image name a line, or make it with `rgt prepare meta`"
        ) from error
    if not any(map(str.strip, lines)):
        raise UsageError(f"{file}: is empty; write one image name a line")
    if empty := next((number for number, line in enumerate(lines, 1) if not line.strip()), 0):
        raise UsageError(f"{file}: line {empty} is empty, which BasicSR takes for an image; remove it")
    return lines


def pairs_from_meta_info(lines: Sequence[str], template: str, comma: bool) -> Pairing:
    """Pair the lines of a meta-info file: 'NAME (h,w,c)', or, with `comma`, 'HR NAME, LR NAME'.

    Without `comma`, LR images are in the LR folder itself, even if HR names have sub-folders (data/data_util.py:151).
    """
    pairs = []
    for number, line in enumerate(lines, 1):
        if comma:
            names = line.strip().split(", ")
            if len(names) != 2 or not all(names):
                raise PairingError("meta_info", f"line {number} is not 'HR name, LR name'; correct it")
            pairs.append((names[0], names[1]))
        else:
            name = line.strip().split(" ")[0]
            pairs.append((name, lq_name(os.path.basename(name), template)))
    return Pairing(template, pairs, [], [], [])


@dataclass(frozen=True)
class MetaLine:
    """A line of BasicSR's meta-info texts: `name (height,width,channels) compression`. Only the name is required."""

    key: str
    """The LMDB key that BasicSR reads: the line up to its first dot (data/data_util.py:142)."""
    size: tuple[int, int] | None
    """(height, width)"""
    compression: int | None

    @classmethod
    def parse(cls, text: str) -> MetaLine:
        """Parse a line. Text that does not fit the format is part of the name."""
        match = _META_LINE.search(text)
        assert match is not None  # every part is optional
        height, width, level = match.groups()
        return cls(text.split(".")[0], (int(height), int(width)) if height else None, int(level) if level else None)


def lmdb_key(name: PurePath, ending: str = "") -> str:
    """Return the key of an image: its path in its folder, without suffix, joined by "/" as in BasicSR's Vimeo keys.

    Visible ASCII is kept: 0001_s001.png has the key 0001_s001. Dots, at which BasicSR ends a key
    (data/data_util.py:142), spaces, "%", control and non-ASCII characters become "%" and two hexadecimal digits per
    UTF-8 byte. Different names have different keys; keys above 511 bytes are cut and end with a SHA-256.
    ending: removed from the end of the stem, such as "x2".
    Raises UserError if the stem does not end with it or is nothing else.
    """
    if not name.stem.endswith(ending) or name.stem == ending:
        raise UserError(f"{name}: its name does not end with {ending!r} after a name, as --ending asks")
    text = "/".join((*name.parent.parts, name.stem.removesuffix(ending)))
    encoded = text.encode("utf-8", "surrogateescape")  # names that are not UTF-8 come as surrogates
    key = urllib.parse.quote(encoded, safe=_KEPT).replace(".", "%2E")
    if len(key) <= MAX_KEY_BYTES:
        return key
    digest = _SHORTENED + hashlib.sha256(encoded).hexdigest()
    return key[: MAX_KEY_BYTES - len(digest)] + digest


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
