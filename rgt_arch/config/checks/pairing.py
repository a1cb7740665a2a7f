"""Pairing HR and LR file names as BasicSR does (data/data_util.py:106 and :145), naming the odd ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

# What OpenCV decodes.
IMAGE_SUFFIXES = frozenset(
    f".{name}"
    for line in (
        "png jpg jpeg jpe jp2 bmp dib tif tiff webp avif",
        "ppm pgm pbm pnm pxm sr ras exr hdr pic gif",
    )
    for name in line.split()
)
T = TypeVar("T")


@dataclass(frozen=True)
class Pair:
    """An HR image and its LR image; `line` is the one of the meta-info file, 0 without."""

    name: str
    gt: Path
    lq: Path
    line: int


class PairingError(ValueError):
    """Names that cannot be paired; `key` is the option to correct."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[index * (len(items) - 1) // (count - 1)] for index in range(count)]


def list_images(folder: Path) -> list[str]:
    """The files BasicSR's `scandir` takes for images: all that are not hidden, this folder only, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())


def lq_name(gt_name: str, template: str) -> str:
    """The LR file name that belongs to an HR file name. Raises PairingError for a template that is none."""
    stem, suffix = os.path.splitext(os.path.basename(gt_name))
    try:
        return template.format(stem) + suffix
    except (IndexError, KeyError, ValueError) as error:
        raise PairingError("filename_tmpl", "is no template; it needs one {} for the HR name: '{}x4'") from error


def pairs_from_folders(names_gt: list[str], names_lq: list[str], gt: Path, lq: Path, template: str) -> list[Pair]:
    """Pair two folder listings. Raises PairingError for counts that differ and names without a partner."""
    wanted = {lq_name(name, template): name for name in names_gt}
    if len(wanted) < len(names_gt):
        raise PairingError("filename_tmpl", "gives several HR images the same LR image; it needs one {}: '{}x4'")
    present = set(names_lq)
    missing = [name for name in wanted if name not in present]
    spare = [name for name in names_lq if name not in wanted]
    other = _likely_template(names_gt, spare, template) if 2 * len(missing) > len(names_gt) else None
    if missing and len(names_gt) == len(names_lq):
        raise PairingError(
            "filename_tmpl" if other else "dataroot_lq",
            f"filename_tmpl {template!r} finds no LR image for {len(missing)} of {len(names_gt)} HR images: "
            f"{wanted[missing[0]]} needs {missing[0]} in {lq}, where there is {spare[0]}; "
            + (f"set filename_tmpl: '{other}'" if other else _rename_hint(missing, spare)),
        )
    if missing or spare:
        lone = [f"{wanted[missing[0]]} has no LR image {missing[0]}"] if missing else []
        lone += [f"{spare[0]} has no HR image"] if spare else []
        hint = f"set filename_tmpl: '{other}' and add or remove images" if other else "add or remove images"
        raise PairingError(
            "dataroot_lq",
            f"holds {len(names_lq)} images for {len(names_gt)} HR images in {gt} ({'; '.join(lone)}); {hint}",
        )
    return [Pair(name, gt / name, lq / wanted_name, 0) for wanted_name, name in wanted.items()]


def pairs_from_meta_info(lines: list[tuple[int, str]], gt: Path, lq: Path, template: str, comma: bool) -> list[Pair]:
    """Pair the lines of a meta-info file: 'NAME (h,w,c)', or, with `comma`, 'HR NAME, LR NAME'."""
    pairs = []
    for number, line in lines:
        if comma:
            names = line.strip().split(", ")
            if len(names) != 2:
                raise PairingError("meta_info", f"line {number} is not 'HR name, LR name'; correct it")
            pairs.append(Pair(names[0], gt / names[0], lq / names[1], number))
        else:
            name = line.strip().split(" ")[0]
            pairs.append(Pair(name, gt / name, lq / lq_name(name, template), number))
    return pairs


def _rename_hint(missing: list[str], spare: list[str]) -> str:
    """What to do about LR files whose names do not fit a template that is right."""
    stems = {_stem(name) for name in spare}
    if any(_stem(name) in stems for name in missing):
        return "the endings must be the same: save the LR images in the format of the HR images"
    return f"rename {spare[0]}" if len(spare) == 1 else f"rename {spare[0]} and the {len(spare) - 1} others like it"


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _likely_template(names_gt: list[str], spare: list[str], template: str) -> str | None:
    """Another template than `template` that finds an LR image among `spare` for most HR names, or None: what surrounds
    an HR name in each of a few LR names."""
    stems = sorted({_stem(name) for name in names_gt}, key=len, reverse=True)
    found: Counter[str] = Counter()
    for stem in map(_stem, spread(spare, 8)):
        inside = next((candidate for candidate in stems if candidate in stem), None)
        if inside is not None:
            around = stem.replace("{", "{{").replace("}", "}}").partition(inside)
            found[f"{around[0]}{{}}{around[2]}"] += 1
    present = {_stem(name) for name in spare}
    for candidate, _ in found.most_common():
        fits = sum(candidate.format(stem) in present for stem in stems)
        if candidate != template and 2 * fits > len(stems):
            return candidate
    return None
