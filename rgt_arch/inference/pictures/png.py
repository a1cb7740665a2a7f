"""PNG files with 16 bits per sample: Pillow writes no such colours, OpenCV no grey with alpha and no profile."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import IO

import numpy as np
from numpy.typing import NDArray

from rgt_arch.data.images import PNG_SIGNATURE

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
_ROWS = 256  # that are filtered and compressed at once, to bound the memory


def write_png16(file: IO[bytes], pixels: NDArray[np.uint16], chunks: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Write (H, W) grey or (H, W, 2 to 4), with `chunks` of metadata (type, content) ahead of the pixels."""
    samples = pixels if pixels.ndim == 3 else pixels[..., None]
    height, width, channels = samples.shape
    file.write(PNG_SIGNATURE)
    _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0))
    for kind, content in chunks:
        _write_chunk(file, kind, content)
    compressor = zlib.compressobj(6)
    above = np.zeros((1, width * 2 * channels), np.uint8)
    for start in range(0, height, _ROWS):
        rows = np.ascontiguousarray(samples[start : start + _ROWS], ">u2").view(np.uint8)
        rows = rows.reshape(len(rows), -1)
        _write_chunk(file, b"IDAT", compressor.compress(_filtered(rows, above, 2 * channels).tobytes()))
        above = rows[-1:]
    _write_chunk(file, b"IDAT", compressor.flush())
    _write_chunk(file, b"IEND", b"")


def icc_chunk(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)


def dpi_chunk(dpi: tuple[float, float]) -> tuple[bytes, bytes]:
    return b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in dpi), 1)


def _write_chunk(file: IO[bytes], kind: bytes, content: bytes) -> None:
    if content or kind == b"IEND":
        checksum = zlib.crc32(content, zlib.crc32(kind))
        file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum))


def _filtered(rows: NDArray[np.uint8], above: NDArray[np.uint8], pixel_bytes: int) -> NDArray[np.uint8]:
    """Each row as its difference from the row above or the pixel at the left, whichever is smaller in sum."""
    up = rows - np.concatenate([above, rows[:-1]])
    left = rows.copy()
    left[:, pixel_bytes:] -= rows[:, :-pixel_bytes]
    cost = [np.abs(filtered.view(np.int8).astype(np.int16)).sum(1, dtype=np.int64) for filtered in (left, up)]
    better = (cost[1] < cost[0])[:, None]
    kinds = np.where(better, 2, 1).astype(np.uint8)  # PNG specification, 9.2
    return np.concatenate([kinds, np.where(better, up, left)], axis=1)
