"""Collecting the problems of an option file, so that a user sees all of them at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from rgt_arch.config.loading import KeyPath, WrittenOptions
from rgt_arch.config.tree import value_at
from rgt_arch.errors import UsageError


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that `name` is most likely a misspelling of, or None when nothing is close."""
    candidates = {candidate.lower(): candidate for candidate in valid}
    found = difflib.get_close_matches(str(name).lower(), candidates, n=1, cutoff=0.6)
    return candidates[found[0]] if found else None


def suggestion(name: str, valid: Iterable[str]) -> str:
    """'did you mean X?' or, when nothing is close, the valid names (the first 12)."""
    names = sorted(set(valid))
    near = nearest(name, names)
    if near is not None:
        return f"did you mean {near}?"
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"valid: {listed}" if names else "remove it"


def key_name(path: KeyPath) -> str:
    """How a key is written to users and in --force_yml: `train:optim_g:lr`."""
    return ":".join(path)


class Report:
    """Errors and warnings about one option file, each one line with file, line number, key, value and remedy."""

    def __init__(self, file: str, written: WrittenOptions | None) -> None:
        """file: its name for messages. written: as it was read, None for options that did not come from a file."""
        self.file = file
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self._faulty: set[KeyPath] = set()
        self._unusable: set[KeyPath] = set()
        self._misspelt: set[KeyPath] = set()
        self._written = written or WrittenOptions({}, {}, {})

    def error(self, path: KeyPath, message: str, value: Any = None) -> None:
        """Note a problem that stops the run. `value` is quoted unless None."""
        if path in self._unusable:
            return  # a value already reported as invalid is not also reported as inconsistent
        self._faulty.add(path)
        self._add(self.errors, path, message, value)

    def unusable(self, path: KeyPath, message: str, value: Any) -> None:
        """Note a value that its key cannot take; later errors about it are left out."""
        self.error(path, message, value)
        self._unusable.add(path)

    def unknown(self, path: KeyPath, owner: str, valid: Iterable[str]) -> None:
        """Note a key that nobody reads as an error, with the key it may stand for, which `missing` then leaves out."""
        names = list(valid)
        near = nearest(path[-1], names)
        if near is not None:
            self._misspelt.add((*path[:-1], near))
        self.error(path, f"unknown key of {owner}; {suggestion(path[-1], names)}")

    def missing(self, path: KeyPath, message: str) -> None:
        """Note that a key is missing, unless `unknown` has reported it as misspelt."""
        if path not in self._misspelt:
            self.error(path, message)

    def is_faulty(self, path: KeyPath) -> bool:
        """Whether there is an error about a key at `path` or below it, so that a closer look would only repeat it."""
        return any(faulty[: len(path)] == path for faulty in self._faulty)

    def warn(self, path: KeyPath, message: str, value: Any = None) -> None:
        """Note a problem that lets the run go on."""
        self._add(self.warnings, path, message, value)

    def as_written(self, path: KeyPath, value: Any) -> Any:
        """A number as the text in the file (0012, 1e3, 1:30), unless --force_yml has replaced it."""
        if isinstance(value, str) or value_at(self._written.options, path) != value:
            return value
        return self._written.numbers.get(path, value)

    def raise_errors(self) -> None:
        """Raise UsageError with all errors, one line each, if there are any."""
        if len(self.errors) == 1:
            raise UsageError(self.errors[0])
        if self.errors:
            raise UsageError("\n  ".join([f"{len(self.errors)} problems in {self.file}:", *self.errors]))

    def _add(self, to: list[str], path: KeyPath, message: str, value: Any) -> None:
        quoted = f" = {short(value)}" if value is not None else ""
        where = f"{key_name(path)}{quoted}: " if path else ""
        text = f"{self.file}{self._line(path, value)}: {where}{message}"
        if text not in to:
            to.append(text)

    def _line(self, path: KeyPath, value: Any) -> str:
        """':LINE' of the key, or of the nearest section around it; nothing where --force_yml has replaced the value."""
        written: Any = self._written.options
        for depth, key in enumerate(path):
            if not isinstance(written, Mapping) or key not in written:
                path = path[:depth]
                break
            written = written[key]
        else:
            if value is not None and not isinstance(written, (dict, list)) and str(written) != str(value):
                return ""
        line = self._written.lines.get(path)
        return f":{line}" if line else ""


def short(value: Any) -> str:
    """A value for a message, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
