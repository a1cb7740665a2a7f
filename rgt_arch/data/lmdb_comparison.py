"""Whether an LMDB folder is what certain image files give, told without decoding them all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lmdb

from rgt_arch.data.images import PNG_SIGNATURE, image_size
from rgt_arch.data.lmdb_images import LmdbImage, encode
from rgt_arch.data.lmdb_reader import truncation
from rgt_arch.errors import UserError

_LINE = re.compile(r"([^.]+)\.png \((\d+),(\d+),\d\) (\d)")


def _meta_info(path: Path) -> dict[str, tuple[int, int, int]]:
    """{key: (height, width, compression level)} of an LMDB folder; empty if there is no list of them."""
    try:
        lines = (path / "meta_info.txt").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return {}
    matches = [_LINE.fullmatch(line) for line in lines]
    return {match[1]: (int(match[2]), int(match[3]), int(match[4])) for match in matches if match}


def stored_keys(path: Path) -> set[str]:
    """The keys that the meta_info.txt of an LMDB folder lists."""
    return set(_meta_info(path))


def difference(path: Path, images: Sequence[LmdbImage]) -> str | None:
    """What tells that the LMDB at `path` was not made of these image files as they are now; None if nothing does.

    Compared are the compression level, sizes, the lengths of kept PNG files, and the bytes of the first image and of
    all that changed since. Keys of other images are not looked for.
    """
    if not images:
        return "its meta_info.txt lists none of the images"
    listed = _meta_info(path)
    try:
        made = (path / "data.mdb").stat().st_mtime_ns
        with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin(buffers=True) as stored:
            if (problem := truncation(path, environment)) is not None:
                return f"its data.mdb {problem}"
            if environment.stat()["entries"] != len(listed):
                return "its data.mdb and meta_info.txt disagree"
            for image in images:
                *size, level = listed[image.key]
                if level != image.level:
                    return f"its compression level is {level}, not {image.level}"
                value = stored.get(image.key.encode())
                if value is None:
                    return f"it lists the key {image.key!r}, but does not hold it"
                if not _is_same(image, (size[0], size[1]), value, made, closely=image is images[0]):
                    return f"{image.source} is stored otherwise"
    except (lmdb.Error, UserError, OSError) as error:
        return str(error)
    return None


def _is_same(image: LmdbImage, size: tuple[int, int], value: Any, made: int, *, closely: bool) -> bool:
    """Whether `value` is what is stored for an image; for an older file, unless `closely`, by size and length alone."""
    status = image.source.stat()
    if closely or max(status.st_mtime_ns, status.st_ctime_ns) > made:
        return encode(image)[0] == value
    if image_size(image.source) not in (None, size):  # None: a format that only OpenCV reads
        return False
    with image.source.open("rb") as file:
        is_kept = image.compression is None and file.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE
    return not is_kept or status.st_size == len(value)
