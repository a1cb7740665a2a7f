"""Settings objects that models and loops read, from validated or raw options."""

from __future__ import annotations

from typing import Any

import pytest

from rgt_arch.config.loading import load_options
from rgt_arch.config.settings import (
    LoggerSettings,
    Tile,
    TrainSettings,
    ValSettings,
    logger_settings,
    train_settings,
    val_settings,
)
from rgt_arch.errors import UsageError

from .conftest import OPTIONS


def test_missing_keys_and_sections_get_the_defaults() -> None:
    for opt in ({}, {"train": None, "val": {}, "logger": None}):
        assert train_settings(opt) == TrainSettings(10, None, None, None, 1)
        assert val_settings(opt) == ValSettings(tile=None, self_ensemble=False, use_chop=False, suffix=None)
        assert logger_settings(opt) == LoggerSettings(keep_checkpoints=None, keep_best=None, csv=False)


def test_settings_of_shipped_files() -> None:
    opt = load_options(OPTIONS / "test_single_x2.yml")
    assert val_settings(opt).tile == Tile(256, 32)
    assert val_settings(opt).save_img
    assert logger_settings(load_options(OPTIONS / "train_RGT_T_x2.yml")).print_freq == 100


def test_raw_values_are_converted_like_validated_ones() -> None:
    train = train_settings({"train": {"amp": False, "grad_clip": "5e-1", "accumulate": 2.0, "nan_patience": "3"}})
    assert train == TrainSettings(3, None, None, 0.5, 2)
    assert val_settings({"val": {"tile": {"size": "20"}, "self_ensemble": "yes"}}).tile == Tile(20, 10)
    assert val_settings({"val": {"tile": {"size": 256, "overlap": 0}}}).tile == Tile(256, 0)
    assert val_settings({"val": {"tile": False, "use_chop": True}}).use_chop


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("train", {"amp": "half"}, "train:amp = 'half': expected one of auto, bf16, fp16"),
        ("train", {"grad_clip": 0}, "train:grad_clip = 0: expected a value above 0"),
        ("train", {"grad_clip": True}, "train:grad_clip = True: expected a number such as 2e-4"),
        ("train", {"accumulate": 1.5}, "train:accumulate = 1.5: expected a whole number"),
        ("train", {"init": "zeros"}, "train:init = 'zeros': expected interpolation or ~"),
        ("val", {"self_ensemble": "maybe"}, "val:self_ensemble = 'maybe': expected true or false"),
        ("val", {"tile": 64}, "val:tile = 64: expected a section"),
        ("val", {"tile": {"size": 4}}, "val:tile:size = 4: expected a value of 16 or more"),
        ("val", {"tile": {}}, "val:tile:size is missing; add size: 256"),
        ("val", {"tile": {"size": 64, "overlap": 64}}, "val:tile:overlap = 64: is over half of size 64; take size 128"),
        ("val", {"tile": {"size": 64}, "use_chop": True}, "val:use_chop = True: cannot go with val:tile; remove one"),
        ("logger", {"keep_checkpoints": 0}, "logger:keep_checkpoints = 0: expected a value of 1 or more"),
    ],
)
def test_wrong_value_is_a_one_line_error_with_key_and_value(section: str, values: dict[str, Any], message: str) -> None:
    read = {"train": train_settings, "val": val_settings, "logger": logger_settings}[section]
    with pytest.raises(UsageError) as caught:
        read({section: values})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
