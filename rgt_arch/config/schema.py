"""What option files may hold: the vocabulary of keys, and turning a written value into the type its key takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "text",
    "path",
    "integer",
    "number",
    "boolean",
    "section",
    "list",
    "numbers",
    "integers",
    "names",
    "count or auto",
    "any",
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
    "names": "expected a list of names such as [network_g]",
    "count or auto": "expected a whole number or auto",
    "any": "",
}
_LISTS = ("list", "numbers", "integers", "names")
_TRUE_FALSE = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}


@dataclass(frozen=True)
class Key:
    """One option: what it takes and what it is for.

    required: "" (may be left out), "always", "train" or "test". nullable: `~` is a value. choices, low, high: which
    values there are, limits included; of a list, each of its items. count: how many items a list has.
    example: what a message about a missing key tells the user to write.
    """

    kind: Kind
    text: str = ""
    required: Literal["", "always", "train", "test"] = ""
    nullable: bool = False
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    count: int | None = None
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
        raise WrongValueError((_choice(key) or _WANTED[key.kind]) + ", not nothing; fill it in or remove the line")
    try:
        result = _convert(key.kind, value)
    except WrongValueError as error:
        raise WrongValueError(_choice(key) or str(error)) from error
    items = result if isinstance(result, list) else [result]
    if key.count is not None and len(items) != key.count:
        raise WrongValueError(f"expected a list of {key.count} values")
    for item in items:
        if key.choices and item not in key.choices:
            raise WrongValueError(_choice(key))
        if isinstance(item, (int, float)) and not isinstance(item, bool) and not _is_within(key, item):
            raise WrongValueError(f"expected {'values' if isinstance(result, list) else 'a value'} {limits(key)}")
    return result


def _choice(key: Key) -> str:
    """What a key with choices expects; "" for others."""
    if not key.choices:
        return ""
    named = ", ".join(key.choices)
    if key.kind == "names":
        return f"expected a list of these: {named}"
    return f"expected one of {named}" if len(key.choices) > 1 else f"expected {named}" + " or ~" * key.nullable


def limits(key: Key) -> str:
    """The range of a key's values for people: "from 0 to 1", "of 1 or more", "of 1 or less"; "" without limits.

    A tiny low limit stands for "above 0".
    """
    if key.low is not None and 0 < key.low < 1e-2 and key.high is None:
        return "above 0"
    low, high = (None if limit is None else _plain(limit) for limit in (key.low, key.high))
    if low is not None and high is not None:
        return f"from {low} to {high}"
    if low is not None:
        return f"of {low} or more"
    return "" if high is None else f"of {high} or less"


def _is_within(key: Key, number: float) -> bool:
    return (key.low is None or key.low <= number) and (key.high is None or number <= key.high)


def _plain(limit: float) -> str:
    return str(int(limit)) if limit == int(limit) else f"{limit:g}"


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
    if kind == "names" and isinstance(value, str):
        return [value]
    if kind in _LISTS and isinstance(value, (list, tuple)):
        if kind == "list" or (kind == "names" and all(isinstance(item, str) for item in value)):
            return list(value)
        if kind == "names":
            raise wrong
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
