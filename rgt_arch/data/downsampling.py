"""Low-resolution images of a folder of photographs: `rgt prepare lr`."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rgt_arch.data.images import Size, files_by_name
from rgt_arch.data.outputs import Claim, Output, Task, location, make_all
from rgt_arch.data.parallel import Summary
from rgt_arch.errors import UsageError

SCALES = (2, 3, 4, 8)
LAYOUT = "LR_bicubic/X{scale}/{name}x{scale}.png"


@dataclass
class LrReport:
    """What came of a folder of photographs."""

    summary: Summary = field(default_factory=Summary)
    uneven: Counter[int] = field(default_factory=Counter)
    """For each scale, how many HR images are larger than scale × LR, because their sides are no multiples of it."""

    def advice(self) -> str | None:
        """One line on HR images that BasicSR would refuse to train on, if there are some."""
        counts = ", ".join(f"{count} at x{scale}" for scale, count in sorted(self.uneven.items()) if count)
        if not counts:
            return None
        return (
            f"HR images whose sides are no multiples of the scale: {counts}. BasicSR trains only on HR of exactly "
            "scale x LR: run again with --hr-out DIR, and train on the HR in DIR"
        )


@dataclass(frozen=True)
class _Place:
    """A file of an HR image in one of the output folders. scale: 1 for HR itself. HR is cropped to `multiple`."""

    path: Path
    folder: Path
    scale: int
    multiple: int


@dataclass(frozen=True)
class _Task(Task):
    places: tuple[_Place, ...]

    def plan(self, sizes: Sequence[Size]) -> list[Output]:
        boxes = [(0, 0, *self.cropped(sizes[0], place.multiple)) for place in self.places]
        return [
            Output(place.path, place.folder, 0, box, place.scale) for place, box in zip(self.places, boxes, strict=True)
        ]

    def stale(self, plan: Sequence[Output]) -> list[Path]:
        return [] if plan else [place.path for place in self.places]


def make_lr_images(
    hr_folder: Path,
    out_folder: Path | None = None,
    scales: Sequence[int] = (4,),
    *,
    layout: str = LAYOUT,
    hr_out: Path | None = None,
    jobs: int = 1,
    overwrite: bool = False,
) -> LrReport:
    """Write the LR images that MATLAB's bicubic `imresize` makes of all images below a folder, as PNG.

    out_folder: the data set's folder, by default the one that `hr_folder` is in. layout: where LR files go inside it,
    with the fields {name} and {scale}; sub-folders of `hr_folder` are kept. HR is cropped at the bottom and right to a
    multiple of the scale. hr_out: a folder for HR of exactly scale × LR, as BasicSR's training wants it
    (data/transforms.py:63); all scales then share one crop, to a multiple of every scale.

    Outputs that are complete, of the right size and newer than their source are kept, unless `overwrite`. An image
    that fails has no output afterwards, not even one of an earlier version of it.
    Raises UsageError for wrong arguments, names that collide, and folders filled with something else; UserError for
    folders that cannot be written to.
    """
    scales = _checked_scales(scales)
    folder, file = _checked_layout(layout, scales)
    named, others = files_by_name(hr_folder)
    out_folder = Path(os.path.abspath(hr_folder)).parent if out_folder is None else out_folder
    common = math.lcm(*scales)
    multiples = {scale: common if hr_out else scale for scale in scales}
    roots = {scale: out_folder / folder.replace("{scale}", str(scale)) for scale in scales}

    tasks = [_Task((other,), overwrite, ()) for other in others]
    outputs: dict[Path, list[Path]] = {root: [] for root in (*roots.values(), *([hr_out] if hr_out else []))}
    for name, source in named.items():
        places = []
        for scale, root in roots.items():
            # The name last, so that a field in it stays as it is.
            path = root / name.parent / file.replace("{scale}", str(scale)).replace("{name}", name.name)
            places.append(_Place(path, root, scale, multiples[scale]))
        if hr_out:
            places.append(_Place(hr_out / name.parent / f"{name.name}.png", hr_out, 1, common))
        for place in places:
            outputs[place.folder].append(place.path)
        tasks.append(_Task((source,), overwrite, tuple(places)))
    claims = []
    for root, paths in outputs.items():
        settings: dict[str, object] = {"command": "lr", "HR": location(hr_folder, root)}
        here = [scale for scale in scales if roots[scale] == root]
        if here:  # the same for every set of scales that agrees on a file
            settings |= {
                "file": file,
                "HR cropped to multiples of": common if common != here[0] and hr_out else "the scale",
            }
            if "{scale}" not in file:
                settings["scale"] = here[0]
        if root == hr_out:
            settings["HR cropped to multiples of"] = common
        claims.append(Claim(root, settings, paths))
    report = LrReport()
    tasks.sort(key=lambda task: task.source)
    inputs = {hr_folder: [task.source for task in tasks]}
    for done in make_all(tasks, claims, inputs, report.summary, jobs=jobs, overwrite=overwrite, title="LR images"):
        if not hr_out:
            report.uneven.update(scale for scale in scales if any(side % scale for side in done.size))
    return report


def _checked_scales(scales: Sequence[int]) -> tuple[int, ...]:
    if not scales or (wrong := next((scale for scale in scales if scale not in SCALES), None)):
        raise UsageError(f"scale {wrong if scales else 'missing'}: choose from {', '.join(map(str, SCALES))}")
    return tuple(sorted(set(scales)))


def _checked_layout(layout: str, scales: Sequence[int]) -> tuple[str, str]:
    """The folder of LR files in the data set's folder, and the file in it; sub-folders of HR come between them."""
    plain = layout.replace("{name}", "").replace("{scale}", "")
    parts = layout.split("/")
    if "{" in plain or "}" in plain:
        problem = "has fields other than {name} and {scale}"
    elif os.path.isabs(layout) or any(part in ("", ".", "..") for part in parts):
        problem = "must be a path inside the output folder, without . or .."
    elif "{name}" not in layout:
        problem = "needs the field {name}"
    elif not layout.endswith(".png"):
        problem = "must end with .png"
    elif len(scales) > 1 and "{scale}" not in layout:
        problem = f"needs the field {{scale}}, as there are {len(scales)} scales"
    else:
        start = next(index for index, part in enumerate(parts) if "{name}" in part)
        return "/".join(parts[:start]), "/".join(parts[start:])
    raise UsageError(f"--layout {layout!r} {problem}; the default is {LAYOUT}")
