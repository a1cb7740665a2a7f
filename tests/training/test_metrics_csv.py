"""metrics.csv: each row once and in order, whatever ended the earlier run."""

from __future__ import annotations

import csv
import logging
import os

import pytest

from rgt_arch.errors import UserError
from rgt_arch.training.metrics_csv import NAME, MetricsCsv

LOGGER = logging.getLogger("test")


def rows(folder):
    with (folder / NAME).open(newline="") as file:
        next(lines := csv.reader(file))
        return [(int(iteration), dataset, name, float(value)) for iteration, dataset, name, value in lines]


def write(folder, start_iter, *iterations):
    log = MetricsCsv(folder, start_iter, LOGGER)
    for iteration in iterations:
        log.add(iteration, "", {"lr": 2e-4, "l_pix": 1 / iteration})
        if iteration % 3 == 0:
            log.add(iteration, 'Set "5", mine', {"psnr": 30.0 + iteration})


def test_values_and_names_are_read_back_exactly(tmp_path):
    write(tmp_path, 0, 1, 3)
    assert (tmp_path / NAME).read_bytes().startswith(b"iteration,dataset,name,value\n1,,lr,0.0002\n1,,l_pix,1.0\n3,,lr")
    assert rows(tmp_path)[3:] == [(3, "", "l_pix", 1 / 3), (3, 'Set "5", mine', "psnr", 33.0)]


@pytest.mark.parametrize("end", [b"", b"6,,l_p", b"6,,l_pix,0.1", b'6,"Se', b"\0\0\0\0", b"\xff\xfe\n", b"6,,x,1,2\n"])
def test_resumed_run_repeats_no_row_and_leaves_no_partial_row(tmp_path, end):
    (tmp_path / "unbroken").mkdir()
    (tmp_path / "broken").mkdir()
    write(tmp_path / "unbroken", 0, 1, 2, 3, 4, 5, 6)
    write(tmp_path / "broken", 0, 1, 2, 3, 4, 5)
    with (tmp_path / "broken" / NAME).open("ab") as file:
        file.write(end)
    write(tmp_path / "broken", 3, 4, 5, 6)
    assert (tmp_path / "broken" / NAME).read_bytes() == (tmp_path / "unbroken" / NAME).read_bytes()


def test_validation_of_the_resumed_iteration_is_recorded_once(tmp_path):
    """The validation is repeated if the state that records it was never written."""
    write(tmp_path, 0, 1, 2, 3)
    before = rows(tmp_path)
    log = MetricsCsv(tmp_path, 3, LOGGER)
    log.add(3, 'Set "5", mine', {"psnr": 33.0, "ssim": 0.9})
    assert rows(tmp_path) == [*before, (3, 'Set "5", mine', "ssim", 0.9)]


@pytest.mark.parametrize("content", [b"", b"iterati", b"iteration,dataset,name,value\n"])
def test_file_without_rows_is_continued(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    write(tmp_path, 0, 1)
    assert len(rows(tmp_path)) == 2


def test_file_of_another_kind_is_refused_and_kept(tmp_path):
    (tmp_path / NAME).write_text("my,own,notes\n1,2,3\n")
    with pytest.raises(
        UserError, match=r"metrics\.csv: was not written by this program; move it away, or set logger\.csv"
    ):
        MetricsCsv(tmp_path, 3, LOGGER)
    assert (tmp_path / NAME).read_text() == "my,own,notes\n1,2,3\n"
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    with pytest.raises(UserError, match=r"metrics\.csv: cannot be read"):
        MetricsCsv(tmp_path, 3, LOGGER)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_on_a_full_disk_rows_wait_for_space(tmp_path, caplog):
    log = MetricsCsv(tmp_path, 0, LOGGER)
    log.add(1, "", {"l_pix": 0.5})
    (tmp_path / NAME).rename(tmp_path / "kept")
    (tmp_path / NAME).symlink_to("/dev/full")
    log.add(2, "", {"l_pix": 0.25})
    log.add(3, "", {"l_pix": 0.125})
    (tmp_path / "kept").replace(tmp_path / NAME)
    log.flush()
    assert [row[0] for row in rows(tmp_path)] == [1, 2, 3]
    [line] = caplog.messages
    assert line.endswith("metrics.csv: cannot be written (No space left on device); rows wait for room")
