"""Image files: search, one-line errors for every kind of damage, sizes from headers, complete writes."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from rgt_arch.data.images import decode, header_size, image_size, read_bytes, walk_files, write_png
from rgt_arch.errors import UserError

from .image_files import TURNED, noise

PIXELS = noise(60, 70, 3)


def encoded(ending: str, image: np.ndarray = PIXELS) -> bytes:
    return cv2.imencode(ending, image)[1].tobytes()


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


HEADER = (b"IHDR", struct.pack(">IIBBBBB", 70, 60, 8, 2, 0, 0, 0))
RAW = zlib.compress(b"".join(b"\0" + row.tobytes() for row in PIXELS[..., ::-1]))
END = (b"IEND", b"")
DAMAGED = {
    "no end": png_of(HEADER, (b"IDAT", RAW)),
    "part of the pixels": png_of(HEADER, (b"IDAT", RAW[:500]), END),
    "wrong checksum of the pixels": png_of(HEADER, (b"IDAT", RAW[:-4] + b"abcd"), END),
    "no pixels": png_of(HEADER, END),
    "cut": png_of(HEADER, (b"IDAT", RAW), END)[:300],
    "without last bytes": png_of(HEADER, (b"IDAT", RAW), END)[:-4],
    "signature alone": b"\x89PNG\r\n\x1a\n",
    "text": b"no image at all",
    **{f"cut {ending}": encoded(ending)[: len(encoded(ending)) // 2] for ending in (".jpg", ".bmp", ".webp", ".tiff")},
}


def test_valid_images_decode_to_their_pixels() -> None:
    np.testing.assert_array_equal(decode(png_of(HEADER, (b"IDAT", RAW), END), Path("a")), PIXELS)
    for ending in (".bmp", ".tiff", ".ppm"):
        np.testing.assert_array_equal(decode(encoded(ending), Path("a")), PIXELS)
    for ending in (".jpg", ".webp"):
        assert decode(encoded(ending), Path("a")).shape == PIXELS.shape


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_a_one_line_error_and_libraries_print_nothing(capfd: pytest.CaptureFixture[str], kind: str) -> None:
    with pytest.raises(UserError, match=r"^folder/a\.png: ") as caught:
        decode(DAMAGED[kind], Path("folder/a.png"))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_stderr_works_again_after_decoding(capfd: pytest.CaptureFixture[str]) -> None:
    decode(encoded(".png"), Path("a"))
    os.write(2, b"here")
    assert capfd.readouterr().err == "here"


def test_unreadable_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    assert sorted(path.name for path in walk_files(tmp_path)) == ["empty", "loop", "pipe"]
    for name, words in (
        ("empty", "is empty"),
        ("pipe", "not a regular"),
        ("none", "no such file"),
        (".", "regular"),
        ("loop", "cannot be read"),
    ):
        with pytest.raises(UserError, match=words):
            read_bytes(tmp_path / name)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tiff", ".bmp"])
def test_header_size_equals_the_decoded_size(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"a{ending}"
    for pixels in (PIXELS, PIXELS[..., 0]):
        for options in ({}, {"exif": TURNED})[: 1 if ending == ".bmp" else 2]:
            Image.fromarray(pixels).save(file, **options)
            size = decode(file.read_bytes(), file).shape[:2]
            assert image_size(file) == header_size(file) == size == ((70, 60) if options else (60, 70))


def test_image_whose_header_pillow_does_not_read_is_decoded_for_its_size(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.hdr"), PIXELS.astype(np.float32))
    assert image_size(tmp_path / "a.hdr") is None
    assert header_size(tmp_path / "a.hdr") == (60, 70)


def test_failed_write_keeps_existing_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    for place in ("a.png", "file/a.png"):
        with pytest.raises(UserError, match=r"a\.png: cannot be written"):
            write_png(tmp_path / place, PIXELS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "file"]
