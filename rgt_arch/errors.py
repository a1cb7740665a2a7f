"""Errors that a user can cause. The commands print the text without a traceback, and exit with the error's code."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Work that failed for a reason the user can act on. The text names problem, place and remedy; exit code 1."""

    exit_code = 1


class UsageError(UserError):
    """Invalid input: flags, option files, missing or unsuitable files; exit code 2."""

    exit_code = 2


class UnreadableImageError(UserError):
    """An image that cannot be used because of a fault in the file, not in code or options."""


def printable(text: str) -> str:
    """Return `text` on one line, with characters that a terminal cannot show (line ends, broken UTF-8) escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def few(names: Iterable[str]) -> str:
    """Return the first three names, and the number of the others."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Put a file name before the text of a UsageError."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
