"""Values are converted to the type of their key, or refused with the expected values."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from rgt_arch.config.schema import FilePath, Key, WrongValueError, convert

COUNT = Key(int, low=1)
AMP = Key(Literal["bf16", "fp16"] | None)
KINDS = Key(list[Literal["iso", "aniso"]])
RANGE = Key(list[float], low=0, count=2)


def test_value_is_converted_to_the_type_of_its_key() -> None:
    cases: list[tuple[Key, Any, Any]] = [
        (COUNT, "7", 7),
        (COUNT, 5e3, 5000),
        (COUNT, "5e3", 5000),
        (Key(int | Literal["auto"]), "auto", "auto"),
        (Key(float), "2e-4", 2e-4),
        (Key(float), 3, 3),
        (Key(bool), "True", True),
        (Key(bool), "off", False),
        (Key(bool), 1, True),
        (Key(str), 12, "12"),
        (Key(list[int]), ("1", 2.0), [1, 2]),
        (Key(list[str]), "network_g", ["network_g"]),
        (KINDS, ["iso"], ["iso"]),
        (Key(list), (1, "x"), [1, "x"]),
        (Key(dict | None), False, None),
        (AMP, False, None),
        (AMP, None, None),
        (AMP, "bf16", "bf16"),
        (Key(Any), False, False),
    ]
    for key, value, result in cases:
        converted = convert(key, value)
        assert (converted, type(converted)) == (result, type(result)), (key, value)


def test_error_names_the_expected_values() -> None:
    cases: list[tuple[Key, Any, str]] = [
        (COUNT, "two", "a whole number"),
        (COUNT, 1.5, "a whole number"),
        (COUNT, True, "a whole number"),
        (COUNT, 0, "a value of 1 or more"),
        (COUNT, None, "a whole number, but the value is empty; give one or remove the line"),
        (Key(int | Literal["auto"]), "all", "a whole number or auto"),
        (Key(float), "fast", "a number such as 2e-4"),
        (Key(float), float("nan"), "a number such as 2e-4"),
        (Key(float, low=0, high=1), 2, "a value from 0 to 1"),
        (Key(float, high=-1), 2, "a value of -1 or less"),
        (Key(float, above=0), 0, "a value above 0"),
        (Key(bool), "maybe", "true or false"),
        (Key(bool), [1], "true or false"),
        (Key(str), True, "text"),
        (Key(FilePath), "", "a path"),
        (Key(dict), 5, "a section (its keys indented on the following lines)"),
        (Key(list[int]), 50000, "a list of whole numbers such as [6, 6]"),
        (Key(list[float]), [0.9, "x"], "a list of numbers such as [0.9, 0.99]"),
        (RANGE, [1], "a list of 2 values"),
        (RANGE, [1, -1], "values of 0 or more"),
        (RANGE, [2, 1], "the smaller value first"),
        (Key(FilePath), ["a", "b"], "one path, not a list; put all files or links to them in one folder"),
        (KINDS, ["round"], "a list of these: iso, aniso"),
        (AMP, "fp8", "one of bf16, fp16"),
        (Key(Literal["a"] | None), 1, "a or ~"),
    ]
    for key, value, expected in cases:
        with pytest.raises(WrongValueError) as caught:
            convert(key, value)
        assert str(caught.value) == f"expected {expected}"
