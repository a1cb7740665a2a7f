"""Low-resolution images of a folder of photographs: `rgt prepare lr` and `rgt prepare degrade`."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rgt_arch.data.outputs import Degrading, Target, images_by_name, make_all
from rgt_arch.data.parallel import Summary, Task
from rgt_arch.errors import UsageError

SCALES = (2, 3, 4, 8)
LAYOUT = "LR_bicubic/X{scale}/{name}x{scale}.png"
_LAYOUT = re.compile(r"((?:[^{}]|{scale})*(?=/)|)/?((?:[^/{}]|{scale})*{name}(?:[^/{}]|{scale})*\.png)")


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
