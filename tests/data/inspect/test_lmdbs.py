"""LMDBs: data and meta_info.txt agree both ways, every value decodes, and no damage crashes the command."""

from __future__ import annotations

import faulthandler
import os
import shutil

import cv2
import numpy as np
import pytest
from basicsr.utils.lmdb_util import LmdbMaker

from rgt_arch.data import parallel

from .conftest import noise


@pytest.fixture
def lmdbs(data):
    """hr.lmdb and lr.lmdb, made by BasicSR's own maker."""
    for folder, ending in (("HR", ""), ("LR", "x2")):
        maker = LmdbMaker(str(data / f"{folder.lower()}.lmdb"), map_size=2**24)
        for file in sorted((data / folder).iterdir()):
            maker.put(file.read_bytes(), file.stem.removesuffix(ending), cv2.imread(str(file)).shape)
        maker.close()
    return data


def edit_meta(lmdb, change):
    meta = lmdb / "meta_info.txt"
    meta.write_text("".join(f"{line}\n" for line in change(meta.read_text().splitlines())))


def test_sound_lmdbs_are_named_fit_for_training_and_left_as_they_are(lmdbs, run):
    before = {path: path.stat().st_mtime_ns for path in lmdbs.rglob("*")}
    code, text = run(lmdbs / "hr.lmdb", "--lr", lmdbs / "lr.lmdb", "--bicubic")
    assert code == 0
    assert "6 pairs, scale 2" in text
    assert "6 of 6 LR images bit-equal" in text
    assert "BasicSR can train on them" in text
    assert {path: path.stat().st_mtime_ns for path in lmdbs.rglob("*")} == before


def test_an_lmdb_is_checked_where_it_cannot_be_written(lmdbs, run):
    (lmdbs / "hr.lmdb" / "lock.mdb").unlink()
    assert run(lmdbs / "hr.lmdb")[0] == 0
    assert not (lmdbs / "hr.lmdb" / "lock.mdb").exists()


def test_meta_info_and_data_are_compared_both_ways(lmdbs, run):
    def change(lines):
        return [lines[0].replace("(24,32,", "(32,24,"), lines[1], lines[1], "gone.png (1,2,3) 1", *lines[3:]]

    edit_meta(lmdbs / "hr.lmdb", change)
    code, text = run(lmdbs / "hr.lmdb")
    assert code == 1
    assert "1 line of meta_info.txt without data\n    gone.png (1,2,3) 1" in text
    assert "1 key not listed in meta_info.txt, so that BasicSR does not see the data\n    2" in text
    assert "1 key listed more than once in meta_info.txt\n    1" in text
    assert "1 listed size that the image does not have (height, width)\n    0: listed (32,24), is (24,32)" in text
    text = run(lmdbs / "hr.lmdb", "--lr", lmdbs / "lr.lmdb")[1]
    assert "1 HR image without LR image\n    gone" in text
    assert "1 LR image without HR image\n    2" in text
    assert "cannot use them" in text


def test_a_missing_meta_info_is_a_problem(lmdbs, run):
    (lmdbs / "hr.lmdb" / "meta_info.txt").unlink()
    code, text = run(lmdbs / "hr.lmdb")
    assert code == 1
    assert "its meta_info.txt, which BasicSR needs, cannot be read" in text


def test_values_that_do_not_decode_and_keys_that_basicsr_cuts_are_named(tmp_path, run):
    image = cv2.imencode(".png", noise(0))[1].tobytes()
    maker = LmdbMaker(str(tmp_path / "x.lmdb"), map_size=2**24)
    for key, value in (("a.b", image), ("c d", image), ("junk", b"junk"), ("void", b"")):
        maker.put(value, key, (24, 32, 3))
    maker.close()
    code, text = run(tmp_path / "x.lmdb")
    assert code == 1
    assert "1 key with a dot, at which BasicSR cuts\n    a.b: BasicSR asks for a\n" in text
    assert "2 values cannot be read as images\n    junk: is not an image" in text
    assert "void: is empty" in text
    assert "1 group of images with the same pixels\n    a.b = c d" in text


@pytest.mark.parametrize("share", [0.99, 0.5, 0.0])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_truncated_lmdb_is_one_line(lmdbs, run, share, jobs):
    data = lmdbs / "hr.lmdb" / "data.mdb"
    os.truncate(data, int(data.stat().st_size * share))
    code, text = run(lmdbs / "hr.lmdb", "--jobs", jobs)
    assert code == 2
    assert "hr.lmdb" in text
    assert text.count("\n") == 1
    assert ("is truncated" in text) == (share > 0)


def test_what_is_no_lmdb_is_one_line(data, run):
    (data / "empty.lmdb").mkdir()
    (data / "junk.lmdb").mkdir()
    (data / "junk.lmdb" / "data.mdb").write_bytes(b"x" * 9000)
    (data / "fifo.lmdb").mkdir()
    os.mkfifo(data / "fifo.lmdb" / "data.mdb")
    for name in ("empty", "junk", "fifo"):
        code, text = run(data / f"{name}.lmdb")
        assert code == 2
        assert text.count("\n") == 1
        assert f"{name}.lmdb: " in text
    shutil.copytree(data / "junk.lmdb", data / "plain")
    assert "BasicSR takes it for one if its name ends with .lmdb" in run(data / "plain")[1]
    assert "one is an LMDB, the other a folder" in run(data / "HR", "--lr", data / "junk.lmdb")[1]


def test_damage_within_never_crashes_the_command(lmdbs, run, monkeypatch):
    """Flipped bytes send LMDB to pages that do not exist, which kills the process that reads them."""
    start_worker = parallel._start_worker

    def start_quietly():
        faulthandler.disable()  # pytest's would write a traceback for each
        start_worker()

    monkeypatch.setattr(parallel, "_start_worker", start_quietly)
    data = lmdbs / "hr.lmdb" / "data.mdb"
    sound = np.frombuffer(data.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    codes = set()
    for _ in range(6):
        broken = sound.copy()
        # Not the two header pages: these say where the rest is.
        places = rng.integers(8192, len(broken), 400)
        broken[places] = rng.integers(0, 256, 400)
        data.write_bytes(broken.tobytes())
        code, text = run(lmdbs / "hr.lmdb", "--jobs", 1)
        codes.add(code)
        assert "PROBLEM" in text if code == 1 else text.count("\n") == 1
    assert codes <= {1, 2}
