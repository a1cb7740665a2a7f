"""Image sizes from file headers, and HR against LR sizes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rgt_arch.config.checks.pairing import IMAGE_SUFFIXES, Pair

Size = tuple[int, int]
_EXIF_ORIENTATION = 0x0112
_PILLOW_READS = IMAGE_SUFFIXES - {".jp2", ".dib", ".avif", ".pxm", ".sr", ".ras", ".exr", ".hdr", ".pic"}


def image_size(file: Path) -> Size | None:
    """(height, width) as OpenCV will decode the file, reading its header only.

    None for formats whose headers Pillow does not know. Raises ValueError for a file that is no image.
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
    except Image.DecompressionBombError:
        return None
    except (OSError, SyntaxError) as error:
        raise ValueError("cannot be read as an image") from error
    return (width, height) if turned else (height, width)


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
    wrong, small, broken = [], [], []
    for pair in pairs:
        try:
            gt = gt_sizes[pair.name] if gt_sizes is not None else image_size(pair.gt)
            file = pair.lq
            lq = lq_sizes[pair.name] if lq_sizes is not None else image_size(pair.lq)
        except ValueError:
            broken.append(pair)
            continue
        if not gt or not lq or 0 in gt or 0 in lq:
            continue
        if any(not 0 <= g - q * scale <= spare for g, q in zip(gt, lq, strict=True)):
            wrong.append((pair, gt, lq))
        if min(lq) < patch:
            small.append((file, lq))
    of = f"of {len(pairs)} looked at"
    if broken:
        pair = broken[0]
        yield "dataroot_gt", f"{len(broken)} {of}: {pair.gt} or its LR image cannot be read as an image; replace it"
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
