"""Progress of long work on stderr: a bar with rate and ETA on a terminal, elsewhere a line from time to time."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from rgt_arch.errors import printable

_SECONDS_BETWEEN_LINES = 15


class Progress:
    """A tqdm bar on a terminal; elsewhere the same text as a line from time to time, and one at the end."""

    def __init__(self, total: int, title: str, unit: str, *, large: bool = False, shown: bool = True) -> None:
        """total: number of units. title: name of the work. unit: name of one unit, such as "image" or "it".

        large: show thousands as k, millions as M. shown: False in a process whose progress another one shows; it prints
        only what `note` is given.
        """
        self._terminal, self._shown = sys.stderr.isatty(), shown
        self._bar = tqdm(total=total, desc=title, unit=unit, unit_scale=large, disable=not (shown and self._terminal))
        self._large = large
        self._start = self._printed = time.monotonic()
        self._total, self._title, self._unit = total, title, unit
        self._done = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def advance(self) -> None:
        """Show that one more unit is done."""
        self.reach(self._done + 1)

    def reach(self, done: int) -> None:
        """Show that `done` units are done."""
        if done == self._done or not self._shown:
            return
        self._done = done
        if self._terminal:
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if done == self._total or now - self._printed >= _SECONDS_BETWEEN_LINES:
            self._printed = now
            text = tqdm.format_meter(
                done, self._total, now - self._start, 80, self._title, unit=self._unit, unit_scale=self._large
            )
            print(text, file=sys.stderr, flush=True)

    def leave_out(self, units: int) -> None:
        """Subtract failed units from the total, so that they do not raise the rate."""
        self._total -= units
        self._bar.total = self._total
        self._bar.refresh()

    def note(self, text: str) -> None:
        """Print a line above the bar; characters that a terminal cannot show are escaped."""
        tqdm.write(printable(text), file=sys.stderr)
