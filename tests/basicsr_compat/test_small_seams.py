"""Seams of a few lines: logger, prefetchers, registry, option parsing, failures."""

from __future__ import annotations

import logging
import sys

import basicsr.train
import basicsr.utils.options
import pytest
import yaml
from basicsr.data.prefetch_dataloader import PrefetchDataLoader
from basicsr.utils.registry import ARCH_REGISTRY, Registry
from torch.utils.data import DataLoader

import rgt_arch
from rgt_arch.basicsr_compat import (
    command_line,
    failures,
    message_logger,
    notices,
    options,
    registries,
    tensorboard_files,
    validation,
)
from rgt_arch.errors import UsageError, UserError


def test_log_file_is_written_though_the_logger_was_used_before(tmp_path):
    get_root_logger = basicsr.train.get_root_logger
    get_root_logger().warning("too early")
    notices.notice("said before there was a log")
    for run in ("first", "second"):
        get_root_logger(logger_name="basicsr", log_level=logging.INFO, log_file=str(tmp_path / run)).info(run)
    assert (tmp_path / "first").read_text().count("said before there was a log") == 1
    assert "second" not in (tmp_path / "first").read_text()
    assert (tmp_path / "second").read_text().endswith("second\n")
    assert get_root_logger() is logging.getLogger("basicsr")


def test_log_of_a_run_within_the_same_second_is_kept(tmp_path):
    for run in ("first", "second"):
        log = str(tmp_path / "train_run_20260101_120000.log")
        basicsr.train.get_root_logger(logger_name="basicsr", log_level=logging.INFO, log_file=log).info(run)
    assert (tmp_path / "train_run_20260101_120000.log").read_text().endswith("first\n")
    assert (tmp_path / "train_run_20260101_120000_2.log").read_text().endswith("second\n")


def test_prefetcher_makes_one_iterator():
    made = []

    class Loader:
        def __iter__(self):
            made.append(1)
            return iter([7])

    prefetcher = basicsr.train.CPUPrefetcher(Loader())
    prefetcher.reset()
    assert (prefetcher.next(), prefetcher.next(), len(made)) == (7, None, 1)


def test_error_in_the_prefetch_thread_reaches_the_loop():
    class Broken:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            if index:
                raise UserError("image 1 is broken")
            return index

    batches = iter(PrefetchDataLoader(num_prefetch_queue=1, dataset=Broken()))
    assert next(batches) == 0
    with pytest.raises(UserError, match="image 1 is broken"):
        next(batches)
    assert list(PrefetchDataLoader(num_prefetch_queue=1, dataset=[1, 2])) == list(DataLoader([1, 2]))


def test_clash_with_our_names_keeps_the_first_and_says_so():
    registry = Registry("test")
    theirs = type("RGT", (), {"__module__": "fork.archs"})
    ours = type("RGT", (), {"__module__": "rgt_arch.archs.rgt_arch"})
    for first, second in ((theirs, ours), (ours, theirs)):
        registry._obj_map.clear()
        registry.register(first)
        registry.register(second)
        assert registry.get("RGT") is first
        assert len(notices.take()) == 1
    registry._obj_map.clear()
    registry.register(theirs)
    with pytest.raises(AssertionError):
        registry.register(type("RGT", (), {"__module__": "other.fork"}))


def test_our_command_takes_its_names_from_a_fork(monkeypatch):
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, "RGT", type("RGT", (), {"__module__": "fork.archs"}))
    registries.prefer_ours()
    assert ARCH_REGISTRY.get("RGT") is rgt_arch.RGT
    assert notices.take() == ["RGT of fork.archs is replaced by the one of rgt_arch.archs.rgt_arch"]


def test_basicsr_gets_the_options_read_by_us_and_argv_comes_back(monkeypatch, tmp_path):
    """Also where BasicSR reads them with `yaml_load`, as basicsr-fixed does."""
    path = {"experiments_root": str(tmp_path / "experiments/run")}
    monkeypatch.setattr(options, "load_options", lambda _file: {"num_gpu": 0, "datasets": {}, "path": dict(path)})
    monkeypatch.setattr(options, "validate_options", lambda *_a, **_k: [])
    (tmp_path / "options.yml").write_text("evil: !!python/object/apply:os.mkdir [made]")
    monkeypatch.chdir(tmp_path)
    flags = [
        "train.py",
        "-opt",
        "options.yml",
        "--restart",
        "--local-rank",
        "0",
        "--import",
        "json",
        "--force-yml",
        "num_gpu=0",
    ]
    monkeypatch.setattr(sys, "argv", flags)
    before = basicsr.utils.options.ordered_yaml

    def original(root_path, is_train):
        seen = sys.argv[1:]
        with open(seen[seen.index("-opt") + 1]) as file:
            return yaml.load(file, Loader=basicsr.utils.options.ordered_yaml()[0]), seen

    opt, seen = options.parsing_safely(original)(str(tmp_path), is_train=True)
    assert seen == ["-opt", "options.yml", "--launcher", "none", "--local_rank", "0"]
    assert opt["restart"]
    assert 1 <= opt["manual_seed"] <= 10000
    assert sys.argv == flags
    assert basicsr.utils.options.ordered_yaml is before
    assert not (tmp_path / "made").exists()


def test_module_that_cannot_be_imported_is_a_usage_error():
    with pytest.raises(UsageError, match="--import not_there: ModuleNotFoundError"):
        options.import_module("not_there")


def test_eta_is_the_recent_pace_times_what_is_left(caplog):
    class Lines:
        def __init__(self, opt, start_iter, tb_logger):
            self.start_iter = start_iter

        def __call__(self, log_vars):
            import time

            spent = time.time() - self.start_time
            self.eta = spent / (log_vars["iter"] - self.start_iter + 1) * (self.max_iters - log_vars["iter"] - 1)
            self.epoch = log_vars["epoch"]

    opt = {"train": {"total_iter": 1000}, "samples_per_epoch": 100, "samples_per_iter": 8}
    lines = message_logger.with_real_epochs(Lines)(opt, 900, None)
    lines({"iter": 901, "epoch": 3, "time": 2.0})
    assert lines.eta == pytest.approx(2.0 * 99, abs=1)
    assert lines.epoch == 72
    lines({"iter": 1000, "epoch": 3, "time": 2.0})
    assert lines.eta == pytest.approx(0, abs=0.1)


def test_metric_without_gt_is_nan_beside_sets_that_have_it():
    assert basicsr.models.sr_model.calculate_metric.__module__ == validation.__name__
    value = basicsr.models.sr_model.calculate_metric({"img": None}, {"type": "calculate_psnr", "crop_border": 0})
    assert value != value


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
            KeyError(
                "Caught KeyError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
                "  File \"x\"\nKeyError: 'gt_size'\n"
            ),
            "KeyError: ",
        ),
    ],
)
def test_failures_are_told_in_one_line(error, line):
    told = str(failures.as_user_error(error))
    assert told.startswith(line)
    assert "\n" not in told


def test_home_in_the_name_of_the_option_file_is_expanded_once_for_all(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    for arguments in (["-opt", "~/x.yml"], ["--opt=~/x.yml"]):
        args = command_line.parse(arguments, is_train=True)
        assert args.opt == "/home/somebody/x.yml"
        assert command_line.for_basicsr(args)[1] == "/home/somebody/x.yml"


@pytest.mark.parametrize("is_train", [True, False])
def test_flags_of_training_are_shown_for_training(capsys, is_train):
    with pytest.raises(SystemExit):
        command_line.parse(["--help"], is_train)
    shown = capsys.readouterr().out
    assert all((flag in shown) is is_train for flag in ("--debug", "--auto_resume", "--restart"))


def test_tensorboard_on_a_full_disk_costs_points_and_not_the_run(tmp_path, monkeypatch):
    written, full, made = [], [], []

    class Writer:
        def __init__(self, log_dir):
            made.append(log_dir)

        def add_scalar(self, *values):
            if full:
                raise OSError(28, "No space left on device")
            written.append(values)

        def close(self):
            pass

    assert basicsr.train.init_tb_logger.__module__ == "rgt_arch.basicsr_compat.tensorboard_files"
    said = []
    logger = basicsr.train.get_root_logger(log_file=str(tmp_path / "log"))
    monkeypatch.setattr(logger, "error", said.append)
    writer = tensorboard_files.forgiving(Writer)(log_dir="tb")
    for step in range(5):
        full[:] = [True] if step in (1, 2) else []
        writer.add_scalar("loss", 0.5, step)
    writer.close()
    assert [step for _, _, step in written] == [0, 3, 4]
    assert said == ["tb: cannot be written (No space left on device); curves have a gap"]
    assert tensorboard_files.forgiving(lambda log_dir: None)(log_dir="tb") is None  # on the other ranks
    assert made == ["tb", "tb", "tb"]  # at the start, and for each attempt after a failure
