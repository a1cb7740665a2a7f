"""Weights by name: which there are, those that ship with the package, and the cache of those that are downloaded."""

from __future__ import annotations

import difflib
import json
import os
import sys
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import requests
from filelock import FileLock

from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.errors import UsageError, UserError
from rgt_arch.file_kinds import CHECKPOINT_SUFFIXES
from rgt_arch.files import file_digest, written_whole
from rgt_arch.weights.inspecting import infer_config
from rgt_arch.weights.reading import read_checkpoint

BUNDLED = Path(__file__).parent / "bundled"
"""Files of the package: slim safetensors that `rgt convert` writes here, and their sums (sha256sum *.safetensors)."""
SUMS = "SHA256SUMS"

_HUB = "https://github.com/OpenModelDB/model-hub/releases/download/rgt"
_OFFICIAL = "https://github.com/zhengchen1999/RGT"
_OWN_LICENCE = "Apache-2.0; trained on photographs under CC BY-SA 4.0, CC0 and the Unsplash licence"


@dataclass(frozen=True)
class ZooEntry:
    """Weights that have a name."""

    name: str
    preset: str
    """Key of `PRESETS`."""
    scale: int
    licence: str
    url: str | None = None
    bundled: bool = False
    """The file ships with the package. Without it and without a URL, the file is put into the cache by hand."""


def _published(preset: str, scale: int, file: str | None) -> ZooEntry:
    name = f"{preset.replace('-', '_')}_x{scale}"
    return ZooEntry(name, preset, scale, f"Apache-2.0, {_OFFICIAL}", url=f"{_HUB}/{file}" if file else None)


ZOO: Mapping[str, ZooEntry] = {
    entry.name: entry
    for entry in (
        _published("RGT", 2, "2x-RGT.pth"),
        _published("RGT", 3, "3x-RGT.pth"),
        _published("RGT", 4, "4x-RGT.pth"),
        _published("RGT-S", 2, None),
        _published("RGT-S", 3, None),
        _published("RGT-S", 4, "4x-RGT_S.pth"),
        ZooEntry("RGT_T_x2", "RGT-T", 2, _OWN_LICENCE, bundled=True),
        ZooEntry("RGT_T_x4", "RGT-T", 4, _OWN_LICENCE, bundled=True),
    )
}


def describe_zoo() -> str:
    """A table for people: every name, its scale, where its file is or comes from, and the licence."""
    rows = [("name", "scale", "file", "licence")]
    rows += [(entry.name, f"×{entry.scale}", _whereabouts(entry), entry.licence) for entry in ZOO.values()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", f"downloads are kept in {cache_folder()} (environment: RGT_CACHE)"])


def _whereabouts(entry: ZooEntry) -> str:
    file = local_file(entry)
    if file:
        return f"{'in the package' if entry.bundled else file}, {file.stat().st_size / 1e6:.1f} MB"
    if entry.bundled:
        return "missing from this installation"
    return "downloaded at first use" if entry.url else "to be put into the cache by hand"


def plain_name(name: str) -> str:
    """A name as it is compared with others: upper and lower case are the same, and so are `-` and `_`."""
    return name.strip().casefold().replace("-", "_")


def find_entry(name: str) -> ZooEntry | None:
    """The entry of a name, which need not be exact (see `plain_name`)."""
    return {plain_name(known): entry for known, entry in ZOO.items()}.get(plain_name(name))


def named(name: str) -> ZooEntry:
    """The entry of a name. Raises UsageError with the names there are and the nearest."""
    entry = find_entry(name)
    if entry:
        return entry
    near = difflib.get_close_matches(plain_name(name), [plain_name(known) for known in ZOO], n=1)
    nearest = find_entry(near[0]) if near else None
    meant = f"; did you mean {nearest.name}?" if nearest else ""
    raise UsageError(f"{name}: no such file, and no weights of that name{meant} (names: {', '.join(ZOO)})")


def cache_folder() -> Path:
    """Where downloaded weights are kept: the environment's RGT_CACHE, else rgt-arch in the user's cache folder."""
    own = os.environ.get("RGT_CACHE")
    return Path(own).expanduser().absolute() if own else Path(pooch.os_cache("rgt-arch"))


def local_file(entry: ZooEntry) -> Path | None:
    """The entry's file if it is here, unchecked; None if it is still to be downloaded or put into the cache."""
    if entry.bundled:
        file = BUNDLED / f"{entry.name}.safetensors"
        return file if file.is_file() else None
    files = (cache_folder() / f"{entry.name}{suffix}" for suffix in CHECKPOINT_SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def fetch(entry: ZooEntry) -> Path:
    """The entry's file, downloaded if it is missing; its SHA-256 must be the one of its first use.

    Raises UserError in one line for a download that fails, UsageError for a file that is missing or has changed.
    """
    file = require(entry) or _download(entry)
    if entry.bundled:
        _check_bundled(file)
    else:
        _check_recorded(entry, file)
    return file


def require(entry: ZooEntry) -> Path | None:
    """The entry's file, unchecked, or None where it can be downloaded; UsageError with what to do where it cannot."""
    file = local_file(entry)
    if file or entry.url:
        return file
    if entry.bundled:
        raise UsageError(
            f"{entry.name}: {BUNDLED / entry.name}.safetensors, a part of the package, is missing; install "
            "rgt-arch again, or name other weights"
        )
    raise UsageError(
        f"{entry.name}: has no link for downloading by a program; open the Google Drive folder that the table "
        f"of models on {_OFFICIAL} links to, download {entry.name}.pth, and give its path or "
        f"save it as {cache_folder() / entry.name}.pth"
    )


def _download(entry: ZooEntry) -> Path:
    """Download the entry's file into the cache, whole or not at all. One process downloads while others wait."""
    target = cache_folder() / f"{entry.name}.pth"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if present := local_file(entry):
                return present
            with written_whole(target) as beside:
                _fetch_into(beside, entry, f"try again later, or download it by hand and save it as {target}")
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{target.parent}: the cache cannot be written: {reason}; name another folder with the environment's "
            f"RGT_CACHE, or download {entry.url} by hand and give its path"
        ) from error
    return target


def _fetch_into(file: Path, entry: ZooEntry, remedy: str) -> None:
    print(f"{entry.name}: downloading {entry.url}", file=sys.stderr, flush=True)
    try:
        pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16)(entry.url, str(file), None)
        _check_downloaded(entry, file)
    except requests.RequestException as error:
        raise UserError(f"{entry.url}: cannot be downloaded: {_reason(error)}; {remedy}") from error
    except UsageError as error:
        reason = str(error).removeprefix(f"{file}: ")
        raise UserError(f"{entry.url}: the downloaded file {reason}; {remedy}") from error


def _reason(error: requests.RequestException) -> str:
    """The cause in a few words, without the layers of requests and urllib3 around it."""
    if error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "reason", None) or (cause.args[0] if isinstance(cause, Exception) else cause))


def _check_downloaded(entry: ZooEntry, file: Path) -> None:
    """Raise UsageError if the file is not the entry's network or is damaged (PyTorch's zip files have checksums)."""
    _check_content(entry, file)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged:
            raise UsageError(f"{file}: is damaged ({damaged})")


def _check_content(entry: ZooEntry, file: Path) -> None:
    checkpoint = read_checkpoint(file)
    try:
        config = infer_config(checkpoint.state_dict(), checkpoint.config)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error
    if (config["upscale"], config["depth"]) != (entry.scale, PRESETS[entry.preset]["depth"]):
        raise UsageError(
            f"{file}: is not {entry.name} but an RGT ×{config['upscale']} of depth {config['depth']}; "
            "weights of your own go by their path"
        )


def _check_bundled(file: Path) -> None:
    try:
        lines = (file.parent / SUMS).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file.parent / SUMS}: cannot be read ({error}); install rgt-arch again") from error
    sums = {name.lstrip(" *"): digest for digest, _, name in (line.partition(" ") for line in lines)}
    if sums.get(file.name) != file_digest(file):
        raise UsageError(f"{file}: is damaged, or not the file that {SUMS} beside it lists; install rgt-arch again")


def _check_recorded(entry: ZooEntry, file: Path) -> None:
    """Hold the file to the SHA-256 beside it, or write that down where there is none: it is trusted on first use."""
    record = file.with_suffix(".json")
    digest = file_digest(file)
    known = _read_record(record)
    if known is None:
        _check_content(entry, file)
        facts = {"file": file.name, "url": entry.url, "bytes": file.stat().st_size, "sha256": digest}
        with suppress(UserError), written_whole(record) as beside:  # a cache that others filled may be read-only
            beside.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    elif known.get("sha256") != digest:
        remedy = "delete it, and it is downloaded again" if entry.url else "download it again"
        raise UsageError(
            f"{file}: has changed since it was first used (SHA-256 {digest[:12]}…, recorded "
            f"{str(known.get('sha256'))[:12]}…); {remedy}; if the new one is right, delete {record}"
        )


def _read_record(record: Path) -> dict[str, Any] | None:
    try:
        known = json.loads(record.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{record}: cannot be read ({error}); delete it if you trust the weights beside it") from error
    return known if isinstance(known, dict) else {}
