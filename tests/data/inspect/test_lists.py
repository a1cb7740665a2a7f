"""Meta-info texts: their lines agree with the files, and their files are whole."""

from __future__ import annotations

import pytest
from basicsr.data.paired_image_dataset import PairedImageDataset

from ..image_files import save
from .conftest import noise


@pytest.fixture
def text(data):
    """A BasicSR meta-info text of the HR images."""
    file = data / "meta_info_HR.txt"
    file.write_text("".join(f"{index}.png (24,32,3)\n" for index in range(6)))
    return file


def test_a_sound_list_finds_its_folder_and_its_lr_images(text, run):
    code, output = run(text)
    assert code == 0
    assert f"files in {text.parent / 'HR'}" in output
    assert "6 images" in output
    code, output = run(text, "--lr", text.parent / "LR", "--bicubic")
    assert code == 0
    assert "6 pairs, scale 2, filename_tmpl: '{}x2'" in output
    assert "6 of 6 LR images bit-equal" in output
    options = {"dataroot_gt": str(text.parent / "HR"), "dataroot_lq": str(text.parent / "LR"), "phase": "val"}
    options |= {"filename_tmpl": "{}x2", "meta_info_file": str(text), "io_backend": {"type": "disk"}, "scale": 2}
    assert len(list(PairedImageDataset(options))) == 6


def test_lines_are_compared_with_the_files(text, run):
    lines = text.read_text().splitlines()
    text.write_text(
        "\n".join(["0.png (32,24,3)", lines[1], lines[1], "", "gone.png (24,32,3)", "na me.png", *lines[3:]])
    )
    save(text.parent / "HR" / "na me.png", noise(99))
    (text.parent / "HR" / "4.png").write_bytes(b"")
    code, output = run(text)
    assert code == 1
    assert "1 listed size that the image does not have (height, width)\n    0.png: listed (32,24), is (24,32)" in output
    assert "1 line given more than once\n    1.png (24,32,3)" in output
    assert "1 empty line, which BasicSR takes for images\n    line 4" in output
    assert f"1 file missing in {text.parent / 'HR'}\n    gone.png" in output
    assert "1 name with a space, at which BasicSR cuts\n    na me.png" in output
    assert "1 file cannot be read as images\n    4.png: is empty" in output
    assert f"note: 1 file in {text.parent / 'HR'} that the list lacks\n    2.png" in output


def test_pair_lists_are_checked_pair_by_pair(data, run):
    file = data / "pairs.txt"
    lines = [f"HR/{index}.png, LR/{index}x2.png" for index in range(6)]
    file.write_text("\n".join(lines))
    code, output = run(file, "--bicubic")
    assert code == 0
    assert "6 lines, pairs (HR, LR)" in output
    assert "6 of 6 LR images bit-equal" in output
    file.write_text("\n".join([*lines[:3], "HR/3.png, LR/gone.png", "HR/4.png", "HR/5.png, LR/4x2.png"]))
    code, output = run(file)
    assert code == 1
    assert "1 line that do not read 'HR name, LR name'\n    HR/4.png" in output
    assert f"1 file missing in {data}\n    LR/gone.png" in output
    assert "BasicSR cannot use them" in output


def test_roots_can_be_given(data, run, tmp_path):
    elsewhere = tmp_path / "lists" / "pairs.txt"
    elsewhere.parent.mkdir()
    elsewhere.write_text("0.png, 0x2.png\n")
    code, output = run(elsewhere)
    assert code == 2
    assert "0.png is neither beside it nor in a folder beside it; give --root FOLDER" in output
    code, output = run(elsewhere, "--root", data / "HR")
    assert code == 2
    assert "give --lr FOLDER" in output
    assert run(elsewhere, "--root", data / "HR", "--lr", data / "LR")[0] == 0


def test_a_byte_order_mark_is_named(text, run):
    text.write_text("\ufeff" + text.read_text(), encoding="utf-8")
    code, output = run(text)
    assert code == 1
    assert "it starts with a byte order mark" in output
    assert "missing" not in output


def test_texts_that_list_nothing_are_one_line(data, run):
    (data / "empty.txt").touch()
    (data / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (data / "latin.txt").write_bytes(b"\xe9.png\n")
    (data / "three.txt").write_text("HR/0.png, LR/0x2.png, HR/1.png\n")
    (data / "folder.lmdb").mkdir()
    (data / "folder.lmdb" / "meta_info.txt").write_text("a.png (1,2,3) 1\n")
    for name, message in (
        ("empty.txt", "is empty; write one image name a line"),
        ("binary.txt", "is not text"),
        ("latin.txt", "not UTF-8 text"),
        ("three.txt", "lists no pairs: no line reads 'HR name, LR name', the first one is 'HR/0.png, LR/0x2.png, HR/1"),
        ("folder.lmdb/meta_info.txt", "belongs to an LMDB"),
    ):
        code, output = run(data / name)
        assert code == 2
        assert message in output
        assert output.count("\n") == 1
