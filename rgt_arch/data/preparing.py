"""LR images and sub-images of a folder of photographs: `rgt prepare lr`, `degrade` and `subimages`."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from rgt_arch.data.images import header_size
from rgt_arch.data.outputs import Cutting, Degrading, Target, crop, images_by_name, make_all
from rgt_arch.data.pairing import guess_template, pair_names
from rgt_arch.data.parallel import Summary, Task
from rgt_arch.errors import UsageError, UserError

SCALES = (2, 3, 4, 8)
LAYOUT = "LR_bicubic/X{scale}/{name}x{scale}.png"
_LAYOUT = re.compile(r"((?:[^{}]|{scale})*(?=/)|)/?((?:[^/{}]|{scale})*{name}(?:[^/{}]|{scale})*\.png)")
_LARGEST_SCALE = 16
_PATCH = 64  # pixels of an LR training patch in the option files


def make_lr_images(
    hr_folder: Path,
    out_folder: Path | None = None,
    scales: Sequence[int] = (4,),
    *,
    layout: str | None = None,
    hr_out: Path | None = None,
    degrading: Degrading | None = None,
    jobs: int = 1,
    overwrite: bool = False,
) -> Summary:
    """Write LR images of all images below a folder as PNG, made by MATLAB's bicubic `imresize` or by a degradation.

    out_folder: the data set's folder, by default the parent of `hr_folder`. layout: path of LR files in it, with the
    fields {name} and {scale}, by default LAYOUT, with the name of the profile if the images are degraded; sub-folders
    of `hr_folder` are kept. HR is cropped at the bottom and right to a multiple
    of the scale. hr_out: a folder for HR of exactly scale × LR, as BasicSR's training requires
    (data/transforms.py:63); all scales then share one crop, to a multiple of every scale.

    Files that are complete, of the right size and newer than their source are kept, unless `overwrite`. A note in the
    result counts the HR images that BasicSR refuses to train on.
    Raises UsageError for wrong arguments, names that collide, and output folders with other contents; UserError for
    folders that cannot be written to.
    """
    scales = sorted(set(scales))
    if not scales or not set(scales) <= set(SCALES):
        raise UsageError(f"scales {scales}: choose from {', '.join(map(str, SCALES))}")
    out_folder = Path(os.path.abspath(hr_folder)).parent if out_folder is None else out_folder
    layout = layout or LAYOUT.replace("bicubic", degrading.profile if degrading else "bicubic")
    common, targets = math.lcm(*scales), []
    for scale in scales:
        folder, file = _split_layout(layout, scale, len(scales))
        multiple = common if hr_out else scale
        targets.append(Target(out_folder / folder, file, hr_folder, multiple, shrink=scale, degrading=degrading))
    if hr_out:
        targets.append(Target(hr_out, "{name}.png", hr_folder, common))
    if len({os.path.realpath(target.folder) for target in targets}) < len(targets):
        raise UsageError(f"--hr-out {hr_out}: is the folder of LR images; choose another one")

    summary = Summary()
    tasks = [Task((file,), name) for name, file in images_by_name(hr_folder, summary).items()]
    ready_to_fork: AbstractContextManager[None] = nullcontext()
    if degrading:
        # imports BasicSR, which bicubic LR images do not need; here once, not in each process
        from rgt_arch.data.degradations import one_thread

        ready_to_fork = one_thread()
    with ready_to_fork:
        sizes = make_all(tasks, targets, summary, "LR images", jobs=jobs, overwrite=overwrite)
    summary.notes.append(f"images in {' and '.join(str(target.folder) for target in targets)}: {len(sizes)}")
    uneven = Counter(scale for scale in scales for size in sizes if any(side % scale for side in size))
    if uneven and not hr_out:
        counts = ", ".join(f"{count} at x{scale}" for scale, count in uneven.items())
        summary.notes.append(
            f"HR images whose sides are not multiples of the scale: {counts}. BasicSR trains only on HR of exactly "
            "scale x LR: run again with --hr-out DIR, and train on the HR in DIR"
        )
    return summary


def _split_layout(layout: str, scale: int, scales: int) -> tuple[str, str]:
    """Split a layout into the LR folder and the file name; sub-folders of HR come between them."""
    match = _LAYOUT.fullmatch(layout)
    if not match or {"", ".", ".."} & set(layout.split("/")) or (scales > 1 and "{scale}" not in match[1]):
        raise UsageError(
            f"--layout {layout!r}: must be a path inside the output folder with {{name}} in the name of a .png file, "
            f"with {{scale}} in the folder if there are several scales, and no other field; the default is {LAYOUT}"
        )
    return match[1].replace("{scale}", str(scale)), match[2].replace("{scale}", str(scale))


def make_sub_images(
    hr_folder: Path,
    out_folder: Path,
    lr_folders: Sequence[Path] = (),
    *,
    cutting: Cutting | None = None,
    jobs: int = 1,
    overwrite: bool = False,
) -> Summary:
    """Cut all images below `hr_folder`, and their LR images at the same places, into PNG files with equal names.

    Crops of `a/b.png` are HR/a/b_s001.png, … in `out_folder`, and LR_bicubic/X2/a/b_s001.png, … of an LR folder whose
    images are named `a/bx2` or `a/b` and are 2 times smaller. HR is first cropped to a multiple of every scale.

    Crops that are complete, of the right size and newer than their source are kept, unless `overwrite`. An image that
    cannot be read, in HR or LR, gives no crops. Images smaller than a crop and than a training patch (64 LR pixels) are
    left out; a note in the result counts them.
    Raises UsageError for wrong arguments, names that collide, LR folders that do not match HR, and output folders with
    other contents; UserError for folders that cannot be written to.
    """
    cutting, summary = cutting or Cutting(), Summary()
    named = images_by_name(hr_folder, summary)
    found = [(folder, *_lr_images(folder, hr_folder, named, summary)) for folder in lr_folders]
    scales = [scale for _, scale, _ in found]
    for folder, scale, _ in found:
        if cutting.size % scale or cutting.step % scale:
            raise UsageError(
                f"--size is {cutting.size} and --step {cutting.step}; both must be multiples of {scale}, by which the "
                f"images in {folder} are smaller than HR"
            )
        if scales.count(scale) > 1:
            raise UsageError(
                f"{folder}: another LR folder is {scale} times smaller than HR too; cut it into another OUT"
            )
    least = min(cutting.size, _PATCH * max(scales, default=1))
    tasks, small = [], 0
    for name, file in named.items():
        missing = [folder for folder, _, files in found if name not in files]
        with suppress(UserError):  # an unreadable image fails later
            if min(header_size(file)) < least:
                small += 1
                continue
        if missing:
            summary.fail(f"{file}: there is no LR image for it in {missing[0]}")
        else:
            tasks.append(Task((file, *(files[name] for _, _, files in found)), name))

    multiple = math.lcm(*scales)
    targets = [Target(out_folder / "HR", "{name}_s{number:03d}.png", hr_folder, multiple, cutting=cutting)]
    for index, (folder, scale, _) in enumerate(found, 1):
        place = out_folder / "LR_bicubic" / f"X{scale}"
        targets.append(Target(place, targets[0].file, folder, multiple, index, scale, cutting=cutting))
    sizes = make_all(tasks, targets, summary, "sub-images", jobs=jobs, overwrite=overwrite)
    kept = [crop(size, multiple) for size in sizes]
    count = sum(len(cutting.boxes(size)) for size in kept)
    summary.notes.append(f"sub-images in {' and '.join(str(target.folder) for target in targets)}: {count}")
    if whole := sum(min(size) < cutting.size for size in kept):
        summary.notes.append(f"images smaller than {cutting.size} pixels in a direction, kept whole there: {whole}")
    if small:
        summary.notes.append(f"images smaller than {least} pixels in a direction, left out: {small}")
    return summary


def _lr_images(
    folder: Path, hr_folder: Path, hr: Mapping[Path, Path], summary: Summary
) -> tuple[int, dict[Path, Path]]:
    """Return the scale of an LR folder, and its images by the names of their HR images.

    One template and one scale apply to the whole folder: each is the one that fits the most images.
    """
    files = {file.relative_to(folder).as_posix(): file for file in images_by_name(folder, summary).values()}
    names = {file.relative_to(hr_folder).as_posix(): name for name, file in hr.items()}
    pairing = pair_names(names, files, guess_template(names, files) or "{}")
    found = {names[gt]: files[lq] for gt, lq in pairing.all_pairs}
    fitting: Counter[int] = Counter()
    for name, file in found.items():
        with suppress(UserError):
            (height, width), small = header_size(hr[name]), header_size(file)
            fitting.update(n for n in range(2, _LARGEST_SCALE + 1) if small == (height // n, width // n))
    if not fitting:
        raise UsageError(
            f"{folder}: none of its images is named like one in {hr_folder}, with or without x2, x3, …, and 2 to "
            f"{_LARGEST_SCALE} times smaller"
        )
    for lone in pairing.lone_lq:
        summary.fail(f"{files[lone]}: there is no HR image for it in {hr_folder}")
    return fitting.most_common(1)[0][0], found
