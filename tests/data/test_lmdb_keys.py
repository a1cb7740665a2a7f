"""Keys are legal for LMDB and BasicSR, and different names have different keys."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgt_arch.data.lmdb_keys import MAX_KEY_BYTES, check_keys, lmdb_key
from rgt_arch.errors import UserError


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("0001_s001.png", "0001_s001"),
        ("a-b~c(1)+@.jpg", "a-b~c(1)+@"),
        ("sub/00001/0266/im1.png", "sub/00001/0266/im1"),
        ("img.v1.png", "img%2Ev1"),
        ("two words.png", "two%20words"),
        ("100%.bmp", "100%25"),
        ("v1.2/é\n.png", "v1%2E2/%C3%A9%0A"),
        ("bad\udcff.png", "bad%FF"),  # how Python shows a file name that is no UTF-8
    ],
)
def test_plain_names_stay_and_others_are_encoded(name, key):
    assert lmdb_key(PurePosixPath(name)) == key


path_parts = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=400)
relative = st.lists(path_parts.filter(lambda part: part not in (".", "..")), min_size=1, max_size=3).map("/".join)


@given(st.sets(relative, max_size=6))
def test_keys_are_legal_and_unique_and_basicsr_reads_them_back(stems):
    names = [PurePosixPath(f"{stem}.png") for stem in stems]
    keys = [lmdb_key(name) for name in names]
    check_keys(names, keys)  # ASCII, no dots or spaces, short enough, no two alike
    for key in keys:
        assert f"{key}.png (1,1,3) 1\n".split(".")[0] == key  # basicsr/data/data_util.py:142


def test_long_names_are_shortened_apart_and_alike_with_an_ending():
    one, other = ("é" * 120 + end for end in ("a", "b"))
    keys = {lmdb_key(PurePosixPath(f"{stem}.png")) for stem in (one, other)}
    assert len(keys) == 2
    assert {len(key) for key in keys} == {MAX_KEY_BYTES}
    assert lmdb_key(PurePosixPath(f"{one}x4.jpg"), "x4") in keys


def test_ending_is_taken_off_before_encoding_and_must_be_there():
    assert lmdb_key(PurePosixPath("a.b.x2.png"), ".x2") == "a%2Eb"
    for name in ("a.png", "sub/x2.png"):
        with pytest.raises(UserError, match=r"png: its name does not end with 'x2'"):
            lmdb_key(PurePosixPath(name), "x2")
