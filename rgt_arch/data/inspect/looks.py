"""What is in images, found by decoding them in worker processes, and the report on all images of one place."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rgt_arch.data.images import decode, is_turned, read_bytes
from rgt_arch.data.inspect.report import Section, counted
from rgt_arch.data.parallel import Summary, successes
from rgt_arch.errors import UserError, printable

# Formats whose headers tell more than OpenCV's pixels do. Not EPS, for which Pillow starts Ghostscript.
_HEADERS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "GIF")
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
        """Its name in the report."""

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
    encoded: int
    """Bytes of the file or value."""
    digest: bytes
    """Equal for equal pixels as training reads them, with grey and 16 bits kept."""

    def dimensions(self) -> str:
        """Width×height, as image viewers show it."""
        return f"{self.width}×{self.height}"


@dataclass
class Images:
    """All images of one place, by name; `unusable` has a line for each one without a look."""

    tasks: dict[str, ImageTask] = field(default_factory=dict)
    looks: dict[str, Look] = field(default_factory=dict)
    unusable: list[str] = field(default_factory=list)
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
    traits = {"grey"} if pixels.ndim == 2 else set()
    traits |= {"uint16": {"16-bit"}, "float32": {"float"}}.get(str(pixels.dtype), set())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_HEADERS) as image:
                alpha = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
                for trait, found in (
                    ("alpha", alpha),
                    ("palette", image.mode in ("P", "PA")),
                    ("CMYK", image.mode == "CMYK"),
                    ("EXIF", is_turned(image, range(2, 9))),
                ):
                    traits |= {trait} if found else set()
    except Exception:  # a format that only OpenCV knows, or metadata that Pillow's readers trip over in many ways
        pass
    return frozenset(traits)


def examine(images: Iterable[ImageTask], title: str, *, jobs: int, isolate: bool = False) -> Images:
    """Look at all images in worker processes; a damaged one becomes a line and stops nothing.

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


def examine_files(folder: Path, names: Iterable[str], *, jobs: int) -> Images:
    """`examine` files below a folder."""
    return examine([FileImage(name, folder / name) for name in names], f"reading {folder.resolve().name}", jobs=jobs)


def describe(
    section: Section, images: Images, unit: str = "image", known_equal: Collection[frozenset[str]] = ()
) -> None:
    """Add to `section` what the images are, which cannot be used, and which are equal.

    unit: what they are called, in singular. known_equal: groups of names to leave out, as `known_equal` gives them.
    """
    looks = list(images.looks.values())
    suffixes = Counter(PurePosixPath(name).suffix.lower() or "without ending" for name in images.looks)
    listed = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())
    kinds = f" ({listed})" if len(suffixes) > 1 and not images.isolate else ""
    size = _bytes(sum(look.encoded for look in looks))
    section.facts.append(f"{counted('{n} ' + unit + '{s}', len(looks))}{kinds}, {size}")
    if looks:
        grey = sum("grey" in look.traits for look in looks)
        modes = [f"{count} {mode}" for mode, count in (("colour", len(looks) - grey), ("grey", grey)) if count]
        section.facts += [_dimensions(looks), ", ".join(modes)]
    what = "value" if images.isolate else "file"
    section.problem(f"{{n}} {what}{{s}} cannot be read as images", images.unusable, stops="everything")
    groups = [group for group in equal_groups(images) if frozenset(group) not in known_equal]
    section.problem(
        f"{{n}} group{{s}} of {unit}s with the same pixels", (" = ".join(map(printable, group)) for group in groups)
    )
    for trait, meaning in TRAITS.items():
        names = [printable(name) for name, look in images.looks.items() if meaning and trait in look.traits]
        section.note(f"{{n}} {unit}{{s}} {meaning}", names)


def equal_groups(images: Images) -> Iterator[list[str]]:
    """The names of images with the same pixels, each group of two or more."""
    by_digest: dict[bytes, list[str]] = {}
    for name, look in images.looks.items():
        by_digest.setdefault(look.digest, []).append(name)
    return (names for names in by_digest.values() if len(names) > 1)


def _dimensions(looks: list[Look]) -> str:
    by_area = sorted(looks, key=lambda look: (look.height * look.width, look.width))
    if len({(look.height, look.width) for look in looks}) == 1:
        return f"{'size' if len(looks) == 1 else 'all'} {looks[0].dimensions()}"
    shortest = min(min(look.height, look.width) for look in looks)
    ends = f"smallest {by_area[0].dimensions()}, largest {by_area[-1].dimensions()}"
    return f"{ends} (width×height), shortest side {shortest}"


def _bytes(size: float) -> str:
    units = ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"
