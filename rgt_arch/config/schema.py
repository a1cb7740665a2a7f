"""What option files may hold: the vocabulary of keys, and turning a written value into the type its key takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "text", "path", "integer", "number", "boolean", "section", "list", "numbers", "integers", "count or auto", "any"
]

# How each kind is called in messages, with a value that would do.
_WANTED: dict[Kind, str] = {
    "text": "expected text",
    "path": "expected a path",
    "integer": "expected a whole number",
    "number": "expected a number such as 2e-4",
    "boolean": "expected true or false",
    "section": "expected a section (its keys indented on the following lines)",
    "list": "expected a list such as [1, 2]",
    "numbers": "expected a list of numbers such as [0.9, 0.99]",
    "integers": "expected a list of whole numbers such as [6, 6]",
    "count or auto": "expected a whole number or auto",
    "any": "",
}
_TRUE_FALSE = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}


@dataclass(frozen=True)
class Key:
    """One option: what it takes and what it is for.

    required: "" (may be left out), "always", "train" or "test". nullable: `~` is a value. low, high: range, inclusive.
    example: what a message about a missing key tells the user to write.
    """

    kind: Kind
    text: str = ""
    required: Literal["", "always", "train", "test"] = ""
    nullable: bool = False
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    example: str = ""


@dataclass(frozen=True)
class Section:
    """The keys that one section of an option file may have.

    owner: who reads them, for messages. strict: an unknown key is an error, otherwise a warning. free: the names of the
    keys are the user's own (val:metrics), and each value is a section.
    """

    keys: Mapping[str, Key]
    owner: str
    strict: bool = True
    free: bool = False
    elsewhere: Mapping[str, str] = field(default_factory=dict)  # key -> the class that reads it, if this owner does not


class WrongValueError(ValueError):
    """A value that its key cannot take; the text says what is wanted."""


def coerce(key: Key, value: Any) -> Any:
    """`value` as the type that `key` takes: "2e-4" and 5e3 become numbers (5e3 a whole one), "True" a boolean.

    Raises WrongValueError naming what is wanted.
    """
    if value is None:
        if key.nullable or key.kind == "any":
            return None
        raise WrongValueError(_WANTED[key.kind] + ", not nothing; fill it in or remove the line")
    result = _convert(key.kind, value)
    if key.choices and result not in key.choices:
        raise WrongValueError(f"expected one of {', '.join(key.choices)}")
    if isinstance(result, (int, float)) and not isinstance(result, bool):
        low = -math.inf if key.low is None else key.low
        high = math.inf if key.high is None else key.high
        if not low <= result <= high:
            limits = f"from {low:g} to {high:g}" if high < math.inf else f"of {low:g} or more"
            raise WrongValueError(f"expected a value {limits}")
    return result


def _convert(kind: Kind, value: Any) -> Any:
    if kind == "any":
        return value
    wrong = WrongValueError(_WANTED[kind])
    if kind == "count or auto" and value == "auto":
        return value
    if kind in ("integer", "number", "count or auto"):
        number = _number(value)
        if number is None or (kind != "number" and number != int(number)):
            raise wrong
        return number if kind == "number" else int(number)
    if kind == "text" and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    if kind == "path" and isinstance(value, str) and value:
        return value
    if kind == "boolean":
        if isinstance(value, str) and value.lower() in _TRUE_FALSE:
            return _TRUE_FALSE[value.lower()]
        if value in (0, 1):
            return bool(value)
    if kind == "section" and isinstance(value, dict):
        return value
    if kind in ("list", "numbers", "integers") and isinstance(value, (list, tuple)):
        if kind == "list":
            return list(value)
        numbers = [_number(item) for item in value]
        if None in numbers or (kind == "integers" and any(n != int(n) for n in numbers if n is not None)):
            raise wrong
        return [int(n) for n in numbers if n is not None] if kind == "integers" else numbers
    raise wrong


def _number(value: Any) -> int | float | None:
    """`value` as a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, int):
        return value
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(number) if isinstance(value, str) and value.strip().lstrip("+-").isdigit() else number
