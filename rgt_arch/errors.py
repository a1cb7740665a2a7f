"""Errors a user can cause: the commands print them as they are, without a traceback, and exit with their code."""


class UserError(Exception):
    """Work that failed for a reason the user can act on. The text says what, where and what to do; exit code 1."""

    exit_code = 1


class UsageError(UserError):
    """Input that cannot be worked on at all: flags, option files, missing or unfit files; exit code 2."""

    exit_code = 2


class UnreadableImageError(UserError):
    """An image that cannot be used, where the fault is the file's and not that of code or options."""


def printable(text: str) -> str:
    """`text` on one line: what a file name can hold and a terminal cannot show (line ends, broken UTF-8) is escaped."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
