"""LMDBs: data and meta_info.txt are compared both ways, every value is decoded, and damage crashes nothing."""

from __future__ import annotations

import faulthandler
import os
from pathlib import Path

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
        maker = LmdbMaker(f"{folder.lower()}.lmdb", map_size=2**24)
        for file in sorted((data / folder).iterdir()):
            maker.put(file.read_bytes(), file.stem.removesuffix(ending), cv2.imread(str(file)).shape)
        maker.close()
    return data


def test_valid_lmdbs_pass_and_are_not_changed(lmdbs, run):
    Path("hr.lmdb/lock.mdb").unlink()  # as on a read-only disk
    before = {path: path.stat().st_mtime_ns for path in lmdbs.rglob("*")}
    code, text = run("hr.lmdb", "--lr", "lr.lmdb", "--bicubic")
    assert code == 0
    assert "6 pairs, scale 2" in text
    assert "6 of 6 LR images bit-equal" in text
    assert "BasicSR can train on them" in text
    assert {path: path.stat().st_mtime_ns for path in lmdbs.rglob("*")} == before


def test_meta_info_and_data_are_compared_both_ways(lmdbs, run):
    meta = Path("hr.lmdb/meta_info.txt")
    lines = meta.read_text().splitlines()
    meta.write_text("\n".join([lines[0].replace("(24,32,", "(32,24,"), lines[1], "gone.png (1,2,3) 1"]))
    code, text = run("hr.lmdb")
    assert code == 1
    assert "1 value cannot be read as images\n    gone: no key 'gone'; make the LMDB again" in text
    assert "3 keys more than meta_info.txt lists: BasicSR does not see them" in text
    assert "1 listed size that the image does not have (height, width)\n    0: listed (32,24), is (24,32)" in text
    text = run("hr.lmdb", "--lr", "lr.lmdb")[1]
    assert "1 HR image without LR image\n    gone" in text
    assert "4 LR images without HR image\n    2" in text
    assert "cannot use them" in text


def test_values_that_do_not_decode_and_keys_that_basicsr_cuts_are_reported(data, run):
    image = cv2.imencode(".png", noise(0))[1].tobytes()
    maker = LmdbMaker("x.lmdb", map_size=2**24)
    for key, value in (("a.b", image), ("c d", image), ("e", image), ("junk", b"junk"), ("void", b"")):
        maker.put(value, key, (24, 32, 3))
    maker.close()
    code, text = run("x.lmdb")
    assert code == 1
    assert "3 values cannot be read as images\n    a: no key 'a'; it has 'a.b', but BasicSR cuts names at" in text
    assert "junk: is not an image" in text
    assert "void: cannot be decoded" in text
    assert "1 group of images with the same pixels\n    c d = e" in text


@pytest.mark.parametrize("share", [0.99, 0.5, 0.0])
def test_truncated_lmdb_is_a_one_line_error(lmdbs, run, share):
    file = Path("hr.lmdb/data.mdb")
    os.truncate(file, int(file.stat().st_size * share))
    code, text = run("hr.lmdb")
    assert code == 2
    assert ("is truncated" if share else "its data.mdb is empty") in text
    assert text.count("\n") == 1


@pytest.mark.parametrize("name", ["empty.lmdb", "junk.lmdb", "fifo.lmdb", "plain"])
def test_folder_that_is_not_an_lmdb_is_a_one_line_error(lmdbs, run, name):
    Path(name).mkdir()
    Path(name, "meta_info.txt").write_text("a.png (1,1,3) 1\n")
    if name == "fifo.lmdb":
        os.mkfifo("fifo.lmdb/data.mdb")
    elif name != "empty.lmdb":
        Path(name, "data.mdb").write_bytes(b"x" * 9000)
    code, text = run(name)
    assert code == 2
    assert text.count("\n") == 1
    assert f"{name}: " in text
    assert ("takes it for one if its name ends with .lmdb" in text) == (name == "plain")


def test_damage_inside_an_lmdb_never_crashes_the_command(lmdbs, run, monkeypatch):
    """Flipped bytes send LMDB to pages that do not exist, which kills the process that reads them."""
    start_worker = parallel._start_worker

    def start_quietly():
        faulthandler.disable()  # pytest's handler would write a traceback for each crash
        start_worker()

    monkeypatch.setattr(parallel, "_start_worker", start_quietly)
    file = Path("hr.lmdb/data.mdb")
    sound = np.frombuffer(file.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(4):
        broken = sound.copy()
        places = rng.integers(8192, len(broken), 400)  # not the two header pages, which locate all others
        broken[places] = rng.integers(0, 256, 400)
        file.write_bytes(broken.tobytes())
        code, text = run("hr.lmdb", "--jobs", 1)
        assert (code == 1 and "PROBLEM" in text) or (code == 2 and text.count("\n") == 1)
