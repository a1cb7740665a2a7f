"""PyTorch files: read without running code, with plain words for what cannot be read; written whole or not at all."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import torch

from rgt_arch.errors import UsageError
from rgt_arch.file_kinds import SAFETENSORS, TORCH_ZIP, checkpoint_kind
from rgt_arch.files import written_whole


def load_data_only(path: str | os.PathLike[str], map_location: Any = "cpu", *, mmap: bool = False) -> Any:
    """torch.load that builds tensors and plain containers only, whatever a file asks for.

    mmap: leave tensors on the disk until they are used, where the file's format allows it. Raises UsageError, one line,
    for what is missing, damaged, no file of torch.save, or would run code.
    """
    path = Path(path)
    kind = checkpoint_kind(path)
    if kind == SAFETENSORS:
        raise UsageError(f"{path}: is a safetensors file, which is read for RGTModel only; name a .pth file")
    try:
        # Given explicitly, weights_only stands against TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD (torch/serialization.py, load).
        return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap and kind == TORCH_ZIP)
    except Exception as error:  # a lying or damaged pickle may raise nearly anything
        text = str(error)
        asked = re.search(r"(?:GLOBAL|function|class) ([\w.]+)", text)
        if asked:
            raise UsageError(
                f"{path}: refused, because loading it would run code ({asked[1].rstrip('.')}); get the weights "
                "from a source you trust, or save the bare state dict where the file was made"
            ) from error
        lines = [line for line in text.splitlines() if line.strip() and "documentation of torch.load" not in line]
        reason = lines[-1].strip()[:120] if lines else type(error).__name__
        raise UsageError(
            f"{path}: is damaged and cannot be read ({reason}); download the weights again or save them again"
        ) from error


def save_whole(value: Any, path: str | os.PathLike[str], **kwargs: Any) -> None:
    """torch.save after which `path` is the old file or the complete new one; UserError where it cannot be written."""
    # through memory: torch's own writer turns a full disk into a RuntimeError about positions
    buffer = io.BytesIO()
    torch.save(value, buffer, **kwargs)
    with written_whole(path) as beside:
        beside.write_bytes(buffer.getbuffer())
