"""Option files are read as plain data: numbers are numbers, no code runs, and errors are one line with a position."""

from __future__ import annotations

from pathlib import Path

import pytest

from rgt_arch.config.loading import load_options, read_written
from rgt_arch.errors import UsageError


def write(folder: Path, text: str) -> Path:
    file = folder / "some.yml"
    file.write_text(text, encoding="utf-8")
    return file


def refusal(folder: Path, text: str) -> str:
    """The one-line error that loading raises, without the folder."""
    with pytest.raises(UsageError) as caught:
        load_options(write(folder, text))
    message = str(caught.value).replace(f"{folder}/", "")
    assert "\n" not in message
    return message


def test_scalars_get_the_type_they_look_like(tmp_path):
    cases = {
        "2e-4": 2e-4, "1E5": 1e5, "-1e-2": -0.01, "!!float 2e-4": 2e-4, "!!float 5e3": 5000.0, ".5": 0.5, "1.": 1.0,
        "-1": -1, "0": 0, "1_000": 1000, "[2e-4, 1, 0.9]": [2e-4, 1, 0.9], "~": None, "True": True, "y": "y",
        "'2e-4'": "2e-4", "'{}x4'": "{}x4", "1e": "1e", "e5": "e5", "2024-05-01": "2024-05-01", "1.2.3": "1.2.3",
    }  # fmt: skip
    for text, value in cases.items():
        loaded = load_options(write(tmp_path, f"key: {text}\n"))["key"]
        assert (loaded, type(loaded)) == (value, type(value)), text


def test_line_numbers_and_order_of_keys_are_kept(tmp_path):
    file = write(tmp_path, "# comment\nz: 1\nb:\n\n  c: 2\n  d: [1,\n      2]\n")
    assert read_written(file).lines == {("z",): 2, ("b",): 3, ("b", "c"): 5, ("b", "d"): 6}
    assert list(load_options(file)) == ["z", "b"]


def test_file_with_a_byte_order_mark_and_windows_line_ends_loads(tmp_path):
    file = tmp_path / "some.yml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\r\nb:\r\n  c: x\r\n")
    assert load_options(file) == {"a": 1, "b": {"c": "x"}}


@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.mkdir", "!!python/name:os.system", "!!python/object/new:os.system", "!mine", "!!set"],
)
def test_tags_of_other_than_plain_values_are_refused_and_not_run(tmp_path, tag):
    trap = tmp_path / "made_by_the_option_file"
    message = refusal(tmp_path, f"name: x\nkey: {tag} ['{trap}']\n")
    assert message.startswith("some.yml:2: the tag ")
    assert not trap.exists()


def test_key_given_twice_is_refused(tmp_path):
    message = refusal(tmp_path, "train:\n  lr: 1\n  total: 2\n  lr: 3\n")
    assert message == "some.yml:4: train:lr is given twice (first in line 2); keep one of the two"


def test_sections_merged_from_an_anchor_share_no_objects(tmp_path):
    opt = load_options(write(tmp_path, "a: &base {type: Adam, lr: 1}\nb:\n  <<: *base\n  lr: 2\nc: *base\n"))
    assert opt["b"] == {"type": "Adam", "lr": 2}
    opt["a"].pop("type")
    assert opt["c"] == {"type": "Adam", "lr": 1}


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("a:\n\tb: 1\n", ":2:", "spaces, not tabs"),
        ("a: [1, 2\nb: 1\n", ":2:", "brackets"),
        ("a: 'x\n", ":2:", "quotes"),
        ("a: 1\n b: 2\n", ":2:", "indentation"),
        ("a: *missing\n", ":1:", "undefined alias"),
        ("a: 1\n---\nb: 2\n", ":2:", "single document"),
        ("a: !!float abc\n", ":1:", "'abc' is not a float"),
        ("? [a]\n: 1\n", ":1:", "a key must be a name"),
        ("", "some.yml", "is empty"),
        ("- a\n- b\n", "some.yml", "list"),
        ("a: &a [*a]\n", ":1:", "without & and *"),
        ("a: " + "[" * 5000 + "\n", "some.yml", "fewer levels"),
        ("a: \0\n", "some.yml", "plain text"),
    ],
)
def test_faulty_file_is_a_one_line_error_with_position_and_remedy(tmp_path, text, place, remedy):
    message = refusal(tmp_path, text)
    assert place in message
    assert remedy in message


def test_exponentially_nested_aliases_are_refused(tmp_path):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "without & and *" in refusal(tmp_path, "\n".join(lines))
