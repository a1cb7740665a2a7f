"""HR and LR images pair as in BasicSR, the template of a folder is found, and LMDB keys are valid and unique."""

from __future__ import annotations

import random
from pathlib import Path, PurePosixPath

import pytest
from basicsr.data.data_util import paired_paths_from_folder, paired_paths_from_meta_info_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rgt_arch.data.pairing import (
    MAX_KEY_BYTES,
    guess_template,
    images_below,
    is_result_of,
    lmdb_key,
    lq_name,
    pair_names,
    pairs_from_folders,
    pairs_from_meta_info,
    read_list,
    spread,
)
from rgt_arch.errors import UsageError, UserError


def test_folders_and_lists_pair_as_in_basicsr(tmp_path):
    hr, lr = tmp_path / "HR", tmp_path / "LR"
    names = ["a.png", "b.v1.jpg", "{}.png", "box2.png", "box2x2.png"]
    for folder in (hr, lr):
        folder.mkdir()
    for name in names:
        (hr / name).touch()
        (lr / lq_name(name, "{}x2")).touch()
    folders = getattr(paired_paths_from_folder, "__wrapped__", paired_paths_from_folder)  # without our patch
    theirs = folders([str(lr), str(hr)], ["lq", "gt"], "{}x2")
    ours = pairs_from_folders(names, [file.name for file in lr.iterdir()], hr, lr, "{}x2")
    assert {(str(pair.gt), str(pair.lq)) for pair in ours} == {(pair["gt_path"], pair["lq_path"]) for pair in theirs}
    (tmp_path / "list.txt").write_text("sub/a.v1.png (8,8,3)\nb.png (8,8,3)\n")
    theirs = paired_paths_from_meta_info_file([str(lr), str(hr)], ["lq", "gt"], str(tmp_path / "list.txt"), "{}x2")
    ours = pairs_from_meta_info(read_list(tmp_path / "list.txt"), "{}x2", comma=False).files(hr, lr)
    assert [(str(pair.gt), str(pair.lq)) for pair in ours] == [(pair["gt_path"], pair["lq_path"]) for pair in theirs]


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{}", ["bo.png", "box2.png"]),
        ("{}x2", ["box2.png", "box2x2.png"]),
        ("{}x4", ["sub/box4.jpg"]),
        ("{}_LRBI_x2", ["bo_LRBI_x2.png", "box2_LRBI_x2.png"]),
        ("lr_{}{{x}}", ["lr_bo{x}.png", "lr_box2{x}.png", "other.png"]),
    ],
)
def test_the_template_of_a_folder_is_found_and_pairs_it(template, names):
    hr = ["bo.png", "box2.png", "sub/bo.png"]
    for order in range(3):
        random.Random(order).shuffle(names)
        random.Random(order).shuffle(hr)
        assert guess_template(hr, names) == template
        assert pair_names(hr, names, template).all_pairs


def test_template_needs_a_matching_name_and_one_of_many_lr_images_is_enough():
    assert guess_template(["a.png"], ["1.png"]) is None
    assert guess_template([], []) is None
    assert guess_template(["0777.png"], [f"{number:04}x3.png" for number in range(3000)]) == "{}x3"


def test_unpaired_images_are_sorted_by_reason():
    found = pair_names(
        ["d.png", "a.png", "b.png", "c.png"], ["bx2.jpg", "ax2.png", "cx2.bmp", "cx2.jpg", "e.png"], "{}x2"
    )
    assert found.pairs == [("a.png", "ax2.png")]
    assert found.other_suffix == [("b.png", "bx2.jpg")]
    assert found.lone_gt == ["c.png", "d.png"]
    assert found.lone_lq == ["cx2.bmp", "cx2.jpg", "e.png"]


def test_pairing_and_guessing_take_linear_time():
    """Count comparisons and hashes of names: 16 times the files need at most 20 times the work."""

    class Counted(str):
        work = 0

        def __hash__(self):
            Counted.work += 1
            return super().__hash__()

        def __eq__(self, other):
            Counted.work += 1
            return super().__eq__(other)

    def work(count):
        Counted.work = 0
        hr = [Counted(f"{number:05}.png") for number in range(count)]
        lr = [Counted(f"{number:05}x2.png") for number in range(count)]
        pairs_from_folders(hr, lr, Path("HR"), Path("LR"), guess_template(hr, lr) or "")
        return Counted.work

    assert work(8000) < 20 * work(500)


@pytest.mark.parametrize(
    ("name", "belongs"),
    [("baby.png", True), ("Baby_x4.png", True), ("babyx4.png", True), ("baby-SR.v2.jpg", True), ("babyface.png", False),
     ("my_baby.png", False), ("baby2.png", False), ("babyx.png", False)],
)  # fmt: skip
def test_results_are_recognised_by_the_name_of_their_image(name, belongs):
    assert is_result_of(name, "baby.png") == belongs


def test_spread_is_even_and_keeps_both_ends():
    assert spread(list(range(10)), 4) == [0, 3, 6, 9]
    assert spread([1, 2], 4) == [1, 2]


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
        ("bad\udcff.png", "bad%FF"),  # Python's form of a file name that is not UTF-8
    ],
)
def test_plain_names_are_kept_and_others_are_encoded(name, key):
    assert lmdb_key(PurePosixPath(name)) == key


path_parts = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=400)
relative = st.lists(path_parts.filter(lambda part: part not in (".", "..")), min_size=1, max_size=3).map("/".join)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sets(relative, max_size=6))
def test_keys_are_valid_and_unique_and_basicsr_reads_them_back(stems):
    names = [PurePosixPath(f"{stem}.png") for stem in stems]
    keys = [lmdb_key(name) for name in names]
    assert len(set(keys)) == len(names)
    for key in keys:
        assert key.isascii()
        assert key.isprintable()
        assert not {".", " "} & {*key}
        assert 1 <= len(key) <= 511
        assert f"{key}.png (1,1,3) 1\n".split(".")[0] == key  # basicsr/data/data_util.py:142


def test_long_names_get_distinct_short_keys_after_removal_of_an_ending():
    one, other = ("é" * 120 + end for end in ("a", "b"))
    keys = {lmdb_key(PurePosixPath(f"{stem}.png")) for stem in (one, other)}
    assert [len(key) for key in keys] == [MAX_KEY_BYTES] * 2
    assert lmdb_key(PurePosixPath(f"{one}x4.jpg"), "x4") in keys
    assert lmdb_key(PurePosixPath("a.b.x2.png"), ".x2") == "a%2Eb"
    for name in ("a.png", "sub/x2.png"):
        with pytest.raises(UserError, match=r"png: its name does not end with 'x2'"):
            lmdb_key(PurePosixPath(name), "x2")


def test_images_are_found_in_order_through_links_and_loops(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a.png", ".hidden/x.png", "b/.x.png", "b/0.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "3.png").write_bytes(b"x")
    (tmp_path / "in" / "b" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "in" / "b" / "loop").symlink_to(tmp_path / "in")
    others: list[Path] = []
    assert images_below(tmp_path / "in", others) == ["a.png", "b/1.png", "b/2.png", "b/link/3.png"]
    assert others == [tmp_path / "in/b/0.txt"]
    for place in ("none", "in/a.png"):
        with pytest.raises(UsageError, match="no such folder"):
            images_below(tmp_path / place)
