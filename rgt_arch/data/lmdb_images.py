"""The images of an LMDB: their files, keys and stored bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2

from rgt_arch.data.images import PNG_SIGNATURE, decode, files_by_name, read_bytes
from rgt_arch.data.pairing import lmdb_key
from rgt_arch.data.parallel import Summary
from rgt_arch.errors import UsageError, UserError

DEFAULT_COMPRESSION = 1  # BasicSR's (utils/lmdb_util.py:12)

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class LmdbImage:
    """An image file to be stored under a key."""

    source: Path
    key: str
    compression: int | None = None
    """None keeps the bytes of PNG files; 0 to 9 encodes all images anew."""

    @property
    def level(self) -> int:
        """The compression level that meta_info.txt tells."""
        return DEFAULT_COMPRESSION if self.compression is None else self.compression


def encode(image: LmdbImage) -> tuple[bytes, Shape]:
    """What is stored for an image file: PNG bytes and (height, width, channels), channels as BasicSR's readers see it.

    Raises UserError naming the file if it is damaged or no image.
    """
    content = read_bytes(image.source)
    is_png = content.startswith(PNG_SIGNATURE)
    pixels = decode(content, image.source) if is_png else decode(content, image.source, cv2.IMREAD_COLOR)
    if not is_png or image.compression is not None:
        content = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, image.level])[1].tobytes()
    height, width = pixels.shape[:2]
    return content, (height, width, 1 if pixels.ndim == 2 else 3)


def keyed_images(folder: Path, ending: str, compression: int | None, summary: Summary) -> list[LmdbImage]:
    """The images of a folder with their keys, in the keys' order; files that can have none go to `summary.failures`.

    Raises UsageError for two images with one key, or if no name ends with `ending`.
    """
    named, others = files_by_name(folder)
    failures = [f"{file}: is no image, but called like one" for file in others]
    images = []
    for file in named.values():
        try:
            images.append(LmdbImage(file, lmdb_key(file.relative_to(folder), ending), compression))
        except UserError as error:
            failures.append(str(error))
    if not images:
        raise UsageError(f"{folder}: no file's name ends with {ending!r}, as --ending asks")
    for failure in failures:
        summary.fail(failure)
    return sorted(images, key=lambda image: image.key)
