"""Kinds of checkpoint files, told from their first bytes, and plain words for files that are no checkpoints."""

from __future__ import annotations

import zipfile
from pathlib import Path

from rgt_arch.errors import UsageError

TORCH_ZIP = "torch zip"
TORCH_LEGACY = "torch legacy"
SAFETENSORS = "safetensors"
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
# torch.save before 1.6 wrote a bare pickle that starts with this number (torch.serialization.MAGIC_NUMBER).
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
_DOWNLOAD = "download the weights again"


def checkpoint_kind(path: Path) -> str:
    """One of TORCH_ZIP, TORCH_LEGACY and SAFETENSORS, by content; the suffix does not matter.

    Raises UsageError for everything else, saying what the file is and what to do.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file{_neighbours(path)}")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, name a checkpoint file{_candidates(path)}")
    if not path.is_file():
        raise UsageError(f"{path}: is not a regular file; name a checkpoint (.pth or .safetensors)")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        raise UsageError(f"{path}: is empty (0 bytes); {_DOWNLOAD} or copy it again")
    if head.startswith(b"PK"):
        return _zip_kind(path)
    # safetensors: a little-endian header length of 8 bytes, at most 100 MB, then a JSON object
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000:
        return SAFETENSORS
    if head[:1] == b"\x80" and _LEGACY_MAGIC in head[:32]:
        return TORCH_LEGACY
    raise UsageError(f"{path}: {_foreign_words(path, head)}")


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise UsageError(
            f"{path}: is truncated or damaged (a PyTorch file whose end is missing, {path.stat().st_size:,} bytes); "
            f"{_DOWNLOAD} or save it again"
        ) from error
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise UsageError(
            f"{path}: is a TorchScript program, which would run code; name the state dict it was made from (.pth)"
        )
    if any(name.endswith("/data.pkl") for name in names):
        return TORCH_ZIP
    inside = next((name for name in names if name.endswith(CHECKPOINT_SUFFIXES)), None)
    raise UsageError(
        f"{path}: is a zip archive, not a checkpoint; unpack it" + (f" and name {inside} in it" if inside else "")
    )


def _foreign_words(path: Path, head: bytes) -> str:
    """What another file than a checkpoint is, and the remedy."""
    if head.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the file it points to; run `git lfs pull` in its repository"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return (
            "is a web page saved in place of the weights (download sites show one before large files); "
            "open the link in a browser and save the file itself"
        )
    if path.suffix.lower() == ".onnx" or (head[:1] == b"\x08" and b"pytorch" in head[:64]):
        return "is an ONNX model, which holds no state dict; name the checkpoint that it was exported from"
    if head[:1] == b"\x80":
        return "is a bare pickle, which could run code and is not loaded; save the state dict with torch.save"
    if path.suffix.lower() in (".yml", ".yaml"):
        return "is an option file; name the checkpoint (its path.pretrain_network_g, or models/net_g_*.pth)"
    return f"is not a PyTorch checkpoint or safetensors file (it starts with {head[:24]!r}); {_DOWNLOAD}"


def _neighbours(path: Path) -> str:
    """Remedy for a missing file: the same name with another suffix, or the checkpoints beside where it was expected."""
    folder = path.parent
    if not folder.is_dir():
        return f"; the folder {folder} does not exist either"
    twins = [path.with_suffix(suffix) for suffix in CHECKPOINT_SUFFIXES if path.with_suffix(suffix).is_file()]
    return f"; did you mean {twins[0]}?" if twins else _candidates(folder)


def _candidates(folder: Path) -> str:
    """Up to three checkpoints in a folder or in its models/ (where BasicSR puts them), newest first."""
    files = [file for file in (*folder.glob("*"), *folder.glob("models/*")) if file.suffix in CHECKPOINT_SUFFIXES]
    newest = sorted(filter(Path.is_file, files), key=lambda file: file.stat().st_mtime, reverse=True)[:3]
    return f"; checkpoints there: {', '.join(map(str, newest))}" if newest else ""
