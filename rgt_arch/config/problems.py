"""Collecting the problems of an option file, so that a user sees all of them at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from rgt_arch.config.loading import KeyPath, WrittenOptions, value_at
from rgt_arch.errors import UsageError


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """Return the valid name closest to `name`, or None if none is close."""
    candidates = {candidate.lower(): candidate for candidate in valid}
    found = difflib.get_close_matches(str(name).lower(), candidates, n=1, cutoff=0.6)
    return candidates[found[0]] if found else None


def suggestion(name: str, valid: Iterable[str]) -> str:
    """Return 'did you mean X?' or, if no name is close, the first 12 valid names."""
    names = sorted(set(valid))
    if (near := nearest(name, names)) is not None:
        return f"did you mean {near}?"
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"valid: {listed}" if names else "remove it"


def key_name(path: KeyPath) -> str:
    """Return a key as messages and --force_yml write it: `train:optim_g:lr`."""
    return ":".join(path)


class Report:
    """Errors and warnings about one option file, each one line with file, line number, key, value and remedy."""

    def __init__(self, file: str, written: WrittenOptions | None) -> None:
        """file: name for messages. written: the options as they were read; None if they are not from a file."""
        self.file = file
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.faulty: set[KeyPath] = set()
        """Keys with an error. Each key gets one: a wrong value is not also reported as inconsistent."""
        self._written = written or WrittenOptions({}, {})

    def error(self, path: KeyPath, message: str, value: Any = None) -> None:
        """Record a problem that stops the run. `value` is quoted unless None."""
        if path not in self.faulty:
            self.faulty.add(path)
            self.errors.append(self._line(path, message, value))

    def warn(self, path: KeyPath, message: str, value: Any = None) -> None:
        """Record a problem that does not stop the run."""
        self.warnings.append(self._line(path, message, value))

    def is_faulty(self, path: KeyPath) -> bool:
        """Whether the key at `path` or one below it has an error, which further checks would only repeat."""
        return any(faulty[: len(path)] == path for faulty in self.faulty)

    def raise_errors(self) -> None:
        """Raise UsageError with all errors, one line each, if there are any."""
        if len(self.errors) == 1:
            raise UsageError(self.errors[0])
        if self.errors:
            raise UsageError("\n  ".join([f"{len(self.errors)} problems in {self.file}:", *self.errors]))

    def _line(self, path: KeyPath, message: str, value: Any) -> str:
        """The line number is that of the key, or of the nearest section around it; a key of --force_yml has none."""
        lines, written = self._written.lines, value_at(self._written.options, path)
        number = next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), None)
        if value is not None and path in lines and str(written) != str(value) and not isinstance(written, (dict, list)):
            number = None
        quoted = f" = {short(value)}" if value is not None else ""
        key = f"{key_name(path)}{quoted}: " if path else ""
        place = f"{self.file}{f':{number}' if number else ''}"
        if any(path[:end] in self._written.overridden for end in range(1, len(path) + 1)):
            place = "--force_yml"
        return f"{place}: {key}{message}"


def short(value: Any) -> str:
    """Return a value as text for messages, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
