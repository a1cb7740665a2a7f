"""What a file is, told from its first bytes: which reader a checkpoint needs, and plain words for anything else."""

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
_PICTURE = ("a picture", "name the checkpoint first and pictures where the command asks for them")
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "a git-lfs pointer, not the file it points to",
        "run `git lfs pull` in its repository",
    ),
    (b"\x1f\x8b", "a gzip archive", "unpack it and name the checkpoint in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it and name the checkpoint in it"),
    (b"Rar!", "a RAR archive", "unpack it and name the checkpoint in it"),
    (b"\x89PNG", *_PICTURE),
    (b"\xff\xd8\xff", *_PICTURE),
    (b"\x89HDF", "an HDF5 file (Keras or MATLAB)", "name a PyTorch checkpoint (.pth or .safetensors)"),
    (b"\x93NUMPY", "a NumPy array", "name a PyTorch checkpoint (.pth or .safetensors)"),
    (b"%PDF", "a PDF", _DOWNLOAD),
)


def checkpoint_kind(path: Path) -> str:
    """One of TORCH_ZIP, TORCH_LEGACY and SAFETENSORS: the content decides, not the suffix.

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
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        raise UsageError(f"{path}: is empty (0 bytes); {_DOWNLOAD} or copy it again")
    if head.startswith(b"PK"):
        return _zip_kind(path)
    if _is_safetensors(head):
        return SAFETENSORS
    if head[:1] == b"\x80" and _LEGACY_MAGIC in head[:32]:
        return TORCH_LEGACY
    raise UsageError(f"{path}: {_foreign_words(path, head, size)}")


def _is_safetensors(head: bytes) -> bool:
    """A little-endian header length of 8 bytes, then a JSON object; the format allows headers up to 100 MB."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000


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
    found = f" and name {inside} in it" if inside else f"; it holds {names[0]!r}, no checkpoint" if names else ""
    raise UsageError(f"{path}: is a zip archive, not a checkpoint; unpack it{found}")


def _foreign_words(path: Path, head: bytes, size: int) -> str:
    """What a file that is no checkpoint is, and the remedy."""
    for signature, words, remedy in _SIGNATURES:
        if head.startswith(signature):
            return f"is {words}; {remedy}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return (
            f"is a web page of {size:,} bytes saved in place of the weights (download sites show one before large "
            "files); open the link in a browser and save the file itself"
        )
    if path.suffix.lower() == ".onnx" or (head[:1] == b"\x08" and b"pytorch" in head[:64]):
        return "is an ONNX model, which holds no state dict; name the checkpoint that it was exported from"
    if head[:1] == b"\x80":
        return "is a bare pickle, which could run code and is not loaded; save the state dict with torch.save"
    if path.suffix.lower() in (".yml", ".yaml"):
        return "is an option file; name the checkpoint (its path.pretrain_network_g, or models/net_g_*.pth)"
    if _is_text(head):
        start = head.decode("utf-8", "replace").split("\n", 1)[0].strip()[:40]
        return f"is a text file that starts with {start!r}, not a checkpoint; {_DOWNLOAD}"
    if not any(head):
        return f"starts with zeros, as an unfinished download or a failed disk leaves it; {_DOWNLOAD}"
    return f"is not a PyTorch checkpoint or safetensors file (it starts with {head[:4]!r}); {_DOWNLOAD}"


def _is_text(head: bytes) -> bool:
    return all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head[:512])


def _neighbours(path: Path) -> str:
    """Remedy for a missing file: the same name with another suffix, or the checkpoints beside where it was expected."""
    folder = path.parent
    if not folder.is_dir():
        return f"; the folder {folder} does not exist either"
    twins = [path.with_suffix(suffix) for suffix in CHECKPOINT_SUFFIXES if path.with_suffix(suffix).is_file()]
    return f"; did you mean {twins[0]}?" if twins else _candidates(folder)


def _candidates(folder: Path) -> str:
    """Up to three checkpoints in a folder or in its models/ (where BasicSR puts them), newest first."""
    files = [
        file
        for place in (folder, folder / "models")
        if place.is_dir()
        for file in place.iterdir()
        if file.suffix in CHECKPOINT_SUFFIXES and file.is_file()
    ]
    names = [str(file) for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)[:3]]
    return f"; checkpoints there: {', '.join(names)}" if names else ""
