"""Errors of libraries that a user can cause become one line."""

from __future__ import annotations

import pickle
import urllib.error
from unittest.mock import Mock

import pytest
import torch

from rgt_arch.errors import UsageError, UserError
from rgt_arch.training.failures import as_user_error


def from_worker(kind, last):
    return kind(
        f"Caught {kind.__name__} in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        f'  File "x"\n{last}\n'
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.png"), "a.png: No such file or directory; correct the"),
        (KeyError("gt_size"), "KeyError: no key 'gt_size' "),
        (AssertionError("lq and gt have\ndifferent"), "AssertionError: lq and gt have (unknown place)"),
        (from_worker(UserError, "rgt_arch.errors.UserError: data set a: broken; go"), "data set a: broken; go"),
        (from_worker(UsageError, "rgt_arch.errors.UsageError: a.lmdb: no key; go"), "a.lmdb: no key; go"),
        (from_worker(KeyError, "KeyError: 'gt_size'"), "KeyError: "),
        (RuntimeError("DataLoader worker (pid 7) is killed. "), "a process that reads training images died "),
    ],
)
def test_errors_become_user_errors_of_one_line(error, line):
    known = as_user_error(error)
    assert type(known) is (type(error) if isinstance(error, UserError) else UserError)
    assert str(known).startswith(line)
    assert "\n" not in str(known)


def test_downloads_that_fail_name_source_and_place(monkeypatch, tmp_path):
    refused = urllib.error.URLError(OSError(-2, "Name or service not known"))
    monkeypatch.setattr("torch.hub.urlopen", Mock(side_effect=refused))
    url = "https://download.example/vgg19.pth"
    with pytest.raises(urllib.error.URLError) as caught:
        torch.hub.load_state_dict_from_url(url, model_dir=str(tmp_path))
    line = f"{url}: the download failed ([Errno -2] Name or service not known); download it by hand and save it as "
    assert str(as_user_error(caught.value)) == f"{line}{tmp_path / 'vgg19.pth'}"


def test_damaged_weights_of_a_loss_are_named(tmp_path):
    (tmp_path / "vgg19.pth").write_bytes(b"damaged")
    with pytest.raises(pickle.UnpicklingError) as caught:
        torch.load(tmp_path / "vgg19.pth")
    assert str(as_user_error(caught.value)).startswith(
        f"{tmp_path / 'vgg19.pth'}: is damaged or holds more than tensors"
    )
