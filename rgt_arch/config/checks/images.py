"""Image sizes from file headers, and HR against LR sizes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rgt_arch.config.checks.pairing import IMAGE_SUFFIXES, Pair

Size = tuple[int, int]
UNREADABLE = "cannot be read as an image; replace or remove it"
_EXIF_ORIENTATION = 0x0112
_PILLOW_READS = IMAGE_SUFFIXES - {".jp2", ".dib", ".avif", ".pxm", ".sr", ".ras", ".exr", ".hdr", ".pic"}


def image_size(file: Path) -> Size | None:
    """(height, width) as OpenCV will decode the file, reading its header only.

    None for formats whose headers Pillow does not know. Raises ValueError for a file that is no image, or a PNG file
    without its end.
    """
    from PIL import Image

    if file.suffix.lower() not in _PILLOW_READS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large images: none is decoded here
            with Image.open(file) as image:
                width, height = image.size
                # OpenCV turns JPEG files as their EXIF data say.
                turned = image.format == "JPEG" and image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
                if image.format == "PNG" and not _has_end(file):
                    image.load()  # raises OSError where pixels are missing
    except Image.DecompressionBombError:
        return None
    except (OSError, SyntaxError) as error:
        raise ValueError("cannot be read as an image") from error
    return (width, height) if turned else (height, width)


def _has_end(file: Path) -> bool:
    """Whether the last chunk of a PNG file is there; a few bytes may follow it."""
    with file.open("rb") as content:
        content.seek(max(file.stat().st_size - 1024, 0))
        return b"IEND" in content.read()


def read_sizes(files: Sequence[Path]) -> tuple[list[Size | None], list[Path]]:
    """`image_size` of each file, None also for those that cannot be read as images; and these."""
    sizes: list[Size | None] = []
    broken = []
    for file in files:
        try:
            sizes.append(image_size(file))
        except ValueError:
            sizes.append(None)
            broken.append(file)
    return sizes, broken


def check_sizes(
    pairs: Sequence[Pair],
    scale: int,
    spare: int,
    patch: int,
    gt_sizes: Mapping[str, Size] | None = None,
    lq_sizes: Mapping[str, Size] | None = None,
) -> Iterator[tuple[str, str]]:
    """Yield (option, message) for pairs whose sizes do not fit, one message for each kind of fault.

    spare: how many pixels more than scale × LR an HR image may have on each side.
    patch: side of LR training patches, or 0.
    gt_sizes, lq_sizes: sizes by name where no files are to be read (LMDB); (0, 0) is unknown.
    """
    of = f"of {len(pairs)} looked at"
    sizes: dict[str, list[Size | None]] = {}
    for key, known, files in (
        ("dataroot_gt", gt_sizes, [pair.gt for pair in pairs]),
        ("dataroot_lq", lq_sizes, [pair.lq for pair in pairs]),
    ):
        sizes[key], broken = ([known[pair.name] for pair in pairs], []) if known is not None else read_sizes(files)
        if broken:
            yield key, f"{len(broken)} {of}: {broken[0]} {UNREADABLE}"
    wrong, small = [], []
    for pair, gt, lq in zip(pairs, sizes["dataroot_gt"], sizes["dataroot_lq"], strict=True):
        if not gt or not lq or 0 in gt or 0 in lq:
            continue
        if any(not 0 <= g - q * scale <= spare for g, q in zip(gt, lq, strict=True)):
            wrong.append((pair, gt, lq))
        if min(lq) < patch:
            small.append((pair.lq, lq))
    if wrong:
        pair, gt, lq = wrong[0]
        ratio = round(gt[0] / lq[0])
        hint = (
            f"set scale: {ratio}, or take the ×{scale} LR images"
            if ratio not in (0, scale)
            else _crop_hint(spare, scale)
        )
        yield (
            "dataroot_lq",
            f"{len(wrong)} {of}: {pair.gt.name} is {gt[1]}×{gt[0]} and its LR image {lq[1]}×{lq[0]}, "
            f"not 1/{scale} of it; {hint}",
        )
    if small:
        file, lq = small[0]
        yield (
            "gt_size",
            f"{len(small)} {of}: {file.name} is {lq[1]}×{lq[0]}, smaller than the LR patch of {patch}×{patch}; "
            f"take gt_size {min(min(size) for _, size in small) * scale} or less, or remove the image",
        )


def _crop_hint(spare: int, scale: int) -> str:
    return "make the LR image anew" if spare else f"cut HR images to multiples of {scale} and make the LR images anew"
