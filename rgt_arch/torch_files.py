"""Checkpoint files: detect the format by content, load without running code, write atomically."""

from __future__ import annotations

import io
import os
import re
import traceback
import warnings
import zipfile
from argparse import Namespace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from rgt_arch.errors import UsageError, few
from rgt_arch.files import written_whole

TORCH_ZIP, TORCH_LEGACY, SAFETENSORS = "torch zip", "torch legacy", "safetensors"
TORCH_SUFFIXES = (".pth", ".pt", ".ckpt")
CHECKPOINT_SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")


class _NumpyType:
    """Stands for numpy.dtype in a file. NumPy's own takes a state from the file that makes it read foreign memory."""

    def __init__(self, code: str, *_: Any) -> None:
        self.type = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.type = self.type.newbyteorder(state[1])


class _NumpyArray(np.ndarray):
    """Stands for numpy.ndarray in a file, for the same reason; an array of Python objects is refused."""

    def __new__(cls, *_: Any) -> _NumpyArray:
        return super().__new__(cls, 0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        checked = np.frombuffer(data, dtype.type).reshape(shape)
        super().__setstate__((1, checked.shape, checked.dtype, fortran, data))


def _numpy_scalar(dtype: _NumpyType, data: bytes) -> Any:
    """Return a NumPy scalar of a file as a plain number or text."""
    return np.frombuffer(data, dtype.type).item()


# Classes of data, beside torch's own, that training programs write into checkpoints.
_DATA: list[Any] = [
    *(Namespace, SimpleNamespace, date, datetime, timedelta, timezone, frozenset),
    bytes,  # an empty one
    (_NumpyType, "numpy.dtype"),
    (_NumpyArray, "numpy.ndarray"),
    *((_NumpyArray, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((_numpy_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),
    *((PureWindowsPath, f"{module}.WindowsPath") for module in ("pathlib", "pathlib._local")),
]


def checkpoint_kind(path: Path) -> str:
    """Return TORCH_ZIP, SAFETENSORS, or TORCH_LEGACY for any other content; the suffix does not matter.

    Raises UsageError (one line with a remedy) for a missing or empty file, a web page or a git-lfs pointer.
    """
    if not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "not a regular file"
        problem = f"is {kind}; name a checkpoint" if os.path.exists(path) else "no such file"
        raise UsageError(f"{path}: {problem}{_checkpoints_near(path)}")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        raise UsageError(f"{path}: is empty (0 bytes); download the weights again or copy them again")
    if head.startswith(b"version https://git-lfs"):
        raise UsageError(f"{path}: is a git-lfs pointer, not the file itself; run `git lfs pull` in its repository")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise UsageError(
            f"{path}: is a web page saved in place of the weights (download sites show one before large files); "
            "open the link in a browser and save the file itself"
        )
    # safetensors: a little-endian header length of 8 bytes, at most 100 MB, then a JSON object
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000:
        return SAFETENSORS
    return TORCH_ZIP if head.startswith(b"PK") else TORCH_LEGACY


def load_data_only(path: str | os.PathLike[str], map_location: Any = "cpu", *, mmap: bool = False) -> Any:
    """Load a file with torch.load, building only tensors, plain containers, and NumPy's numbers and arrays.

    mmap: leave tensors on the disk until they are used, if the file's format allows it. Raises UsageError (one line)
    for a file that is missing, damaged, not written by torch.save, or would run code.
    """
    path = Path(path)
    kind = checkpoint_kind(path)
    if kind == SAFETENSORS:
        raise UsageError(f"{path}: is a safetensors file, which holds weights alone; name a file of torch.save")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_DATA):
            warnings.simplefilter("ignore")  # about pickle protocols and TorchScript
            # An explicit weights_only overrides TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD (torch/serialization.py, load).
            return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap and kind == TORCH_ZIP)
    except Exception as error:  # a damaged or malicious pickle may raise nearly anything
        if path.suffix.lower() in (".onnx", ".pt2"):
            raise UsageError(
                f"{path}: is a program, not a checkpoint; name the weights it was made from (`rgt upscale` runs ONNX)"
            ) from error
        if asked := re.search(r"(?:GLOBAL|function|class) ([\w.]+)", str(error)):
            raise UsageError(
                f"{path}: refused, because loading it would run code ({asked[1].rstrip('.')}); get the weights "
                "from a source you trust, or save the bare state dict where the file was made"
            ) from error
        if "TorchScript archives" in str(error):
            raise UsageError(
                f"{path}: is a TorchScript program, which would run code; name the state dict it was made from (.pth)"
            ) from error
        if names := _zipped_files(path):
            raise UsageError(f"{path}: is an archive of {few(names)}; unpack it and name the weights in it") from error
        with path.open("rb") as file:
            head = file.read(16)
        raise UsageError(
            f"{path}: is not a PyTorch checkpoint or is truncated or damaged (it starts with {head!r}); download the "
            "weights again or save them again"
        ) from error


def _zipped_files(path: Path) -> list[str]:
    """Return the names in a zip archive that torch.save did not write; empty for other files."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # the last: a name that is not UTF-8
        return []
    return [] if any(name.endswith("/data.pkl") for name in names) else names


def save_whole(value: Any, path: str | os.PathLike[str], **kwargs: Any) -> None:
    """Write with torch.save atomically: `path` is the old file or the complete new one. Raises UserError on failure."""
    # through memory: torch's own writer reports a full disk as a RuntimeError about positions
    buffer = io.BytesIO()
    torch.save(value, buffer, **kwargs)
    with written_whole(path) as beside:
        beside.write_bytes(buffer.getbuffer())


def _checkpoints_near(path: Path) -> str:
    """Name up to three checkpoints in the folder and its models/ (BasicSR's place): equal stems first, then newest."""
    folder = path if os.path.isdir(path) else path.parent
    files = [file for file in (*folder.glob("*"), *folder.glob("models/*")) if file.suffix in CHECKPOINT_SUFFIXES]
    files = sorted(filter(Path.is_file, files), key=lambda file: (file.stem == path.stem, file.stat().st_mtime))
    return f"; checkpoints there: {', '.join(map(str, reversed(files[-3:])))}" if files else ""


def load_failure(error: BaseException) -> str | None:
    """Return one line with the remedy if a download of torch.hub or `torch.load` raised the error, else None."""
    first = " ".join(next(iter(str(error).strip().splitlines()), "").split())
    for frame, _ in traceback.walk_tb(error.__traceback__):
        names, call = frame.f_locals, (frame.f_globals.get("__name__"), frame.f_code.co_name)
        if call == ("torch.hub", "download_url_to_file"):
            return (
                f"{names['url']}: the download failed ({getattr(error, 'reason', first)}); download it by hand and "
                f"save it as {names['dst']}"
            )
        if call == ("torch.serialization", "load") and isinstance(names["f"], str | Path):
            return f"{names['f']}: is damaged or holds more than tensors; delete it, or download it again"
    return None
