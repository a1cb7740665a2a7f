"""Making PNG files of the images of a folder: the flow that `rgt prepare lr` and `rgt prepare subimages` share.

A hidden stamp in each output folder holds the settings: a second run goes on, and files of others are left alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rgt_arch.data.bicubic import imresize
from rgt_arch.data.images import (
    PNG_SIGNATURE,
    Size,
    decode_integers,
    image_size,
    is_complete_png,
    read_bytes,
    write_bytes,
    write_png,
)
from rgt_arch.data.parallel import Summary, is_running, successes
from rgt_arch.errors import UsageError, UserError

STAMP = ".rgt_prepare.json"
_PARTIAL = re.compile(r"\..*\.(\d+)\.part\.\w+")  # what `written_whole` writes to: .name.<process>.part.png


@dataclass(frozen=True)
class Claim:
    """A folder that a command is about to fill. outputs: the files there that must not be those of others."""

    folder: Path
    settings: Mapping[str, object]
    """What decides the content of the files, as JSON values; kept in the stamp."""
    outputs: Collection[Path]


@dataclass(frozen=True)
class Output:
    """A file to be made of a part of a source image."""

    path: Path
    folder: Path
    """The claimed folder that it is in. Files older than its stamp are not outputs of this command."""
    source: int
    """Index of the source image."""
    box: tuple[int, int, int, int]
    """(top, left, height, width) of the part."""
    shrink: int = 1
    """How many times smaller MATLAB's bicubic makes the part."""

    @property
    def size(self) -> Size:
        """(height, width) of the file."""
        return self.box[2] // self.shrink, self.box[3] // self.shrink


@dataclass(frozen=True)
class Task:
    """The outputs of one HR image, and of its LR images where outputs are made of these too."""

    sources: tuple[Path, ...]
    """HR first."""
    is_anew: bool
    """Whether complete outputs are made again."""

    @property
    def source(self) -> Path:
        """The HR image, for messages."""
        return self.sources[0]

    def plan(self, sizes: Sequence[Size]) -> list[Output]:
        """The outputs of sources of these sizes. Raises UserError for sizes that do not fit."""
        raise NotImplementedError

    def stale(self, plan: Sequence[Output]) -> list[Path]:
        """Paths of outputs that are not in the plan; they may have been made of an earlier version of the sources."""
        raise NotImplementedError

    def cropped(self, size: Size, multiple: int) -> Size:
        """The size of HR cropped to a multiple. Raises UserError if nothing is left."""
        height, width = (side - side % multiple for side in size)
        if min(height, width) == 0:
            least = f"{multiple}x{multiple}"
            raise UserError(
                f"{self.source}: is {size[1]}x{size[0]} pixels, smaller than {least}, which the scales need"
            )
        return height, width


@dataclass(frozen=True)
class Done:
    """What came of one task. kept: its outputs were complete. size: of the HR image."""

    kept: bool
    size: Size
    outputs: int


def make_all(
    tasks: Sequence[Task],
    claims: Sequence[Claim],
    inputs: Mapping[Path, Collection[Path]],
    summary: Summary,
    *,
    jobs: int,
    overwrite: bool,
    title: str,
) -> Iterator[Done]:
    """Make the outputs of all tasks; yields what came of those that worked. One that fails has no outputs afterwards.

    Outputs that are complete, of the right size and newer than their source and stamp are kept, unless `overwrite`.
    inputs: the files of each input folder. Raises UsageError, before anything is touched, if an output would replace
    or lie among inputs, or a folder holds files of these names with other settings or of other origin; UserError for
    a folder that cannot be written to.
    """
    refuse_overlap(inputs, [path for claim in claims for path in claim.outputs])
    if not overwrite:
        for claim in claims:
            _check(claim)
    for claim in claims:
        stamp = claim.folder / STAMP
        _remove_partial_files(claim)
        if overwrite or not stamp.exists():
            write_bytes(stamp, (json.dumps(dict(claim.settings), sort_keys=True) + "\n").encode())
    for _, done in successes(_make, tasks, summary, jobs=jobs, title=title):
        summary.kept += done.kept
        summary.made += not done.kept
        yield done
    for claim in claims:  # of workers of a killed run that were still writing when this one began
        _remove_partial_files(claim)


def refuse_overlap(inputs: Mapping[Path, Collection[Path]], outputs: Collection[Path]) -> None:
    """Raises UsageError if an output would lie in an input folder, replace an input, or have the path of another one.

    inputs: the files of each input folder, links to other places among them.
    """
    parents = {path.parent for paths in (*inputs.values(), outputs) for path in paths}
    places = {folder: Path(os.path.realpath(folder)) for folder in {*parents, *inputs}}
    taken = {places[file.parent] / file.name for files in inputs.values() for file in files}
    seen: set[Path] = set()
    for path in outputs:
        real = places[path.parent] / path.name
        if inside := next((folder for folder in inputs if real.is_relative_to(places[folder])), None):
            raise UsageError(f"{path} would lie inside the input folder {inside}; choose another output folder")
        if real in taken:
            raise UsageError(f"{path} is an input; choose another output folder")
        if real in seen:
            raise UsageError(f"{path} would be the output of two images; choose another layout or output folder")
        seen.add(real)


def location(folder: Path, seen_from: Path) -> str:
    """Where an input folder is, for settings: relative to the output folder, so that both can be moved together."""
    real = os.path.realpath(folder)
    with contextlib.suppress(ValueError):  # on another drive of Windows
        real = os.path.relpath(real, os.path.realpath(seen_from))
    return Path(real).as_posix()


def _check(claim: Claim) -> None:
    stamp = claim.folder / STAMP
    if stamp.exists():
        try:
            before = dict(json.loads(stamp.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(
                f"{stamp}: cannot be read ({error}); remove it and --overwrite the folder's files"
            ) from error
        now = json.loads(json.dumps(dict(claim.settings)))
        names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        if names:
            raise UsageError(
                f"{claim.folder}: was filled with other settings "
                f"({', '.join(f'{name} {before.get(name)}, now {now.get(name)}' for name in names)}); choose another "
                "folder, or --overwrite its files"
            )
    elif there := next((path for path in claim.outputs if os.path.lexists(path)), None):
        raise UsageError(
            f"{there} exists and was not made by this command; choose another folder, or --overwrite its files"
        )


def _remove_partial_files(claim: Claim) -> None:
    for folder in {claim.folder, *(path.parent for path in claim.outputs)}:
        with contextlib.suppress(OSError):  # there is no such folder yet
            for entry in list(os.scandir(folder)):
                match = _PARTIAL.fullmatch(entry.name)
                if match and not is_running(int(match[1])):
                    os.unlink(entry)


def _make(task: Task) -> Done:
    if not task.is_anew:
        with contextlib.suppress(UserError):
            sizes = [_size(source) for source in task.sources]
            plan = task.plan(sizes)
            if all(_is_complete(output, task) for output in plan) and not any(p.exists() for p in task.stale(plan)):
                return Done(True, sizes[0], len(plan))
    try:
        contents = [read_bytes(source) for source in task.sources]
        images = [decode_integers(*pair) for pair in zip(contents, task.sources, strict=True)]
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        plan = task.plan(sizes)
        for output in plan:
            top, left, height, width = output.box
            part = images[output.source][top : top + height, left : left + width]
            if output.shrink > 1:
                write_png(output.path, imresize(part, 1 / output.shrink))
            elif output.size == sizes[output.source] and contents[output.source].startswith(PNG_SIGNATURE):
                write_bytes(output.path, contents[output.source])
            else:
                write_png(output.path, part)
        _remove(task.stale(plan))
    except Exception:
        with contextlib.suppress(OSError):
            _remove(task.stale([]))
        raise
    return Done(False, sizes[0], len(plan))


def _is_complete(output: Output, task: Task) -> bool:
    return is_complete_png(output.path, output.size, task.sources[output.source], output.folder / STAMP)


def _size(source: Path) -> Size:
    size = image_size(source)
    if size is None:  # its header could not be read
        image = decode_integers(read_bytes(source), source)
        size = (image.shape[0], image.shape[1])
    return size


def _remove(paths: Sequence[Path]) -> None:
    for path in reversed(paths):  # from the last on: a run killed meanwhile leaves no gap in the numbers
        path.unlink(missing_ok=True)
