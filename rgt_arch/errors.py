"""Errors a user can cause: the commands print them as they are, without a traceback, and exit with their code."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Work that failed for a reason the user can act on. The text names problem, place and remedy; exit code 1."""

    exit_code = 1


class UsageError(UserError):
    """Input that cannot be worked on at all: flags, option files, missing or unfit files; exit code 2."""

    exit_code = 2


class UnreadableImageError(UserError):
    """An image that cannot be used, where the fault is the file's and not that of code or options."""


def printable(text: str) -> str:
    """`text` on one line: characters that a terminal cannot show (line ends, broken UTF-8) are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def few(names: Iterable[str]) -> str:
    """The first names of many, and how many more there are."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Put the name of a file before the text of a UsageError."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
