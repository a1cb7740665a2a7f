"""Low-resolution images of a folder of photographs: `rgt prepare lr`."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rgt_arch.data.bicubic import crop_to_multiple, hr_lr_pair
from rgt_arch.data.images import (
    PNG_SIGNATURE,
    decode_integers,
    files_by_name,
    image_size,
    is_complete_png,
    read_bytes,
    write_bytes,
    write_png,
)
from rgt_arch.data.output_folders import STAMP, Claim, claim_folders, location, refuse_overlap, remove_leftovers
from rgt_arch.data.parallel import Summary, successes
from rgt_arch.errors import UsageError, UserError

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
class _Layout:
    """Where LR files go in the data set's folder. Sub-folders of HR come between the folder and the file."""

    folder: str
    file: str
    """From the part with {name} on."""

    def root(self, out_folder: Path, scale: int) -> Path:
        return out_folder / self.folder.replace("{scale}", str(scale))

    def path(self, out_folder: Path, scale: int, name: Path) -> Path:
        # The name last, so that a field in it stays as it is.
        file = self.file.replace("{scale}", str(scale)).replace("{name}", name.name)
        return self.root(out_folder, scale) / name.parent / file


@dataclass(frozen=True)
class _Output:
    path: Path
    root: Path
    """The claimed folder that it is in."""
    scale: int  # 1: HR itself
    multiple: int
    """What the sides of HR are cropped to multiples of."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the file for an HR image of this size."""
        return (height - height % self.multiple) // self.scale, (width - width % self.multiple) // self.scale


@dataclass(frozen=True)
class _Task:
    source: Path
    outputs: tuple[_Output, ...]
    anew: bool


@dataclass(frozen=True)
class _Done:
    kept: bool
    size: tuple[int, int]  # of HR


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
    places = _checked_layout(layout, scales)
    named, others = files_by_name(hr_folder)
    out_folder = _parent(hr_folder) if out_folder is None else out_folder
    common = math.lcm(*scales)
    multiples = {scale: common if hr_out else scale for scale in scales}

    plans: dict[Path, tuple[_Output, ...]] = dict.fromkeys(others, ())
    by_root: dict[Path, list[Path]] = {places.root(out_folder, scale): [] for scale in scales}
    if hr_out:
        by_root.setdefault(hr_out, [])
    for name, file in named.items():
        outputs = [
            _Output(places.path(out_folder, scale, name), places.root(out_folder, scale), scale, multiple)
            for scale, multiple in multiples.items()
        ]
        if hr_out:
            outputs.append(_Output(hr_out / name.parent / f"{name.name}.png", hr_out, 1, common))
        for output in outputs:
            by_root[output.root].append(output.path)
        plans[file] = tuple(outputs)
    refuse_overlap({hr_folder: list(plans)}, [path for paths in by_root.values() for path in paths])

    claims = []
    for root, paths in by_root.items():
        here = [scale for scale in scales if places.root(out_folder, scale) == root]
        settings = _settings(hr_folder, root, places.file, {scale: multiples[scale] for scale in here})
        if root == hr_out:
            settings["HR cropped to multiples of"] = common
        claims.append(Claim(root, settings, paths))
    claim_folders(claims, overwrite=overwrite)
    report = LrReport()
    tasks = [_Task(file, plans[file], overwrite) for file in sorted(plans)]
    for _, done in successes(_make, tasks, report.summary, jobs=jobs, title="LR images"):
        report.summary.kept += done.kept
        report.summary.made += not done.kept
        if not hr_out:
            report.uneven.update(scale for scale in scales if any(side % scale for side in done.size))
    for claim in claims:  # of workers of a killed run that were still writing when this one began
        remove_leftovers(claim)
    return report


def _checked_scales(scales: Sequence[int]) -> tuple[int, ...]:
    if not scales or (wrong := next((scale for scale in scales if scale not in SCALES), None)):
        raise UsageError(f"scale {wrong if scales else 'missing'}: choose from {', '.join(map(str, SCALES))}")
    return tuple(sorted(set(scales)))


def _checked_layout(layout: str, scales: Sequence[int]) -> _Layout:
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
        return _Layout("/".join(parts[:start]), "/".join(parts[start:]))
    raise UsageError(f"--layout {layout!r} {problem}; the default is {LAYOUT}")


def _parent(folder: Path) -> Path:
    return folder.parent if folder.name not in ("", "..") else Path(os.path.abspath(folder)).parent


def _settings(hr_folder: Path, root: Path, file: str, multiples: dict[int, int]) -> dict[str, object]:
    """What decides the content of LR files below `root`, the same for every set of scales that agrees on a file."""
    settings: dict[str, object] = {
        "command": "lr",
        "HR": location(hr_folder, root),
    }
    if multiples:
        settings["file"] = file
        plain = all(scale == multiple for scale, multiple in multiples.items())
        settings["HR cropped to multiples of"] = "the scale" if plain else max(multiples.values())
        if "{scale}" not in file:
            (settings["scale"],) = multiples
    return settings


def _all_complete(task: _Task, size: tuple[int, int]) -> bool:
    """Whether all outputs of an HR image of this size are there."""
    return all(
        is_complete_png(output.path, output.size(*size), task.source, output.root / STAMP) for output in task.outputs
    )


def _make(task: _Task) -> _Done:
    size = None if task.anew else image_size(task.source)
    if size and _all_complete(task, size):
        return _Done(True, size)
    try:
        content = read_bytes(task.source)
        image = decode_integers(content, task.source)
        height, width = image.shape[:2]
        if size is None and not task.anew and _all_complete(task, (height, width)):  # its header could not be read
            return _Done(True, (height, width))
        smallest = max((output.multiple for output in task.outputs), default=1)
        if min(height, width) < smallest:
            raise UserError(
                f"{task.source}: is {width}x{height} pixels, smaller than {smallest}x{smallest}, which the scales need"
            )
        for output in task.outputs:
            cropped = crop_to_multiple(image, output.multiple)
            if output.scale > 1:
                write_png(output.path, hr_lr_pair(cropped, output.scale)[1])
            elif cropped.shape == image.shape and content.startswith(PNG_SIGNATURE):
                write_bytes(output.path, content)
            else:
                write_png(output.path, cropped)
    except Exception:
        for output in task.outputs:
            output.path.unlink(missing_ok=True)
        raise
    return _Done(False, (height, width))
