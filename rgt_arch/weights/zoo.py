"""Weights by name: files of the package, and a cache of files that are downloaded or put there by hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pooch
import requests
from filelock import FileLock

from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.errors import UsageError, UserError, naming
from rgt_arch.files import file_digest, write_text, written_whole
from rgt_arch.torch_files import CHECKPOINT_SUFFIXES
from rgt_arch.weights.inspecting import infer_config
from rgt_arch.weights.reading import read_checkpoint

BUNDLED = Path(__file__).parent / "bundled"
"""Folder of the package's weights: slim safetensors, written by `rgt convert`."""
SUMS = "SHA256SUMS"
"""File beside the weights in BUNDLED and in the cache, with a line of `sha256sum` for each."""
DEFAULT_WEIGHTS, PHOTO_WEIGHTS = "RGT_T_x4", "RGT_T_x4_photo"
"""Default weights of `rgt upscale`; `inference/planning` chooses."""

_HUB = "https://github.com/OpenModelDB/model-hub/releases/download/rgt"
_MIRROR = "https://huggingface.co/ViperYX/RGT/resolve/main/RGT_S"  # its RGT_S_x4 is the authors' file, byte for byte
_PHIPS = "https://github.com/Phhofm/models/releases/download"
_DATABASE = "https://openmodeldb.info/models"
_GROUPS = ("the authors' weights", "the community's weights", "weights of this package")


@dataclass(frozen=True)
class ZooEntry:
    """Weights that have a name."""

    name: str
    preset: str
    """Key of `PRESETS`."""
    scale: int
    licence: str
    """Author, licence and place, as CC-BY asks for."""
    url: str | None = None
    """None: the package has the file."""
    sha256: str | None = None
    """Published for the file at `url`. Another file of this name, put into the cache by hand, has its own."""
    purpose: str = "bicubic LR"
    group: str = _GROUPS[1]

    @property
    def bundled(self) -> bool:
        """Whether the package has the file."""
        return self.url is None

    @property
    def method(self) -> str:
        """Name of a row in tables: the preset, or for weights of another purpose their name without the scale."""
        name = self.name.replace(f"_x{self.scale}", "")
        return self.preset if plain_name(name) == plain_name(self.preset) else name


def plain_name(name: str) -> str:
    """Return a name for comparison: in lower case, with `_` for `-`."""
    return name.strip().casefold().replace("-", "_")


_authors = partial(
    ZooEntry,
    licence="Zheng Chen and co-authors, Apache-2.0, https://github.com/zhengchen1999/RGT",
    group=_GROUPS[0],
)
_ours = partial(
    ZooEntry,
    preset="RGT-T",
    licence="Apache-2.0; trained on photographs under CC BY-SA 4.0, CC0 and the Unsplash licence",
    group=_GROUPS[2],
)


def _phips(name: str, page: str, url: str, sha256: str, purpose: str) -> ZooEntry:
    licence = f"Philip Hofmann (Phips), CC-BY-4.0, {_DATABASE}/{page}"
    return ZooEntry(name, "RGT-S", 4, licence, url, sha256, purpose)


# The checksums are those of OpenModelDB and of the mirror's pages. A file that the hub has was saved anew and has none.
ZOO: Mapping[str, ZooEntry] = {
    entry.name: entry
    for entry in (
        *(_authors(f"RGT_x{scale}", "RGT", scale, url=f"{_HUB}/{scale}x-RGT.pth") for scale in (2, 3, 4)),
        *(
            _authors(f"RGT_S_x{scale}", "RGT-S", scale, url=f"{_MIRROR}/RGT_S_x{scale}.pth", sha256=sha256)
            for scale, sha256 in (
                (2, "b11a211870cc6558d53a55b796f164810f0078484d74c9a8a6d7d916c678ccab"),
                (3, "69e2509e0ee7150618d10e11ef002f4f48db3af74ea0008bea32bdf1d81a249e"),
                (4, "2ff12e257ca18d00cf9bc4b4dfbd65d8d59e40de7a15b6a94b9ec6496901d0c0"),
            )
        ),
        _phips(
            "NomosUni_RGT_S_x4",
            "4x-NomosUni-rgt-s-multijpg",
            "https://huggingface.co/Phips/4xNomosUni_rgt_s_multijpg/resolve/main/4xNomosUni_rgt_s_multijpg.safetensors",
            "b1251e047bab7a344d96cd09030fee9561e48e7c383927f85059a2e2458960ce",
            "photographs and anime, JPEG from quality 40",
        ),
        _phips(
            "RealWebPhoto_RGT_S_x4",
            "4x-RealWebPhoto-v2-rgt-s",
            f"{_PHIPS}/4xRealWebPhoto_v2_rgt_s/4xRealWebPhoto_v2_rtg_s.safetensors",
            "a165ec6fafc3cb3bd62838f0a412f344618f1df8d7198283815eec41332b8f2e",
            "photographs of the web: noise, JPEG, WebP, blur",
        ),
        # The RGB mean of these two is not known: they came out after neosr had changed its own to 0.5 (see `rgb_mean`).
        _phips(
            "TexturesGTAV_RGT_S_x4",
            "4x-Textures-GTAV-rgt-s",
            f"{_PHIPS}/4xTextures_GTAV_rgt-s/4xTextures_GTAV_rgt-s.safetensors",
            "11ae0fdafe0c7cef12b0be71761fd03c6319c787ca678a9120df59e2d66e5607",
            "game textures, JPEG from quality 80",
        ),
        _phips(
            "TexturesGTAV_dither_RGT_S_x4",
            "4x-Textures-GTAV-rgt-s-dither",
            f"{_PHIPS}/4xTextures_GTAV_rgt-s_dither/4xTextures_GTAV_rgt-s_dither.safetensors",
            "ef850c4fd1d1ab81eb8cf63a0e11c62adfead07ec3a34f81675e986e76800f3f",
            "dithered game textures, JPEG from quality 80",
        ),
        *(_ours(f"RGT_T_x{scale}", scale=scale) for scale in (2, 3, 4)),
        *(
            _ours(
                f"RGT_T_x{scale}_photo", scale=scale, purpose="photographs and videos: JPEG from quality 40, mild noise"
            )
            for scale in (2, 4)
        ),
    )
}


def describe_zoo() -> str:
    """Return a table of text for each group: name, scale, place or source of the file, purpose, author and licence."""
    rows = {
        entry: (entry.name, f"×{entry.scale}", _whereabouts(entry), entry.purpose, entry.licence)
        for entry in ZOO.values()
    }
    widths = [max(map(len, column)) for column in zip(*rows.values(), strict=True)]
    lines = []
    for group in _GROUPS:
        lines += [f"{group}:"]
        for cells in (row for entry, row in rows.items() if entry.group == group):
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
        lines.append("")
    return "\n".join([*lines, f"downloads are kept in {cache_folder()} (environment: RGT_CACHE)"])


def _whereabouts(entry: ZooEntry) -> str:
    if file := local_file(entry):
        return f"{'in the package' if entry.bundled else file}, {file.stat().st_size / 1e6:.1f} MB"
    return "missing from this installation" if entry.bundled else "downloaded at first use"


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
    if file or not entry.bundled:
        return file
    raise UsageError(
        f"{entry.name}: {BUNDLED / entry.name}.safetensors, a part of the package, is missing; install "
        "rgt-arch again, or name other weights"
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
        with suppress(UserError):  # another user's cache may be read-only
            write_text("".join(f"{known[name]}  {name}\n" for name in sorted(known)), sums)
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
    assert entry.url is not None
    target = cache_folder() / f"{entry.name}{Path(entry.url).suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if present := local_file(entry):
            return present
        with written_whole(target) as beside:
            print(f"{entry.name} ({entry.licence}): downloading {entry.url}", file=sys.stderr, flush=True)
            try:
                load = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16)
                load(entry.url, str(beside), None)
                if entry.sha256 not in (None, file_digest(beside)):
                    raise UserError(
                        f"{entry.url}: is not the published file, whose SHA-256 is {entry.sha256}: do not use it"
                    )
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
