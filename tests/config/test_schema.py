"""Values become the type that their key takes, or are refused with what the key expects."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from rgt_arch.config.schema import FilePath, Key, WrongValueError, convert

COUNT = Key(int, low=1)
AMP = Key(Literal["bf16", "fp16"] | None)


@pytest.mark.parametrize(
    ("key", "value", "result"),
    [
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
        (Key(list[Literal["iso", "aniso"]]), ["iso"], ["iso"]),
        (Key(list), (1, "x"), [1, "x"]),
        (Key(dict | None), False, None),
        (AMP, False, None),
        (AMP, None, None),
        (AMP, "bf16", "bf16"),
        (Key(Any), False, False),
    ],
)
def test_value_becomes_the_type_of_its_key(key: Key, value: object, result: object) -> None:
    converted = convert(key, value)
    assert converted == result
    assert type(converted) is type(result)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (COUNT, "two", "expected a whole number"),
        (COUNT, 1.5, "expected a whole number"),
        (COUNT, True, "expected a whole number"),
        (COUNT, 0, "expected a value of 1 or more"),
        (COUNT, None, "expected a whole number, not nothing; fill it in or remove the line"),
        (Key(int | Literal["auto"]), "all", "expected a whole number or auto"),
        (Key(float), "fast", "expected a number such as 2e-4"),
        (Key(float), float("nan"), "expected a number such as 2e-4"),
        (Key(float, low=0, high=1), 2, "expected a value from 0 to 1"),
        (Key(float, high=-1), 2, "expected a value of -1 or less"),
        (Key(float, above=0), 0, "expected a value above 0"),
        (Key(bool), "maybe", "expected true or false"),
        (Key(bool), [1], "expected true or false"),
        (Key(str), True, "expected text"),
        (Key(FilePath), "", "expected a path"),
        (Key(dict), 5, "expected a section (its keys indented on the following lines)"),
        (Key(list[int]), 50000, "expected a list of whole numbers such as [6, 6]"),
        (Key(list[float]), [0.9, "x"], "expected a list of numbers such as [0.9, 0.99]"),
        (Key(list[float], low=0, count=2), [1], "expected a list of 2 values"),
        (Key(list[float], low=0, count=2), [1, -1], "expected values of 0 or more"),
        (Key(list[Literal["iso", "aniso"]]), ["round"], "expected a list of these: iso, aniso"),
        (AMP, "fp8", "expected one of bf16, fp16"),
        (Key(Literal["a"] | None), 1, "expected a or ~"),
    ],
)
def test_wrong_value_names_what_is_expected(key: Key, value: object, expected: str) -> None:
    with pytest.raises(WrongValueError) as caught:
        convert(key, value)
    assert str(caught.value) == expected
