"""Lines for the user that come up before BasicSR's logger exists: kept here, then written to the log and the screen
once.

Where: basicsr/train.py:110 warns that asking for the logger early loses the log file. No seam by itself.
"""

from __future__ import annotations

import logging

_waiting: list[str] = []


def notice(text: str) -> None:
    """Say `text` as a warning of the run, once: as soon as there is a logger, which speaks on rank 0 only."""
    if text not in _waiting:
        _waiting.append(text)


def take() -> list[str]:
    """The lines nobody has said yet; they count as said from here on."""
    lines = _waiting[:]
    _waiting.clear()
    return lines


def say_through(logger: logging.Logger) -> None:
    """Write all waiting lines to `logger`."""
    for text in take():
        logger.warning(text)
