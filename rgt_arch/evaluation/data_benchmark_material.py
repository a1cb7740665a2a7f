"""Data to read in `rgt bench data`: full 2K images made of photographs, HR and LR, also as sub-images and as LMDBs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

from rgt_arch.data.downsampling import make_lr_images
from rgt_arch.data.images import decode, find_files, read_bytes, write_png
from rgt_arch.data.lmdb import create_lmdb
from rgt_arch.data.parallel import default_jobs
from rgt_arch.data.sub_images import Cutting, make_sub_images
from rgt_arch.errors import UsageError, UserError

Image = NDArray[np.uint8]

FULL_SIZE = (1356, 2040)
"""Height and width of most images of DIV2K."""

# Photographs of scikit-image's wheel that are large enough for a cell.
_INSTALLED = ("astronaut", "stereo_motorcycle", "rocket", "immunohistochemistry", "coffee")
# Cells of 339×340: they divide FULL_SIZE. Each holds another part of another photograph: a PNG of one photograph
# laid out several times would compress, and decode, as no photograph does.
_CELLS = (4, 6)


@dataclass(frozen=True)
class Pairs:
    """HR and LR images of the same names: two folders or two LMDBs."""

    hr: Path
    lr: Path
    count: int

    @property
    def backend(self) -> str:
        """BasicSR's `io_backend: type`."""
        return "lmdb" if self.hr.suffix == ".lmdb" else "disk"


@dataclass(frozen=True)
class Material:
    """The same pixels in three forms, and a part of the last for training."""

    full: Pairs
    sub_images: Pairs
    lmdb: Pairs
    epoch: Pairs
    """LMDB of the images of one epoch."""
    source: str
    """What the images were made of, for the output."""


def make_material(
    folder: Path, images: Path | None, *, scale: int, size: int, full_images: int, epoch_images: int, seed: int
) -> Material:
    """Write everything below `folder`, as `rgt prepare` does it; deterministic under `seed`.

    images: a folder of photographs, None for those of scikit-image. Images of 2K are cut to `FULL_SIZE`, of smaller
    ones mosaics are made. size: HR pixels of a sub-image, every size/2 pixels. full_images: at least so many are made,
    more where they have fewer sub-images than `Material.epoch` is to have, epoch_images.
    Raises UsageError if no photograph is large enough or `size` does not fit the images; UserError if writing fails.
    """
    longest = min(FULL_SIZE) // scale * scale
    if size > longest or size % scale:
        raise UsageError(f"--size is {size}; give a multiple of --scale {scale} up to {longest}")
    random = np.random.default_rng(seed)
    height, width = (side // scale * scale for side in FULL_SIZE)
    cutting = Cutting(size, max(scale, size // 2 // scale * scale))
    full_images = max(full_images, math.ceil(epoch_images / len(cutting.boxes((height, width)))))
    fulls, source = _full_images(images, full_images, random)
    full = Pairs(folder / "full/HR", folder / "full/LR", full_images)
    for number, image in enumerate(fulls):
        write_png(full.hr / f"{number:04}.png", image[:height, :width])
    lr = make_lr_images(full.hr, full.lr.parent, [scale], layout="LR/{name}.png", jobs=default_jobs())
    subs = make_sub_images(full.hr, folder / "sub", [full.lr], cutting=cutting, jobs=default_jobs())
    if failures := lr.summary.failures + subs.summary.failures:  # for instance a full disk
        raise UserError(failures[0])
    sub_hr, sub_lr = subs.folders
    names = sorted(path.stem for path in sub_hr.glob("*.png"))
    sub = Pairs(sub_hr, sub_lr, len(names))
    chosen = [str(name) for name in random.permutation(names)[:epoch_images]]
    return Material(full, sub, _lmdbs(sub, names, folder / "all"), _lmdbs(sub, chosen, folder / "epoch"), source)


def _lmdbs(images: Pairs, names: list[str], folder: Path) -> Pairs:
    pairs = Pairs(folder / "HR.lmdb", folder / "LR.lmdb", len(names))
    for source, target in ((images.hr, pairs.hr), (images.lr, pairs.lr)):
        create_lmdb([source / f"{name}.png" for name in names], target, progress=False)
    return pairs


def _full_images(images: Path | None, count: int, random: np.random.Generator) -> tuple[Iterator[Image], str]:
    """`count` images of FULL_SIZE, BGR, and what they are made of."""
    if images is None:
        small, what = [_installed(name) for name in _INSTALLED], "photographs of scikit-image"
        return _mosaics(small, count, random), f"{_counted(count, 'mosaic')} of {len(small)} {what}"
    large, small = [], []
    for path in find_files(images):
        try:
            image = np.asarray(decode(read_bytes(path), path, cv2.IMREAD_COLOR), np.uint8)
        except UserError:  # `rgt prepare check` is there to name such files
            continue
        if image.shape[0] > image.shape[1]:
            image = np.rot90(image)
        if _fits(image, FULL_SIZE):
            large.append(image)
        elif _fits(image, _cell()):
            small.append(image)
        if len(large) == count or len(small) == count * _CELLS[0] * _CELLS[1]:
            break
    if len(large) == count:
        return (_random_part(image, FULL_SIZE, random) for image in large), f"{_counted(count, 'image')} of {images}"
    small += large
    if not small:
        height, width = _cell()
        raise UsageError(f"{images}: no image in it has {width}×{height} pixels or more; name a folder of photographs")
    source = f"{_counted(count, 'mosaic')} of {_counted(len(small), 'smaller image')} of {images}"
    return _mosaics(small, count, random), source


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _installed(name: str) -> Image:
    """A photograph of scikit-image, BGR."""
    image = getattr(skimage.data, name)()
    image = image[0] if isinstance(image, tuple) else image  # the left one of a stereo pair
    return np.asarray(image[..., ::-1], np.uint8)


def _mosaics(photographs: list[Image], count: int, random: np.random.Generator) -> Iterator[Image]:
    for _ in range(count):
        rows, columns = _CELLS
        order = [photographs[i % len(photographs)] for i in random.permutation(rows * columns)]
        cells = [_random_part(photograph, _cell(), random) for photograph in order]
        yield np.vstack([np.hstack(cells[row * columns : (row + 1) * columns]) for row in range(rows)])


def _random_part(image: Image, size: tuple[int, int], random: np.random.Generator) -> Image:
    top, left = (int(random.integers(have - want + 1)) for have, want in zip(image.shape, size, strict=False))
    return np.ascontiguousarray(image[top : top + size[0], left : left + size[1]])


def _cell() -> tuple[int, int]:
    return FULL_SIZE[0] // _CELLS[0], FULL_SIZE[1] // _CELLS[1]


def _fits(image: Image, size: tuple[int, int]) -> bool:
    return image.shape[0] >= size[0] and image.shape[1] >= size[1]
