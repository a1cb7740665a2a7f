"""What all speed measurements are told: the network, the sizes, the device, and the checks of these."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.errors import UsageError
from rgt_arch.files import check_output
from rgt_arch.weights.building import build_network

NETWORKS = {"rgt": "RGT", "rgt_s": "RGT-S", "rgt_t": "RGT-T"}
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
"""By their short names; bf16: float32 in and out, autocast to bfloat16 inside."""
DEVICES = ("auto", "cpu", "cuda")
GB = 10**9
MOST_SEED = 2**63 - 2  # what torch takes; the next one is used too
MOST_THREADS = 1024  # beyond any machine's cores; with a hundred thousand OpenMP ends the process


class Size(NamedTuple):
    """An input image's size in pixels."""

    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.height}×{self.width}"


def parse_sizes(texts: Sequence[str]) -> list[Size]:
    """Sizes written as HEIGHTxWIDTH. Raises UsageError for texts that are none."""
    sizes = []
    for text in texts:
        match = re.fullmatch(r"(\d{1,6})[x×](\d{1,6})", text, re.ASCII)
        size = Size(int(match[1]), int(match[2])) if match else None
        if size is None or min(size) < 1:
            raise UsageError(f"--sizes: {text!r} is no size; give HEIGHTxWIDTH in input pixels, such as 128x128")
        sizes.append(size)
    return sizes


@dataclass(frozen=True)
class SpeedSettings:
    """What to measure; the defaults are those of the commands."""

    network: str = "rgt"
    scale: int = 4
    groups: int | None = None
    """So many residual groups only; None for all."""
    peer: bool = True
    """Whether the official forward is measured too."""
    device: str = "auto"
    threads: int | None = None
    """Of torch; None for its own choice."""
    seed: int = 10
    json: str | None = None
    """File for the figures, or - for stdout in place of the table."""
    overwrite: bool = False
    """Whether files that exist are replaced."""

    def check(self) -> None:
        """Raise UsageError for values that cannot be measured with."""
        if self.network not in NETWORKS:
            raise UsageError(f"--network is {self.network!r}; it must be one of {', '.join(NETWORKS)}")
        check_machine(self.device, self.threads)
        if not 0 <= self.seed <= MOST_SEED:
            raise UsageError(f"--seed is {self.seed}; it must be from 0 to {MOST_SEED}")
        groups = len(PRESETS[NETWORKS[self.network]]["depth"])
        if self.groups is not None and not 1 <= self.groups <= groups:
            raise UsageError(f"--groups is {self.groups}; {self.network} has 1 to {groups} residual groups")
        with torch.device("meta"):
            build_network(self.config())
        check_reports(self.json, overwrite=self.overwrite)

    def config(self, **changes: Any) -> dict[str, Any]:
        """Constructor arguments of the network, ours and the peer's; `changes` go before them."""
        preset = PRESETS[NETWORKS[self.network]]
        cut = {name: preset[name][: self.groups] for name in ("depth", "num_heads")}
        return {"upscale": self.scale, **preset, **cut, **changes}

    def torch_device(self) -> torch.device:
        """The device that is meant."""
        return device_of(self.device)

    def describe(self) -> str:
        """The network in words."""
        name = NETWORKS[self.network]
        all_groups = len(PRESETS[name]["depth"])
        part = "" if self.groups in (None, all_groups) else f", {self.groups} of its {all_groups} groups"
        return f"{name} ×{self.scale}{part}"


def check_machine(device: str, threads: int | None) -> None:
    """Raise UsageError for a device that is not there, or no number of threads."""
    if device not in DEVICES:
        raise UsageError(f"--device is {device!r}; it must be one of {', '.join(DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: PyTorch finds no CUDA GPU here; leave it out to measure on the CPU")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"--threads is {threads}; it must be from 1 to {MOST_THREADS}")


def device_of(name: str) -> torch.device:
    """The device that a checked `--device` means."""
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def check_reports(
    json: str | None, plot: str | None = None, inputs: Sequence[str | Path] = (), *, overwrite: bool
) -> None:
    """Raise UsageError, before anything is measured, where `--json` or `--plot` cannot be written.

    inputs: files that the command reads, which are no places to write to.
    """
    others = [Path(file) for file in inputs]
    if json not in (None, "-"):
        check_output("--json", Path(json), others, overwrite=overwrite)
        others.append(Path(json))
    if plot is not None:
        if Path(plot).suffix.lower() != ".png":
            raise UsageError(f"--plot {plot}: only .png can be written")
        check_output("--plot", Path(plot), others, overwrite=overwrite)


def check_at_least(*values: tuple[str, float, float]) -> None:
    """Raise UsageError for the first (flag, value, least) whose value is less, or no finite number."""
    for flag, value, least in values:
        if not least <= value < math.inf:
            raise UsageError(f"{flag} is {value}; it must be at least {least}")


def check_dtypes(names: Sequence[str]) -> None:
    """Raise UsageError for dtypes that cannot be measured."""
    for name in names:
        if name not in DTYPES:
            raise UsageError(f"--dtypes: {name!r} is not one of {', '.join(DTYPES)}")


@contextmanager
def conditions(threads: int | None, device: torch.device) -> Iterator[None]:
    """Within this context torch has so many threads, and float32 is float32 on GPUs too (no TF32)."""
    before = torch.get_num_threads()
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    if threads is not None:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if device.type == "cuda":
            torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32


def autocast(dtype: str, device: torch.device) -> torch.autocast:
    """The context in which a network computes in `dtype`, a short name."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bf16")
