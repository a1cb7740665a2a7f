"""Properties of the images in a folder or an LMDB: one `Look` for each, made by decoding it in a worker process."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import lmdb
import numpy as np
from numpy.typing import NDArray

from rgt_arch.data.images import Size, decode, read_bytes
from rgt_arch.data.inspect.sections import Section, counted
from rgt_arch.data.lmdb_reader import META_INFO, opened, read_value
from rgt_arch.data.parallel import Summary, successes
from rgt_arch.errors import UserError

THUMBNAIL = 8  # side in pixels


def is_lmdb(path: Path) -> bool:
    """Whether a folder is an LMDB by its name, as BasicSR decides."""
    return path.name.endswith(".lmdb")


@dataclass(frozen=True)
class Stored:
    """An image: a file below the folder `place`, or a value of the LMDB `place`."""

    place: Path
    name: str

    @property
    def source(self) -> Path:
        """Path of the file, or of the LMDB with the key, for messages."""
        return self.place / self.name

    def content(self) -> bytes:
        """Return the encoded bytes. Raises UserError if they cannot be read."""
        if not is_lmdb(self.place):
            return read_bytes(self.source)
        try:
            return read_value(self.place, os.path.realpath(self.place), self.name)
        except lmdb.Error as error:
            raise UserError(f"{self.source}: cannot be read ({error})") from error


@dataclass(frozen=True)
class Look:
    """Properties of one image, without pixels, so that millions fit in memory."""

    size: Size
    is_grey: bool
    is_16_bit: bool
    encoded: int
    """Bytes of the file or value."""
    digest: bytes
    """Equal for equal pixels, read as in training except that grey and 16 bits are kept."""
    thumbnail: bytes
    """The image in grey, 8×8 pixels of a byte."""


def look(image: Stored) -> Look | str:
    """Decode one image. Returns the error text if that fails."""
    try:
        content = image.content()
        pixels = decode(content, image.source)
    except UserError as error:
        return str(error).removeprefix(f"{image.source}: ").removeprefix(f"{image.place}: ")
    digest = hashlib.blake2b(f"{pixels.shape}{pixels.dtype}".encode() + pixels.tobytes(), digest_size=16).digest()
    size = (pixels.shape[0], pixels.shape[1])
    is_16_bit = pixels.dtype == np.uint16
    return Look(size, pixels.ndim == 2, is_16_bit, len(content), digest, _thumbnail(pixels))


def _thumbnail(pixels: NDArray[Any]) -> bytes:
    largest = {"uint8": 255, "uint16": 65535}.get(pixels.dtype.name, 1)
    small = cv2.resize(pixels, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    grey = small if small.ndim == 2 else small.mean(axis=2)
    return np.clip(grey * (255 / largest), 0, 255).round().astype(np.uint8).tobytes()


def is_coloured(image: Stored) -> bool:
    """Whether the channels of an image differ; False for an unreadable one, which other checks report."""
    try:
        pixels = np.atleast_3d(decode(image.content(), image.source))
    except UserError:
        return False
    return bool((pixels != pixels[..., :1]).any())


@dataclass
class Images:
    """The images of one folder or LMDB and, after `examine`, their properties."""

    title: str
    place: Path
    names: Sequence[str]
    sizes: Mapping[str, Size | None] = field(default_factory=dict)
    """Sizes by name, from a list."""
    looks: dict[str, Look] = field(default_factory=dict)
    """Readable images by name."""
    strangers: Sequence[str] = ()
    """Files beside the images that are not named like images."""

    def examine(self, unit: str = "image", *, jobs: int) -> Section:
        """Decode all images in worker processes and report their properties, damaged images and equal images.

        unit: their name in the report. "LR image"s are not compared: LR images of equal HR images are equal too.
        """
        section, summary, faults = Section(self.title), Summary(), list[str]()
        tasks, title = [Stored(self.place, name) for name in self.names], f"reading {self.place.resolve().name}"
        in_lmdb = is_lmdb(self.place)  # a damaged LMDB can kill the process that reads it
        for image, found in successes(look, tasks, summary, jobs=jobs, title=title, isolate=in_lmdb):
            if isinstance(found, Look):
                self.looks[image.name] = found
            else:
                faults.append(f"{image.name}: {found}")
        section.facts += self._facts(unit)
        what = "value" if in_lmdb else "file"
        section.problem(f"{{n}} {what}{{s}} cannot be read as images", faults + summary.failures, stops="everything")
        if in_lmdb:
            with opened(self.place) as environment:
                unlisted = environment.stat()["entries"] - len(self.names)
            if unlisted > 0:
                section.problem(
                    counted(f"{{n}} key{{s}} more than {META_INFO} lists: BasicSR does not see them", unlisted)
                )
        if unit != "LR image":
            groups: dict[bytes, list[str]] = {}
            for name, seen in self.looks.items():
                groups.setdefault(seen.digest, []).append(name)
            equal = (" = ".join(names) for names in groups.values() if len(names) > 1)
            section.problem(f"{{n}} group{{s}} of {unit}s with the same pixels", equal)
        wrong = [
            f"{name}: listed ({size[0]},{size[1]}), is ({self.looks[name].size[0]},{self.looks[name].size[1]})"
            for name, size in self.sizes.items()
            if size is not None and name in self.looks and size != self.looks[name].size
        ]
        section.problem("{n} listed size{s} that the image does not have (height, width)", wrong)
        deep = (name for name, seen in self.looks.items() if seen.is_16_bit)
        section.note(f"{{n}} {unit}{{s}} of 16 bits, cut to 8 in training", deep)
        return section

    def _facts(self, unit: str) -> Iterator[str]:
        looks = list(self.looks.values())
        suffixes = Counter(PurePosixPath(name).suffix.lower() or "without ending" for name in self.looks)
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())
        megabytes = sum(seen.encoded for seen in looks) / 1e6
        total = counted("{n} " + unit + "{s}", len(looks))
        yield f"{total}{f' ({kinds})' if len(suffixes) > 1 else ''}, {megabytes:.1f} MB"
        if looks:
            sizes = sorted((seen.size for seen in looks), key=lambda size: (size[0] * size[1], size[1]))
            shortest = min(map(min, sizes))
            ends = f"smallest {dimensions(sizes[0])}, largest {dimensions(sizes[-1])} (width×height)"
            yield f"{ends}, shortest side {shortest}"
            grey = sum(seen.is_grey for seen in looks)
            yield ", ".join(f"{n} {mode}" for n, mode in ((len(looks) - grey, "colour"), (grey, "grey")) if n)


def dimensions(size: Size) -> str:
    """Return "width×height", as image viewers show it."""
    return f"{size[1]}×{size[0]}"
