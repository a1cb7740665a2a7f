"""`logger.csv: true`: losses and validation metrics of a run as rows of `metrics.csv` in the run directory.

A row holds one value, so that the columns do not depend on the losses and metrics. Rows are only added, except that a
resumed run deletes the rows that it will compute again.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from rgt_arch.errors import UserError
from rgt_arch.files import written_whole

NAME = "metrics.csv"
HEADER = ("iteration", "dataset", "name", "value")


class MetricsCsv:
    """Writes the file; on a full disk, rows wait in memory until there is space."""

    def __init__(self, folder: str | os.PathLike[str], start_iter: int, logger: logging.Logger) -> None:
        """Begin the file, or continue it after iteration `start_iter`, deleting later and half-written rows.

        Raises UserError if an existing file is not a log of ours or cannot be changed.
        """
        self._path = Path(folder, NAME)
        self._logger = logger
        self._there: set[tuple[str, ...]] = set()  # iteration, data set and name of rows at start_iter
        self._failing = False
        self._waiting = b""
        if self._path.exists():
            self._cut(start_iter)
        else:
            self._waiting = _line(HEADER)
        self._write()

    def add(self, iteration: int, dataset: str, values: Mapping[str, float]) -> None:
        """Add a row for each value, except rows of the resumed iteration that the file already has.

        dataset: the validation set, "" for training.
        """
        rows = [(str(iteration), dataset, name, repr(float(value))) for name, value in values.items()]
        self._waiting += b"".join(_line(row) for row in rows if row[:3] not in self._there)
        self._write()

    def flush(self) -> None:
        """Flush the rows to the disk, so that they survive a power cut."""
        self._write(to_disk=True)

    def _cut(self, start_iter: int) -> None:
        try:
            content = self._path.read_bytes()
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot be read: {error.strerror}; correct that, or set logger.csv: false"
            ) from error
        if content[: len(header := _line(HEADER))] != header[: len(content)]:  # a half-written header is accepted
            raise UserError(f"{self._path}: was not written by this program; move it away, or set logger.csv: false")
        lines = content.splitlines(keepends=True)[1:]
        rows = [(line, row) for line in lines if (row := _row(line)) is not None and int(row[0]) <= start_iter]
        self._there = {tuple(row[:3]) for _, row in rows if int(row[0]) == start_iter}
        kept = b"".join([header, *(line for line, _ in rows)])
        if kept != content:
            with written_whole(self._path) as beside:
                beside.write_bytes(kept)

    def _write(self, to_disk: bool = False) -> None:
        try:
            with self._path.open("ab", buffering=0) as file:
                size = file.tell()
                if file.write(self._waiting) != len(self._waiting):
                    file.truncate(size)  # else the next row would follow half a row
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if to_disk:
                    os.fsync(file.fileno())
        except OSError as error:
            if not self._failing:
                self._logger.error(f"{self._path}: cannot be written ({error.strerror}); rows wait for room")
            self._failing = True
        else:
            self._waiting, self._failing = b"", False


def has_rows(folder: str | os.PathLike[str]) -> bool:
    """Return whether a run in the folder has logged an iteration to the file."""
    with contextlib.suppress(OSError):
        return Path(folder, NAME).stat().st_size > len(_line(HEADER))
    return False


def _line(row: tuple[str, ...]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue().encode()


def _row(line: bytes) -> list[str] | None:
    """The fields of a complete row; None for a half-written row, or one with the null bytes that a power cut leaves."""
    try:
        row = next(csv.reader([line.decode()]), [])
    except (csv.Error, UnicodeDecodeError):
        return None
    whole = line.endswith(b"\n") and b"\0" not in line and len(row) == len(HEADER) and row[0].isdecimal()
    return row if whole else None
