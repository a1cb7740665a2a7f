"""Weights by name: files of the package, and a cache of files that are downloaded or put there by hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from filelock import FileLock

from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.errors import UsageError, UserError, naming
from rgt_arch.files import file_digest, written_whole
from rgt_arch.torch_files import CHECKPOINT_SUFFIXES
from rgt_arch.weights.inspecting import infer_config
from rgt_arch.weights.reading import read_checkpoint

BUNDLED = Path(__file__).parent / "bundled"
"""Folder of the package's weights: slim safetensors, written by `rgt convert`."""
SUMS = "SHA256SUMS"
"""File beside the weights in BUNDLED and in the cache, with a line of `sha256sum` for each."""

_HUB = "https://github.com/OpenModelDB/model-hub/releases/download/rgt"
_OFFICIAL = "https://github.com/zhengchen1999/RGT"
_OFFICIAL_LICENCE = f"Apache-2.0, {_OFFICIAL}"
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
    """The package has the file. If `bundled` is false and `url` is None, users put the file into the cache by hand."""


ZOO: Mapping[str, ZooEntry] = {
    entry.name: entry
    for entry in (
        ZooEntry("RGT_x2", "RGT", 2, _OFFICIAL_LICENCE, f"{_HUB}/2x-RGT.pth"),
        ZooEntry("RGT_x3", "RGT", 3, _OFFICIAL_LICENCE, f"{_HUB}/3x-RGT.pth"),
        ZooEntry("RGT_x4", "RGT", 4, _OFFICIAL_LICENCE, f"{_HUB}/4x-RGT.pth"),
        ZooEntry("RGT_S_x2", "RGT-S", 2, _OFFICIAL_LICENCE),
        ZooEntry("RGT_S_x3", "RGT-S", 3, _OFFICIAL_LICENCE),
        ZooEntry("RGT_S_x4", "RGT-S", 4, _OFFICIAL_LICENCE, f"{_HUB}/4x-RGT_S.pth"),
        ZooEntry("RGT_T_x2", "RGT-T", 2, _OWN_LICENCE, bundled=True),
        ZooEntry("RGT_T_x4", "RGT-T", 4, _OWN_LICENCE, bundled=True),
    )
}


def describe_zoo() -> str:
    """Return a table of text: name, scale, place or source of the file, licence."""
    rows = [("name", "scale", "file", "licence")]
    rows += [(entry.name, f"×{entry.scale}", _whereabouts(entry), entry.licence) for entry in ZOO.values()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", f"downloads are kept in {cache_folder()} (environment: RGT_CACHE)"])


def _whereabouts(entry: ZooEntry) -> str:
    if file := local_file(entry):
        return f"{'in the package' if entry.bundled else file}, {file.stat().st_size / 1e6:.1f} MB"
    if entry.bundled:
        return "missing from this installation"
    return "downloaded at first use" if entry.url else "to be put into the cache by hand"


def plain_name(name: str) -> str:
    """Return a name for comparison: in lower case, with `_` for `-`."""
    return name.strip().casefold().replace("-", "_")


def find_entry(name: str) -> ZooEntry | None:
    """Return the entry of a name, compared by `plain_name`, or None."""
    return next((entry for known, entry in ZOO.items() if plain_name(known) == plain_name(name)), None)


def named(name: str) -> ZooEntry:
    """Return the entry of a name. Raises UsageError with the valid names."""
    if entry := find_entry(name):
        return entry
    raise UsageError(f"{name}: no such file, and no weights of that name (names: {', '.join(ZOO)})")


def resolve_path(name: str | Path) -> Path:
    """Return the file of a path or of a name of the zoo; published weights are downloaded at first use.

    An existing file takes precedence over a name. Raises UsageError for a bare word that is neither.
    """
    text, path = os.fspath(name), Path(name).expanduser()
    entry = find_entry(text)
    if os.path.isfile(path) or (entry is None and (os.path.exists(path) or path.suffix or path.name != text)):
        return path  # reading it raises if it is not a checkpoint
    return fetch(entry or named(text))


def cache_folder() -> Path:
    """Return the folder of downloaded weights: RGT_CACHE of the environment, else rgt-arch in the user's cache."""
    own = os.environ.get("RGT_CACHE")
    return Path(own).expanduser().absolute() if own else Path(pooch.os_cache("rgt-arch"))


def local_file(entry: ZooEntry) -> Path | None:
    """Return the entry's file without checking it, or None if it is missing."""
    if entry.bundled:
        file = BUNDLED / f"{entry.name}.safetensors"
        return file if file.is_file() else None
    files = (cache_folder() / f"{entry.name}{suffix}" for suffix in CHECKPOINT_SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def require(entry: ZooEntry) -> Path | None:
    """Return the entry's file without checking it, or None if it can be downloaded; else raise UsageError."""
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


def fetch(entry: ZooEntry) -> Path:
    """Return the entry's file, downloaded if it is missing; its SHA-256 must equal that in SUMS.

    For a file in the cache, the first use records its SHA-256. Raises UserError, one line, for a download that fails,
    UsageError for a file that is missing or has changed.
    """
    file = require(entry) or _download(entry)
    sums, digest = file.parent / SUMS, file_digest(file)
    known = _read_sums(sums)
    if not entry.bundled and file.name not in known:
        _check_content(entry, file)
        known[file.name] = digest
        with suppress(UserError), written_whole(sums) as beside:  # another user's cache may be read-only
            beside.write_text("".join(f"{known[name]}  {name}\n" for name in sorted(known)), "utf-8")
    if known.get(file.name) != digest:
        remedy = "install rgt-arch again"
        if not entry.bundled:
            remedy = f"delete it and download it again; if it is the right one, delete its line in {sums}"
        raise UsageError(f"{file}: is damaged or has changed (its SHA-256 is not that of {SUMS} beside it); {remedy}")
    return file


def _read_sums(path: Path) -> dict[str, str]:
    """Return the SHA-256 by file name; {} for a missing or unreadable file."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    return {name.lstrip(" *"): digest for digest, _, name in (line.partition(" ") for line in lines) if name}


def _download(entry: ZooEntry) -> Path:
    """Download the entry's file into the cache, whole or not at all. One process downloads while others wait."""
    target = cache_folder() / f"{entry.name}.pth"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if present := local_file(entry):
            return present
        with written_whole(target) as beside:
            print(f"{entry.name}: downloading {entry.url}", file=sys.stderr, flush=True)
            try:
                load = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16)
                load(entry.url, str(beside), None)
                _check_content(entry, beside)
            except (requests.RequestException, UsageError) as error:
                raise UserError(
                    f"{entry.url}: the download failed ({str(error).removeprefix(f'{beside}: ')}); try again later, "
                    f"or download it by hand and save it as {target}"
                ) from error
    return target


def _check_content(entry: ZooEntry, file: Path) -> None:
    """Raise UsageError if the file is not the entry's network."""
    checkpoint = read_checkpoint(file)
    with naming(file):
        config = infer_config(checkpoint.state_dict(), checkpoint.config)
        if (config["upscale"], config["depth"]) != (entry.scale, PRESETS[entry.preset]["depth"]):
            raise UsageError(
                f"is not {entry.name} but an RGT ×{config['upscale']} of depth {config['depth']}; give weights of your "
                "own by their path"
            )
