"""What is in images, files and values of LMDBs alike: one `Look` for each, taken by decoding it in a worker process."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import lmdb
import numpy as np
from PIL import Image

from rgt_arch.data.images import Size, decode, is_turned, read_bytes
from rgt_arch.data.inspect.report import Section, counted
from rgt_arch.data.lmdb_reader import open_lmdb
from rgt_arch.data.parallel import Summary, successes
from rgt_arch.errors import UserError

# Formats whose headers tell more than OpenCV's pixels do. Not EPS, for which Pillow starts Ghostscript.
_HEADERS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "GIF")
# What an image can be besides 8-bit colour, and what BasicSR's data sets make of it (IMREAD_COLOR, to 8 bits).
TRAITS = {
    "alpha": "with alpha, which training does not see",
    "16-bit": "of 16 bits, cut to 8 in training",
    "float": "of floating point samples, cut to 8 bits in training",
    "palette": "with a palette, read as colours",
    "CMYK": "in CMYK, read as RGB without a colour profile",
    "EXIF": "turned as their EXIF data says; other programs may see them unturned",
}


@dataclass(frozen=True)
class Stored:
    """An image: a file below the folder `place`, or a value of the LMDB `place`."""

    place: Path
    name: str
    in_lmdb: bool = False

    @property
    def source(self) -> Path:
        """Where it is, for messages."""
        return self.place / self.name

    def content(self) -> bytes:
        """Its encoded bytes. Raises UserError if they cannot be read."""
        if not self.in_lmdb:
            return read_bytes(self.source)
        try:
            with open_lmdb(os.path.realpath(self.place)).begin() as transaction:
                value: bytes | None = transaction.get(self.name.encode(errors="surrogateescape"))
        except lmdb.Error as error:
            raise UserError(f"{self.source}: cannot be read ({error})") from error
        if not value:
            raise UserError(f"{self.source}: is empty (0 bytes)")
        return value


@dataclass(frozen=True)
class Look:
    """What one image is; no pixels, so that millions fit in memory."""

    size: Size
    traits: frozenset[str]
    """Keys of TRAITS; "grey" for one channel, "colourless" where all channels are equal."""
    encoded: int
    """Bytes of the file or value."""
    digest: bytes
    """Equal for equal pixels as training reads them, with grey and 16 bits kept."""


@dataclass
class Images:
    """The images of one place; `faults` has a line for each name without a look."""

    place: Path
    in_lmdb: bool
    """Values are never read in this process, because a damaged LMDB can kill it."""
    names: list[str]
    looks: dict[str, Look] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def stored(self, name: str) -> Stored:
        """The image of this name."""
        return Stored(self.place, name, self.in_lmdb)


def look(image: Stored) -> Look | str:
    """Decode one image; a text says why that is impossible."""
    try:
        content = image.content()
        pixels = decode(content, image.source)
    except UserError as error:
        return str(error).removeprefix(f"{image.source}: ")
    digest = hashlib.blake2b(f"{pixels.shape}{pixels.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    traits = _header_traits(content) | {"uint16": {"16-bit"}, "float32": {"float"}}.get(str(pixels.dtype), set())
    if pixels.ndim == 2:
        traits |= {"grey", "colourless"}
    elif (pixels[0, :, :1] == pixels[0]).all() and (pixels[..., :1] == pixels).all():  # the first row: a fast no
        traits.add("colourless")
    return Look((pixels.shape[0], pixels.shape[1]), frozenset(traits), len(content), digest.digest())


def _header_traits(content: bytes) -> set[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_HEADERS) as image:
                found = {
                    "alpha": image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info,
                    "palette": image.mode in ("P", "PA"),
                    "CMYK": image.mode == "CMYK",
                    "EXIF": is_turned(image, range(2, 9)),
                }
                return {trait for trait, is_so in found.items() if is_so}
    except Exception:  # a format that only OpenCV knows, or metadata that Pillow's readers trip over in many ways
        return set()


def examine(place: Path, names: Iterable[str], *, jobs: int, in_lmdb: bool = False) -> Images:
    """Look at all images of a place in worker processes; a damaged one becomes a line and stops nothing."""
    images, summary = Images(place, in_lmdb, list(names)), Summary()
    tasks, title = [images.stored(name) for name in images.names], f"reading {place.resolve().name}"
    for image, found in successes(look, tasks, summary, jobs=jobs, title=title, isolate=in_lmdb):
        if isinstance(found, str):
            images.faults.append(f"{image.name}: {found}")
        else:
            images.looks[image.name] = found
    images.faults += summary.failures  # those whose worker died
    return images


def describe(
    section: Section, images: Images, unit: str = "image", known_equal: Collection[frozenset[str]] = ()
) -> None:
    """Add to `section` what the images are, which cannot be used, and which are equal.

    unit: what they are called, in singular. known_equal: groups of names that are not reported.
    """
    looks = list(images.looks.values())
    suffixes = Counter(PurePosixPath(name).suffix.lower() or "without ending" for name in images.looks)
    listed = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())
    kinds = f" ({listed})" if len(suffixes) > 1 and not images.in_lmdb else ""
    megabytes = sum(look.encoded for look in looks) / 1e6
    section.facts.append(f"{counted('{n} ' + unit + '{s}', len(looks))}{kinds}, {megabytes:.1f} MB")
    if looks:
        sizes = sorted((look.size for look in looks), key=lambda size: (size[0] * size[1], size[1]))
        smallest, largest = dimensions(sizes[0]), dimensions(sizes[-1])
        shortest = min(min(look.size) for look in looks)
        ends = f"smallest {smallest}, largest {largest} (width×height), shortest side {shortest}"
        section.facts.append(ends if smallest != largest else f"width×height {smallest}")
        grey = sum("grey" in look.traits for look in looks)
        modes = (("colour", len(looks) - grey), ("grey", grey))
        section.facts.append(", ".join(f"{count} {mode}" for mode, count in modes if count))
    what = "value" if images.in_lmdb else "file"
    section.problem(f"{{n}} {what}{{s}} cannot be read as images", images.faults, stops="everything")
    groups = [" = ".join(group) for group in equal_groups(images) if frozenset(group) not in known_equal]
    section.problem(f"{{n}} group{{s}} of {unit}s with the same pixels", groups)
    for trait, meaning in TRAITS.items():
        section.note(f"{{n}} {unit}{{s}} {meaning}", (n for n, look in images.looks.items() if trait in look.traits))


def dimensions(size: Size) -> str:
    """Width×height, as image viewers show it."""
    return f"{size[1]}×{size[0]}"


def equal_groups(images: Images) -> Iterator[list[str]]:
    """The names of images with the same pixels, each group of two or more."""
    by_digest: dict[bytes, list[str]] = {}
    for name, look in images.looks.items():
        by_digest.setdefault(look.digest, []).append(name)
    return (names for names in by_digest.values() if len(names) > 1)
