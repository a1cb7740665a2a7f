"""Folders that a preparation command fills: a stamp lets a second run go on, and keeps it off other files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rgt_arch.errors import UsageError, UserError
from rgt_arch.files import written_whole

STAMP = ".rgt_prepare.json"
_PARTIAL = re.compile(r"^\..*\.(\d+)\.part\.\w+$")  # what `written_whole` writes to: .name.<process>.part.png
_LONGEST_WRITE = 600  # seconds


@dataclass(frozen=True)
class Claim:
    """A folder that a command is about to fill."""

    folder: Path
    settings: Mapping[str, object]
    """What decides the content of the files, as JSON values; kept in a hidden file in the folder."""
    outputs: Collection[Path]

    @property
    def stamp(self) -> Path:
        """The hidden file. Outputs older than it are not of this command: `is_complete_png` takes it as a source."""
        return self.folder / STAMP


def claim_folders(claims: Sequence[Claim], *, overwrite: bool = False) -> None:
    """Make folders ready for their outputs, or go on with what an earlier run with equal settings left in them.

    Unfinished files of a killed run are removed. With `overwrite`, files of other settings or origin may be replaced.
    Raises UsageError if a folder was filled with other settings, or holds files of these names that no run of ours
    made: no folder is touched then. UserError if one cannot be written to.
    """
    for claim in claims:
        if not overwrite:
            _check(claim)
    for claim in claims:
        _take(claim, anew=overwrite)
        remove_leftovers(claim)


def refuse_overlap(inputs: Mapping[Path, Collection[Path]], outputs: Collection[Path]) -> None:
    """Raises UsageError if an output would lie in an input folder, replace an input, or have the path of another one.

    inputs: the files of each input folder, links to other places among them.
    """
    folders = {folder: Path(os.path.realpath(folder)) for folder in inputs}
    places = {place: Path(os.path.realpath(place)) for files in inputs.values() for place in {f.parent for f in files}}
    places.update({place: Path(os.path.realpath(place)) for place in {path.parent for path in outputs}})
    taken = {places[file.parent] / file.name for files in inputs.values() for file in files}
    seen: set[Path] = set()
    for path in outputs:
        real = places[path.parent] / path.name
        if inside := next((folder for folder, place in folders.items() if real.is_relative_to(place)), None):
            raise UsageError(f"{path} would lie inside the input folder {inside}; choose another output folder")
        if real in taken:
            raise UsageError(f"{path} is an input; choose another output folder")
        if real in seen:
            raise UsageError(f"{path} would be the output of two images; choose another layout or output folder")
        seen.add(real)


def location(folder: Path, seen_from: Path) -> str:
    """Where an input folder is, for settings: relative to the output folder, so that both can be moved together."""
    real, start = os.path.realpath(folder), os.path.realpath(seen_from)
    try:
        return Path(os.path.relpath(real, start)).as_posix()
    except ValueError:  # on another drive of Windows
        return Path(real).as_posix()


def _check(claim: Claim) -> None:
    if claim.stamp.exists():
        before, now = _read(claim.stamp), json.loads(json.dumps(dict(claim.settings)))
        if before != now:
            raise UsageError(
                f"{claim.folder}: was filled with other settings ({_differences(before, now)}); "
                "choose another folder, or --overwrite its files"
            )
    elif there := next((path for path in claim.outputs if os.path.lexists(path)), None):
        raise UsageError(
            f"{there} exists and was not made by this command; choose another folder, or --overwrite its files"
        )


def _take(claim: Claim, *, anew: bool) -> None:
    try:
        claim.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{claim.folder}: cannot be made ({error.strerror})") from error
    if anew or not claim.stamp.exists():  # its age tells finished files from those that were to be overwritten
        with written_whole(claim.stamp) as beside:
            beside.write_text(json.dumps(dict(claim.settings), sort_keys=True) + "\n", encoding="utf-8")


def _read(stamp: Path) -> dict[str, object]:
    try:
        content = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{stamp}: cannot be read ({error}); remove it and --overwrite the folder's files") from error
    return content if isinstance(content, dict) else {}


def _differences(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return ", ".join(f"{name} {before.get(name)}, now {now.get(name)}" for name in names)


def remove_leftovers(claim: Claim) -> None:
    """Remove the unfinished files of killed runs from a claimed folder and those of its outputs."""
    for place in {claim.folder, *(path.parent for path in claim.outputs)}:
        if not place.is_dir():
            continue
        for entry in os.scandir(place):
            match = _PARTIAL.match(entry.name)
            if match and not (is_running(int(match[1])) and _is_recent(entry)):
                with contextlib.suppress(OSError):  # gone, or in use
                    os.unlink(entry.path)


def _is_recent(entry: os.DirEntry[str]) -> bool:
    """Whether a process can still be writing it, rather than a later one have got the same number."""
    try:
        return time.time() - entry.stat().st_mtime < _LONGEST_WRITE
    except OSError:
        return False


def is_running(process: int) -> bool:
    """Whether a process with this id runs here; on Windows always False."""
    if sys.platform == "win32":  # where os.kill would end it
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it runs, but is not ours
        return True
    try:
        # A killed worker whose parent is dead too stays listed where nobody takes its exit status, as in containers.
        state = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state != "Z"
