"""--force_yml entries: values get types, no code runs, and unknown keys are refused."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest

from rgt_arch.config.loading import load_options, read_written
from rgt_arch.config.overrides import apply_overrides
from rgt_arch.config.problems import Report
from rgt_arch.config.validation import check_options
from rgt_arch.errors import UsageError

from .conftest import OPTIONS


@pytest.fixture
def opt() -> dict[str, Any]:
    return load_options(OPTIONS / "train_RGT_T_x2.yml")


def look_up(opt: dict[str, Any], path: str) -> Any:
    return reduce(dict.__getitem__, path.split(":"), opt)


def test_value_gets_the_type_it_looks_like(opt):
    for path, text, value in (
        ("train:optim_g:lr", "2e-4", 2e-4),
        ("train:warmup_iter", "-1", -1),
        ("train:total_iter", "300", 300),
        ("train:optim_g:betas", "[0.9, 0.999]", [0.9, 0.999]),
        ("val:save_img", "true", True),
        ("val:save_img", "False", False),
        ("val:metrics", "none", None),
        ("path:resume_state", "~", None),
        ("path:pretrain_network_g", "runs/a=b/net_g_5.pth", "runs/a=b/net_g_5.pth"),
        ("datasets:train:filename_tmpl", "{}x4", "{}x4"),
        ("datasets:train:filename_tmpl", "'{}x4'", "{}x4"),
        ("name", "123", "123"),
        ("name", "run #2: b", "run #2: b"),
        ("num_gpu", "auto", "auto"),
        ("val:tile", "{size: 64, overlap: 8}", {"size": 64, "overlap": 8}),
        ("network_g:recursion", "3", 3),
        ("network_g:depth", "[2, 2]", [2, 2]),
    ):
        apply_overrides(opt, [f"{path}={text}"])
        assert (look_up(opt, path), type(look_up(opt, path))) == (value, type(value))


def test_missing_key_that_the_schema_knows_is_made(opt):
    opt["logger"].pop("wandb")
    for entry, value in (
        ("val:self_ensemble=true", True),
        ("val:tile:size=128", 128),
        ("train:accumulate=4", 4),
        ("network_g:hai=none", "none"),
        ("network_g:use_chk=true", True),
        ("logger:wandb:project=mine", "mine"),
        ("val:metrics:niqe:type=calculate_niqe", "calculate_niqe"),
        ("datasets:val_2:dataroot_lq=there", "there"),
    ):
        apply_overrides(opt, [entry])
        assert look_up(opt, entry.partition("=")[0]) == value


def test_unknown_key_is_refused_with_a_suggestion(opt):
    before = str(opt)
    for entry, nearest in (
        ("train:optim_g:lrr=1", "did you mean lr?"),
        ("train:totaliter=1", "did you mean total_iter?"),
        ("trian:total_iter=1", "did you mean train?"),
        ("val:self_ensembel=true", "did you mean self_ensemble?"),
        ("network_g:embed_dims=96", "did you mean embed_dim?"),
        ("datasets:vall:name=x", "did you mean val?"),
        ("datasets:train:batchsize_per_gpu=1", "did you mean batch_size_per_gpu?"),
        ("path:pretrain_network=x.pth", "did you mean pretrain_network_g?"),
    ):
        with pytest.raises(UsageError) as caught:
            apply_overrides(opt, [entry])
        assert str(caught.value).startswith(f"--force_yml {entry}: unknown key ")
        assert str(caught.value).endswith(nearest)
        assert str(opt) == before


def test_all_unknown_keys_are_reported_at_once(opt):
    with pytest.raises(UsageError) as caught:
        apply_overrides(opt, ["train:totaliter=1", "val:save_img=true", "scale", "network_g:embed_dims=4"])
    first, *lines = str(caught.value).splitlines()
    assert first == "3 problems in --force_yml:"
    for line, words in zip(
        lines, ("train:totaliter=1: unknown", "scale: write", "network_g:embed_dims=4"), strict=True
    ):
        assert line.startswith(f"  --force_yml {words}")


def test_value_errors_name_the_flag_and_those_of_the_file_name_the_file(opt):
    written = read_written(OPTIONS / "train_RGT_T_x2.yml")
    opt["val"]["val_freq"] = -1
    entries = ["scale=two", "train:ema_decay=2", "val:tile={size: x}", "logger:print_freq=0"]
    report = Report("a.yml", written._replace(overridden=apply_overrides(opt, entries)))
    check_options(opt, report, is_train=True)
    for key in ("scale = 'two'", "train:ema_decay = 2", "val:tile:size = 'x'", "logger:print_freq = 0"):
        assert any(line.startswith(f"--force_yml: {key}: expected") for line in report.errors), report.errors
    assert any(line.startswith("a.yml: val:val_freq = -1: ") for line in report.errors)


def test_entry_without_key_or_value_or_inside_a_scalar_is_refused(opt):
    for entry in ("train", "train:lr", "=1", "train::lr=1", ":name=x"):
        with pytest.raises(UsageError, match="write section:key=value"):
            apply_overrides(opt, [entry])
    with pytest.raises(UsageError, match=r"train:total_iter is 100000, not a section"):
        apply_overrides(opt, ["train:total_iter:x=1"])


def test_no_code_is_executed(opt, tmp_path):
    trap = tmp_path / "trap"
    for text in (
        f"__import__('os').mkdir('{trap}')",
        f"[__import__('os').mkdir('{trap}')]",
        f"!!python/object/apply:os.mkdir ['{trap}']",
        f"1\nimport os; os.mkdir('{trap}')",
    ):
        with pytest.raises(UsageError):
            apply_overrides(opt, [f"manual_seed={text}", f'val:x"];import os;os.mkdir("{trap}");opt["y=1'])
    assert not trap.exists()


def test_later_entry_wins_and_order_is_kept(opt):
    keys = list(opt)
    apply_overrides(opt, ["train:total_iter=1", "train:total_iter=2"])
    assert opt["train"]["total_iter"] == 2
    assert list(opt) == keys
