"""What is in an image, found by decoding it in worker processes, and what is said about many of them."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rgt_arch.data.checks.report import Section, counted
from rgt_arch.data.images import decode, read_bytes
from rgt_arch.data.parallel import Summary, successes
from rgt_arch.errors import UserError, printable

# Formats whose headers tell more than OpenCV's pixels do. Not EPS, for which Pillow starts Ghostscript.
_HEADERS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "GIF")
_EXIF_ORIENTATION = 0x0112

# What an image can be besides 8-bit colour, and what BasicSR's data sets make of it (IMREAD_COLOR, to 8 bits).
TRAITS = {
    "grey": "",
    "alpha": "with alpha, which training does not see",
    "16-bit": "of 16 bits, cut to 8 in training",
    "float": "of floating point samples, cut to 8 bits in training",
    "palette": "with a palette, read as colours",
    "CMYK": "in CMYK, read as RGB without a colour profile",
    "EXIF": "turned as their EXIF data says; other programs may see them unturned",
}


class ImageTask(Protocol):
    """An image to look at, wherever it is stored."""

    @property
    def name(self) -> str:
        """What the report calls it."""

    @property
    def source(self) -> Path:
        """Where it is, for messages."""

    def content(self) -> bytes:
        """Its encoded bytes. Raises UserError if they cannot be read."""


@dataclass(frozen=True)
class FileImage:
    """An image that is a file."""

    name: str
    source: Path

    def content(self) -> bytes:
        """The file's bytes."""
        return read_bytes(self.source)


@dataclass(frozen=True)
class Look:
    """What one image is; no pixels, so that millions fit in memory."""

    height: int
    width: int
    traits: frozenset[str]
    """Keys of TRAITS."""
    colourless: bool
    """Whether all channels are equal, stored as grey or not."""
    size: int
    """Encoded bytes."""
    digest: bytes
    """Equal for equal pixels as training reads them, with grey and 16 bits kept."""

    def dimensions(self) -> str:
        """Width×height, as image viewers say it."""
        return f"{self.width}×{self.height}"


@dataclass
class Images:
    """All images of one place."""

    tasks: dict[str, ImageTask] = field(default_factory=dict)
    """By name."""
    looks: dict[str, Look] = field(default_factory=dict)
    """By name, those that could be decoded."""
    unusable: list[str] = field(default_factory=list)
    """A line for each of the others."""
    isolate: bool = False
    """Values of an LMDB, not files: never read in this process, because a damaged LMDB can kill it."""


def look(image: ImageTask) -> Look | str:
    """Decode one image; a text says why that is impossible."""
    try:
        content = image.content()
        pixels = decode(content, image.source)
    except UserError as error:
        return str(error).removeprefix(f"{image.source}: ")
    digest = hashlib.blake2b(f"{pixels.shape}{pixels.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    height, width = pixels.shape[:2]
    return Look(height, width, _traits(content, pixels), _is_colourless(pixels), len(content), digest.digest())


def _is_colourless(pixels: NDArray[Any]) -> bool:
    if pixels.ndim == 2:
        return True
    blue, green, red = (pixels[..., channel] for channel in range(3))
    return bool((blue[0] == red[0]).all() and (blue == green).all() and (green == red).all())  # first row: fast no


def _traits(content: bytes, pixels: NDArray[Any]) -> frozenset[str]:
    traits = {"uint16": {"16-bit"}, "float32": {"float"}}.get(str(pixels.dtype), set())
    if pixels.ndim == 2:
        traits = traits | {"grey"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_HEADERS) as image:
                return frozenset(traits | _header_traits(image))
    except Exception:  # a format that only OpenCV knows, or metadata that Pillow's readers trip over in many ways
        return frozenset(traits)


def _header_traits(image: Image.Image) -> set[str]:
    traits = set()
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        traits.add("alpha")
    if image.mode in ("P", "PA"):
        traits.add("palette")
    if image.mode == "CMYK":
        traits.add("CMYK")
    # A PNG without EXIF data at its start would be decoded whole in search of some.
    known = image.format in ("JPEG", "MPO") or "exif" in image.info
    if known and image.getexif().get(_EXIF_ORIENTATION, 1) in range(2, 9):
        traits.add("EXIF")
    return traits


def examine(images: Iterable[ImageTask], title: str, *, jobs: int, isolate: bool = False) -> Images:
    """Look at all images in worker processes; one that is damaged becomes a line and stops nothing.

    images: of different names. title: for the progress bar. isolate: whether they are values of an LMDB.
    """
    found, summary = Images({image.name: image for image in images}, isolate=isolate), Summary()
    tasks = list(found.tasks.values())
    for image, result in successes(look, tasks, summary, jobs=jobs, title=title, isolate=isolate):
        if isinstance(result, str):
            found.unusable.append(f"{printable(image.name)}: {result}")
        else:
            found.looks[image.name] = result
    found.unusable += map(printable, summary.failures)  # those whose worker died
    return found


def describe(
    section: Section, images: Images, unit: str = "image", known_equal: Collection[frozenset[str]] = ()
) -> None:
    """Add to `section` what the images are, which cannot be used, and which are equal.

    unit: what they are called, in singular. known_equal: groups of names that are not news.
    """
    looks = images.looks
    sizes = [look.size for look in looks.values()]
    endings = Counter(
        () if images.isolate else (PurePosixPath(name).suffix.lower() or "without ending" for name in looks)
    )
    kinds = (
        f" ({', '.join(f'{count} {ending}' for ending, count in endings.most_common())})" if len(endings) > 1 else ""
    )
    section.facts.append(f"{counted('{n} ' + unit + '{s}', len(looks))}{kinds}, {_bytes(sum(sizes))}")
    if looks:
        section.facts += [_dimensions(list(looks.values())), _modes(list(looks.values()))]
    section.problem(
        f"{{n}} {'value' if images.isolate else 'file'}{{s}} cannot be read as images",
        images.unusable,
        stops="everything",
    )
    groups = [group for group in equal_groups(images) if frozenset(group) not in known_equal]
    section.problem(
        f"{{n}} group{{s}} of {unit}s with the same pixels", (" = ".join(map(printable, group)) for group in groups)
    )
    traits = Counter(trait for look in looks.values() for trait in look.traits)
    for trait, meaning in TRAITS.items():
        if traits[trait] and meaning:
            names = [printable(name) for name, look in looks.items() if trait in look.traits]
            section.note(f"{{n}} {unit}{{s}} {meaning}", names)


def equal_groups(images: Images) -> Iterator[list[str]]:
    """The names of images with the same pixels, each group of two or more."""
    by_digest: dict[bytes, list[str]] = {}
    for name, look in images.looks.items():
        by_digest.setdefault(look.digest, []).append(name)
    return (names for names in by_digest.values() if len(names) > 1)


def _dimensions(looks: Sequence[Look]) -> str:
    if len({(look.height, look.width) for look in looks}) == 1:
        return f"size {looks[0].dimensions()}" if len(looks) == 1 else f"all {looks[0].dimensions()}"
    by_area = sorted(looks, key=lambda look: (look.height * look.width, look.width))
    shortest = min(min(look.height, look.width) for look in looks)
    return (
        f"smallest {by_area[0].dimensions()}, largest {by_area[-1].dimensions()} (width×height), "
        f"shortest side {shortest}"
    )


def _modes(looks: Sequence[Look]) -> str:
    grey = sum("grey" in look.traits for look in looks)
    parts = [f"{count} {mode}" for mode, count in (("colour", len(looks) - grey), ("grey", grey)) if count]
    return ", ".join(parts)


def _bytes(size: float) -> str:
    units = ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"
