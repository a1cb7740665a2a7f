"""Records of what trainings were begun with, options and data, so that kept ones are not mixed with others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rgt_arch.data.images import walk_files
from rgt_arch.errors import UsageError
from rgt_arch.evaluation.tables.results import software
from rgt_arch.files import file_digest, write_text
from rgt_arch.progress import Progress

_FILE_KEYS = ("dataroot_gt", "dataroot_lq", "meta_info_file", "meta_info")
_CONTENT = " (content)"
_RECORD = "started_with.json"
_READERS_LOCK = "lock.mdb"  # LMDB changes it on every read


def keep_record(folder: Path, options: Mapping[str, Any], data: Mapping[str, str]) -> None:
    """Write the record of a training into its folder, unless there is one. data: `fingerprints`."""
    record = folder / _RECORD
    folder.mkdir(parents=True, exist_ok=True)
    if not record.is_file():
        facts = {**_flat(options), **data}
        write_text(json.dumps({"facts": facts, "software": software()}, indent=1) + "\n", record)


def check_record(folder: Path, options: Mapping[str, Any], data: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Raise UsageError for a kept training with other options or data, or for a folder that no ablation made.

    data: `fingerprints` of the current data; None if kept trainings are only compared with each other. Returns the
    fingerprints for the next call.
    """
    remedy = "choose another folder with --keep, or remove that one"
    try:
        if not any(not file.name.startswith(".") for file in folder.iterdir()):
            return data
        facts = dict(json.loads((folder / _RECORD).read_text("utf-8"))["facts"])
        data = {key: value for key, value in facts.items() if key.endswith(_CONTENT)} if data is None else data
    except FileNotFoundError as error:
        if not folder.exists():
            return data
        raise UsageError(f"{folder}: is not empty and no ablation made it; {remedy}") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{folder}: {_RECORD} cannot be read; {remedy}") from error
    now = {**_flat(options), **data}
    for key in {**facts, **now}:
        if facts.get(key) != now.get(key):
            raise UsageError(
                f"{folder}: holds a run in which {key} is {facts.get(key)!r}, now it is {now.get(key)!r}; {remedy}"
            )
    return data


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten options to keys such as train:optim_g:lr, with values as JSON stores them."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        path = f"{prefix}{key}"
        found |= _flat(value, f"{path}:") if isinstance(value, dict) else {path: json.loads(json.dumps(value))}
    return found


def files_of(options: Mapping[str, Any]) -> dict[str, Path]:
    """Absolute paths of the data and weights in options, by key; names of published weights are not files."""
    named = {
        f"datasets:{phase}:{key}": data.get(key) for phase, data in options["datasets"].items() for key in _FILE_KEYS
    }
    weights = (options.get("path") or {}).get("pretrain_network_g")
    if weights and Path(weights).expanduser().exists():
        named["path:pretrain_network_g"] = weights
    return {key: Path(value).expanduser().absolute() for key, value in named.items() if value}


def fingerprints(files: Mapping[str, Path]) -> dict[str, str]:
    """Describe the content of `files_of`. Raises UsageError for unreadable files."""
    return {key + _CONTENT: _fingerprint(path) for key, path in files.items()}


def _fingerprint(path: Path) -> str:
    """Number, bytes and a digest of a file or of all files in a folder. Raises UsageError for unreadable files."""
    files = sorted(walk_files(path)) if path.is_dir() else [path]
    files = [file for file in files if file.name != _READERS_LOCK]
    whole, size = hashlib.sha256(), 0
    with Progress(len(files), f"reading {path}", "file") as progress:
        for file in files:
            name = "" if file == path else file.relative_to(path).as_posix()
            whole.update(f"{name}\0{file_digest(file)}\n".encode(errors="surrogateescape"))
            size += file.stat().st_size
            progress.advance()
    return f"{len(files)} files of {size:,} bytes, {whole.hexdigest()[:16]}"
