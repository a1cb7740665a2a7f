"""Types of option keys, read off annotated dataclasses, and the conversion of values to these types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property, partial
from types import NoneType, UnionType
from typing import Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

FilePath = NewType("FilePath", str)
# For each type its kind, and the expected value as messages describe it.
_KINDS: Mapping[Any, tuple[str, str]] = {
    str: ("text", "text"),
    FilePath: ("path", "a path"),
    int: ("integer", "a whole number"),
    float: ("number", "a number such as 2e-4"),
    bool: ("boolean", "true or false"),
    dict: ("section", "a section (its keys indented on the following lines)"),
    list: ("list", "a list such as [1, 2]"),
    list[float]: ("numbers", "a list of numbers such as [0.9, 0.99]"),
    list[int]: ("integers", "a list of whole numbers such as [6, 6]"),
    list[str]: ("names", "a list of names such as [network_g]"),
    (int | Literal["auto"]): ("count or auto", "a whole number or auto"),
    Any: ("any", ""),
}
_WANTED = dict(_KINDS.values())
_ITEM_KINDS = {"list": "any", "numbers": "number", "integers": "integer", "names": "name"}
_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False, 1: True, 0: False}


@dataclass(frozen=True)
class Key:
    """One option: its type, limits and purpose.

    takes: a type of `_KINDS`, a Literal (a choice), a list of a Literal, a dataclass (a section), or one of these with
    `| None`, if `~` is valid. required: "degrade" is needed in training if the model makes the LR images. low, above,
    high: limits of a number or of a list's items; low and high are valid values. count: number of a list's items; two
    are the ends of a range. example: the value that a message about a missing key proposes, by default `default`.
    owner: the model that reads the key of a dataclass, if not every model does.
    """

    takes: Any
    text: str = ""
    required: Literal["", "always", "train", "degrade"] = ""
    low: float | None = None
    above: float | None = None
    high: float | None = None
    count: int | None = None
    example: str = ""
    default: Any = None
    owner: str = ""

    @cached_property
    def nullable(self) -> bool:
        """Whether `~` is valid."""
        return get_origin(self.takes) in (Union, UnionType) and NoneType in get_args(self.takes)

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """The valid values, or the valid items of a list; () without a choice."""
        innermost = get_args(self._value) if get_origin(self._value) is list else (self._value,)
        return get_args(innermost[0]) if get_origin(innermost[0]) is Literal else ()

    @cached_property
    def kind(self) -> str:
        """One of the kinds in `_KINDS`."""
        if self.choices:
            return "names" if get_origin(self._value) is list else "text"
        return _KINDS[dict if is_dataclass(self._value) else self._value][0]

    @property
    def _value(self) -> Any:
        """`takes` without None."""
        if not self.nullable:
            return self.takes
        return Union[tuple(each for each in get_args(self.takes) if each is not NoneType)]  # noqa: UP007


def key(text: str, required: str = "", **settings: Any) -> Any:
    """Declare a field of a section's dataclass: its annotation is `Key.takes`, the arguments are those of `Key`."""
    return field(default=settings.get("default"), metadata={"text": text, "required": required, **settings})


rgt_key = partial(key, owner="RGTModel")
"""Declare a key that only RGTModel reads."""


def all_keys(section: type) -> dict[str, Key]:
    """Return the keys of a section's dataclass."""
    hints = get_type_hints(section)
    return {each.name: Key(hints[each.name], **each.metadata) for each in fields(section)}


def own_keys(section: type, owner: str = "") -> dict[str, Key]:
    """Return the keys of a section's dataclass that `owner` reads; without it, the keys that every model reads."""
    return {name: spec for name, spec in all_keys(section).items() if spec.owner == owner}


class WrongValueError(ValueError):
    """A value that does not fit its key; the text names the expected value."""


def convert(spec: Key, value: Any) -> Any:
    """Convert `value` to the type of its key: "2e-4" to a number, 5e3 to a whole number, "True" to a boolean.

    False becomes None for a choice or a section that may be `~`. Raises WrongValueError with the expected value.
    """
    if spec.kind == "any" or (value is None and spec.nullable):
        return value
    if value is False and spec.nullable and (spec.choices or spec.kind == "section"):
        return None
    if value is None:
        raise WrongValueError(f"{_expected(spec)}, but the value is empty; give one or remove the line")
    if spec.kind == "path" and isinstance(value, list):
        raise WrongValueError("expected one path, not a list; put all files or links to them in one folder")
    result = _convert(spec.kind, value)
    items = result if isinstance(result, list) else [result]
    if result is None or (spec.choices and not all(item in spec.choices for item in items)):
        raise WrongValueError(_expected(spec))
    if spec.count is not None and len(items) != spec.count:
        raise WrongValueError(f"expected a list of {spec.count} values")
    if not all(_is_within(spec, item) for item in items if type(item) in (int, float)):
        raise WrongValueError(f"expected {'values' if isinstance(result, list) else 'a value'} {limits(spec)}")
    if spec.count == 2 and items[0] > items[1]:
        raise WrongValueError("expected the smaller value first")
    return result


def limits(spec: Key) -> str:
    """Return the range of a key's values as text: "from 0 to 1", "of 1 or more", "above 0"; "" without limits."""
    if spec.above is not None:
        return f"above {spec.above:g}"
    low, high = ("" if end is None else str(int(end)) if end % 1 == 0 else f"{end:g}" for end in (spec.low, spec.high))
    if low and high:
        return f"from {low} to {high}"
    return f"of {low or high} or {'more' if low else 'less'}" if low or high else ""


def _is_within(spec: Key, number: float) -> bool:
    return (
        (spec.low is None or number >= spec.low)
        and (spec.above is None or number > spec.above)
        and (spec.high is None or number <= spec.high)
    )


def _expected(spec: Key) -> str:
    if not spec.choices:
        return f"expected {_WANTED[spec.kind]}"
    named = ", ".join(spec.choices)
    if spec.kind == "names":
        return f"expected a list of these: {named}"
    return f"expected one of {named}" if len(spec.choices) > 1 else f"expected {named}" + " or ~" * spec.nullable


def _convert(kind: str, value: Any) -> Any:
    """Convert `value` to a kind, or return None."""
    match kind:
        case "list" | "numbers" | "integers" | "names":
            items = [value] if kind == "names" and isinstance(value, str) else value
            result = [_convert(_ITEM_KINDS[kind], item) for item in items] if isinstance(items, (list, tuple)) else None
            return None if result is None or (kind != "list" and None in result) else result
        case "any":
            return value
        case "integer" | "number" | "count or auto":
            return value if kind == "count or auto" and value == "auto" else _number(value, whole=kind != "number")
        case "boolean":
            return _BOOLEANS.get(value.lower() if isinstance(value, str) else value if value in (0, 1) else "")
        case "section":
            return value if isinstance(value, dict) else None
        case "text" if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
    return value if isinstance(value, str) and (value or kind != "path") else None


def _number(value: Any, *, whole: bool) -> int | float | None:
    """Convert `value` to a finite number, or return None."""
    try:
        number = value if isinstance(value, int) else float(value)
    except (TypeError, ValueError):
        return None
    if isinstance(value, bool) or not math.isfinite(number) or (whole and number != int(number)):
        return None
    is_written_whole = isinstance(value, str) and value.strip().lstrip("+-").isdigit()
    return int(value) if is_written_whole else int(number) if whole else number
