"""Folders that a preparation command fills: a stamp lets a second run go on, and keeps it off other files."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from rgt_arch.errors import UsageError, UserError
from rgt_arch.files import written_whole

STAMP = ".rgt_prepare.json"
_PARTIAL = re.compile(r"^\..*\.(\d+)\.part\.\w+$")  # what `written_whole` writes to: .name.<process>.part.png


def claim_folder(
    folder: Path, settings: Mapping[str, object], outputs: Collection[Path], *, overwrite: bool = False
) -> None:
    """Make `folder` ready for `outputs`, or go on with what an earlier run with equal `settings` left in it.

    settings: what decides the content of the files, as JSON values; kept in a hidden file in the folder. Unfinished
    files of a killed run are removed. With `overwrite`, files of other settings or origin may be replaced.
    Raises UsageError if the folder was filled with other settings, or holds files of these names that no run of ours
    made; UserError if it cannot be written to.
    """
    stamp = folder / STAMP
    if not overwrite:
        if stamp.exists():
            before = _read(stamp)
            if before != dict(settings):
                raise UsageError(
                    f"{folder}: was filled with other settings ({_differences(before, settings)}); "
                    "choose another folder, or --overwrite its files"
                )
        elif there := next((path for path in outputs if path.exists()), None):
            raise UsageError(
                f"{there} exists and was not made by this command; choose another folder, or --overwrite its files"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from error
    with written_whole(stamp) as beside:
        beside.write_text(json.dumps(dict(settings), sort_keys=True) + "\n", encoding="utf-8")
    for place in {folder, *(path.parent for path in outputs)}:
        if place.is_dir():
            _remove_leftovers(place)


def _read(stamp: Path) -> dict[str, object]:
    try:
        content = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{stamp}: cannot be read ({error}); remove it and --overwrite the folder's files") from error
    return content if isinstance(content, dict) else {}


def _differences(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return ", ".join(f"{name} {before.get(name)}, now {now.get(name)}" for name in names)


def _remove_leftovers(folder: Path) -> None:
    for entry in os.scandir(folder):
        match = _PARTIAL.match(entry.name)
        if match and not _is_running(int(match[1])):
            Path(entry.path).unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if sys.platform == "win32":  # where os.kill would end it
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it runs, but is not ours
        return True
    return True
