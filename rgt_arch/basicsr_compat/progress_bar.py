"""A training on a terminal: a bar with rate, ETA, loss, learning rate and memory below BasicSR's log lines.

Where: basicsr/train.py:152-193 shows a line every `print_freq` iterations, which are minutes. No seam by itself:
training_loop.py moves it. Delete it once BasicSR has a bar.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack

import psutil
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

_FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {rate_fmt}, ETA {remaining}{postfix}"


class _Bar(tqdm):
    monitor_interval = 0  # no thread: data workers are forked


class TrainingBar:
    """The bar; nothing where stderr is no terminal, or on other ranks than 0."""

    def __init__(self, start: int, total: int, device: torch.device, rank: int) -> None:
        """start, total: iterations done before, and in all."""
        from basicsr.utils import get_root_logger

        self._device = device
        self._open = ExitStack()
        self._bar = self._open.enter_context(
            _Bar(
                initial=start,
                total=total,
                bar_format=_FORMAT,
                dynamic_ncols=True,
                miniters=1,
                unit="it",
                file=sys.stderr,
                disable=rank != 0 or not sys.stderr.isatty(),
            )
        )
        if not self._bar.disable:
            self._open.enter_context(logging_redirect_tqdm([get_root_logger()]))

    def reach(self, iteration: int, losses: Mapping[str, float], rate: float) -> None:
        """Show that an iteration is done. rate: the learning rate."""
        if self._bar.disable:
            return
        shown = [f"{name} {value:.2e}" for name, value in losses.items()]
        self._bar.set_postfix_str(", ".join([*shown, f"lr {rate:.3g}", self._memory()]), refresh=False)
        self._bar.update(iteration - self._bar.n)

    def leave_out_pause(self) -> None:
        """Count what was done since the last iteration, saving or validation, neither for the rate nor for the ETA."""
        self._bar.unpause()

    def close(self) -> None:
        """Leave the bar as it is; log lines go to the terminal as before."""
        self._open.close()

    def _memory(self) -> str:
        if self._device.type == "cuda":
            used = torch.cuda.memory_reserved(self._device)
        else:
            used = psutil.Process().memory_info().rss
        return f"{used / 1e9:.1f} GB"
