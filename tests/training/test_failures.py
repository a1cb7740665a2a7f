"""What others raise over things that a user can cause, in one line."""

from __future__ import annotations

import pytest

from rgt_arch.errors import UsageError, UserError
from rgt_arch.training.failures import as_user_error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "hr/a.png"),
            "hr/a.png: no such file or folder; correct the",
        ),
        (KeyError("gt_size"), "KeyError: no key 'gt_size' "),
        (
            AssertionError("lq and gt datasets have\ndifferent"),
            "AssertionError: lq and gt datasets have (unknown place)",
        ),
        (
            RuntimeError("Error(s) in loading state_dict for EDSR:\n\tsize mismatch for a: one\n\tsize mismatch for b"),
            "Error(s) in loading state_dict for EDSR: size mismatch for a: one; the weights belong to",
        ),
        (
            UserError(
                "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
                '  File "x"\nrgt_arch.errors.UserError: data set a, b.png: broken; remove it\n'
            ),
            "data set a, b.png: broken; remove it",
        ),
        (
            UsageError(
                "Caught UsageError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
                '  File "x"\nrgt_arch.errors.UsageError: a.lmdb: no key; make it again\n'
            ),
            "a.lmdb: no key; make it again",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed. "),
            "a process that reads training images died ",
        ),
        (OSError(13, "Permission denied", "hr/a.png"), "hr/a.png: Permission denied"),
        (
            KeyError(
                "Caught KeyError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
                "  File \"x\"\nKeyError: 'gt_size'\n"
            ),
            "KeyError: ",
        ),
    ],
)
def test_failures_are_told_in_one_line(error, line):
    known = as_user_error(error)
    told = str(known)
    assert type(known) is (type(error) if isinstance(error, UserError) else UserError)
    assert told.startswith(line)
    assert "\n" not in told
