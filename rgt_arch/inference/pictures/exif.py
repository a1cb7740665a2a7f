"""EXIF data made right for a picture that was turned upright and resized, and carried into and out of TIFF files.

The bytes are changed in place where that will do: makers' notes hold offsets that moving them would break.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

PREFIX = b"Exif\0\0"
DAMAGED = "its EXIF data is damaged and is left out"
ORIENTATION = 0x112
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 0x8769, 0x8825, 0xA005
_WIDTHS, _HEIGHTS = (0x100, 0xA002, 0x1001), (0x101, 0xA003, 0x1002)  # of the image, its pixels, the related image
_THUMBNAIL_START, _THUMBNAIL_LENGTH = 0x201, 0x202
_UNIT_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)  # bytes per value, by the type's number
_LONG = 4
_MOST_DIRECTORIES = 8  # four are usual: main, EXIF, GPS, interoperability
# Tags beside pixels in a TIFF's directory that say what the picture is, not how it is stored: description, make,
# model, software, date, artist, computer, rating, copyright, and Windows' title, comment, author, keywords, subject.
_DESCRIPTIVE = {0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x13C, 0x4746, 0x8298, *range(0x9C9B, 0x9CA0)}
_DESCRIPTION = 0x10E
# Descriptions that programs write to lay out the pixels; they would be wrong for pixels of another size.
_LAYOUTS = ('{"shape"', "ImageJ=", "<?xml")


class _Entry(NamedTuple):
    tag: int
    kind: int
    length: int
    at: int  # where the value is, or the offset to it

    @property
    def is_elsewhere(self) -> bool:
        """Whether the four bytes at `at` are an offset: to a value that is longer, or to another directory."""
        size = _UNIT_SIZES[self.kind] * self.length if self.kind < len(_UNIT_SIZES) else 0
        return size > 4 or self.tag in (_EXIF_IFD, _GPS_IFD, _INTEROP_IFD)


def upright(exif: bytes) -> bytes | None:
    """EXIF data with orientation 1 and no thumbnail: that would show the picture as it was. None if it is damaged."""
    tiff = bytearray(exif.removeprefix(PREFIX))
    try:
        order = byte_order(tiff)
        for entry in _all_entries(tiff, order):
            if entry.tag == ORIENTATION:
                struct.pack_into(f"{order}HIHH", tiff, entry.at - 6, 3, 1, 1, 0)
        _drop_thumbnail(tiff, order)
    except (struct.error, ValueError):
        return None
    return PREFIX + tiff


def resized(exif: bytes, height: int, width: int) -> bytes | None:
    """EXIF data that gives these sizes in pixels where it gives any. None if it is damaged."""
    tiff = bytearray(exif.removeprefix(PREFIX))
    try:
        order = byte_order(tiff)
        for entry in _all_entries(tiff, order):
            if entry.tag in (*_WIDTHS, *_HEIGHTS):
                value = width if entry.tag in _WIDTHS else height
                struct.pack_into(f"{order}HII", tiff, entry.at - 6, _LONG, 1, value)
    except (struct.error, ValueError):
        return None
    return PREFIX + tiff


def from_tiff(content: bytes) -> bytes | None:
    """The EXIF data of a TIFF file, without what describes its pixels; None if it has none or is a BigTIFF.

    Raises ValueError if it is damaged.
    """
    if content[2:4] not in (b"*\0", b"\0*"):
        return None
    source, kept = Image.Exif(), Image.Exif()
    try:
        source.load(content)
        for tag in _DESCRIPTIVE & set(source):
            if not (tag == _DESCRIPTION and str(source[tag]).startswith(_LAYOUTS)):
                kept[tag] = source[tag]
        for tag in (_EXIF_IFD, _GPS_IFD):
            if values := dict(source.get_ifd(tag)):
                if _INTEROP_IFD in values:
                    values[_INTEROP_IFD] = source.get_ifd(_INTEROP_IFD)
                kept[tag] = values
        return kept.tobytes() if len(kept) else None
    except (
        Exception
    ) as error:  # Pillow trips over values of unexpected types in many ways: AttributeError, TypeError, …
        raise ValueError(f"EXIF data cannot be read ({error})") from error


def add_to_tiff(path: Path, exif: bytes) -> None:
    """Add EXIF data to a TIFF file of one page and the same byte order: at its end, with a directory that has both.

    Raises ValueError or struct.error if the data is damaged.
    """
    added = bytearray(exif.removeprefix(PREFIX))
    order = byte_order(added)
    with path.open("r+b") as file:
        (start,) = struct.unpack(f"{order}4xI", file.read(8))
        file.seek(start)
        (count,) = struct.unpack(f"{order}H", file.read(2))
        entries = [file.read(12) for _ in range(count)]
        taken = {struct.unpack_from(f"{order}H", entry)[0] for entry in entries}

        base = file.seek(0, os.SEEK_END)
        base += base % 2
        own = [e for e in _entries(added, order, _first(added, order))[0] if _holds_value(added, order, e)]
        for entry in _all_entries(added, order):
            if entry.is_elsewhere:
                (offset,) = struct.unpack_from(f"{order}I", added, entry.at)
                struct.pack_into(f"{order}I", added, entry.at, offset + base)
        wanted = {*_DESCRIPTIVE, _EXIF_IFD, _GPS_IFD} - taken
        entries += [bytes(added[entry.at - 8 : entry.at + 4]) for entry in own if entry.tag in wanted]
        entries.sort(key=lambda entry: struct.unpack_from(f"{order}H", entry))

        added += b"\0" * (len(added) % 2)
        file.seek(base)
        file.write(added + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + b"\0" * 4)
        file.seek(4)
        file.write(struct.pack(f"{order}I", base + len(added)))


def byte_order(exif: bytes | bytearray) -> Literal["<", ">"]:
    """ "<" or ">", as struct and tifffile call it. Raises ValueError where no EXIF data starts."""
    start = bytes(exif[:10]).removeprefix(PREFIX)[:4]
    if start not in (b"II*\0", b"MM\0*"):
        raise ValueError(f"EXIF data cannot start with {start!r}")
    return "<" if start.startswith(b"I") else ">"


def _first(tiff: bytearray, order: str) -> int:
    return int(struct.unpack_from(f"{order}I", tiff, 4)[0])


def _entries(tiff: bytearray, order: str, start: int) -> tuple[list[_Entry], int]:
    """The entries of the directory at `start`, and where the offset to the next one stands."""
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    entries = []
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from(f"{order}HHI", tiff, place)
        entries.append(_Entry(tag, kind, length, place + 8))
    return entries, start + 2 + 12 * count


def _all_entries(tiff: bytearray, order: str) -> list[_Entry]:
    """The entries of the main directory and of those for EXIF, GPS and interoperability."""
    starts, found = [_first(tiff, order)], []
    for start in starts:
        entries, _ = _entries(tiff, order, start)
        found += entries
        for entry in entries:
            if entry.tag in (_EXIF_IFD, _GPS_IFD, _INTEROP_IFD):
                (inner,) = struct.unpack_from(f"{order}I", tiff, entry.at)
                if inner in starts or len(starts) == _MOST_DIRECTORIES:
                    raise ValueError("EXIF data contains itself, or more directories than it has use for")
                starts.append(inner)
    return found


def _holds_value(tiff: bytearray, order: str, entry: _Entry) -> bool:
    """Whether an entry's value is in the data: readers give up a whole TIFF file for one that points past its end."""
    if not entry.is_elsewhere:
        return True
    (start,) = struct.unpack_from(f"{order}I", tiff, entry.at)
    size = _UNIT_SIZES[entry.kind] * entry.length
    return bool(start + size <= len(tiff))


def _drop_thumbnail(tiff: bytearray, order: str) -> None:
    _, link = _entries(tiff, order, _first(tiff, order))
    tiff.extend(b"\0" * (link + 4 - len(tiff)))  # some writers leave the last offset out
    (start,) = struct.unpack_from(f"{order}I", tiff, link)
    if not start:
        return
    struct.pack_into(f"{order}I", tiff, link, 0)
    try:
        thumbnail, _ = _entries(tiff, order, start)
    except struct.error:  # others write one that leads nowhere
        return
    values = {entry.tag: struct.unpack_from(f"{order}I", tiff, entry.at)[0] for entry in thumbnail}
    place, length = values.get(_THUMBNAIL_START, 0), values.get(_THUMBNAIL_LENGTH, 0)
    if 8 <= place <= place + length <= len(tiff):
        tiff[place : place + length] = b"\0" * length
        if place > start and place + length + 8 >= len(tiff):  # the usual case: nothing but padding follows
            del tiff[place:]
