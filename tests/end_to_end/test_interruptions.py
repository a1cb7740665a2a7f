"""Runs that are killed, stopped or cannot read images: their messages, files and results after resuming."""

from __future__ import annotations

import re
import signal

import pytest
import torch

from rgt_arch.training import signals

from .comparisons import assert_same_curves, assert_same_runs

TERM, KILL, CTRL_C = signal.SIGTERM, signal.SIGKILL, signal.SIGINT
CHAINS = {
    "disk": [
        (TERM, 2, "optimize_parameters"),
        (KILL, 3, "test"),
        (KILL, 5, "optimize_parameters"),
        (CTRL_C, 6, "test"),
        (TERM, 8, "test"),
    ],
    "lmdb": [
        (KILL, 3, "_save_state"),
        (CTRL_C, 4, "optimize_parameters", "group"),
        (KILL, 6, "save_network"),
        (TERM, 7, "optimize_parameters", "group"),
        (KILL, 8, "test"),  # the last validation, although 8 is not a multiple of save_checkpoint_freq
    ],
}


def blow(*values):
    return dict(zip(("signal", "iteration", "before", "whom"), values, strict=False))


@pytest.mark.parametrize("chain", CHAINS)
def test_killed_runs_end_as_an_uninterrupted_one_bit_for_bit(run, chain):
    """Disk: no workers, bf16 and accumulation. LMDB: workers and a seed that is drawn."""
    if chain == "disk":
        run.options["train"].update(amp="bf16", accumulate=2)
    else:
        run.use_lmdb()
        run.options["datasets"]["train"].update(num_worker_per_gpu=2, dataset_enlarge_ratio=100)
        run.options["manual_seed"] = None
    for kill in CHAINS[chain]:
        code = {TERM: 143, CTRL_C: 130, KILL: -9}[kill[0]]
        printed = run.train("--auto_resume", code=code, blows=[blow(*kill)])
        assert "Traceback" not in printed
        assert "DataLoader" not in printed
        if code > 0:
            assert re.search(r"the run ends after iteration \d, which is saved; --auto_resume goes on", printed)
    run.train("--auto_resume")
    run.run_folder.rename(run.root / "broken")
    (run.root / "tb_logger/tiny").rename(run.root / "broken_curves")

    run.options["manual_seed"] = torch.load(run.root / "broken/training_states/6.state", weights_only=True)["seed"]
    run.train()
    assert_same_runs(run.root / "broken", run.run_folder, total_iter=8)
    assert_same_curves(run.root / "broken_curves", run.root / "tb_logger/tiny")
    assert "this run is finished (8 iterations)" in run.train("--auto_resume")


def test_second_signal_ends_a_run_at_once_unless_it_repeats_the_first(monkeypatch):
    left = []
    monkeypatch.setattr(signals.os, "_exit", left.append)
    monkeypatch.setattr(signals.time, "monotonic", iter([0.0, 0.5, 3.0]).__next__)
    before = signal.getsignal(TERM)
    with signals.StopRequest() as stop:
        signal.raise_signal(TERM)
        signal.raise_signal(TERM)  # torchrun forwards the signal that Slurm sends to all processes
        assert (stop.signal, left) == (TERM, [])
        signal.raise_signal(CTRL_C)
        assert left == [130]
    assert signal.getsignal(TERM) is before


@pytest.mark.parametrize("prefetch", [None, "cpu"])
def test_dead_data_worker_is_a_one_line_error(run, prefetch):
    run.options["datasets"]["train"].update(num_worker_per_gpu=1, prefetch_mode=prefetch)
    printed = run.train(code=1, blows=[blow(KILL, 2, "feed_data", "worker")])
    [line] = [line for line in printed.splitlines() if "error:" in line]
    assert re.search(r"a process that reads training images died \(DataLoader worker .*\); .*--auto_resume", line)
    assert "Traceback" not in printed


@pytest.mark.parametrize("workers", [0, 2])
def test_one_unreadable_image_in_a_hundred_is_named_once_and_replaced(run, workers):
    for kind in ("hr", "lr"):
        content = (run.root / f"train/{kind}/img0.png").read_bytes()
        for number in range(101):
            (run.root / f"train/{kind}/img{number}.png").write_bytes(content)
    damaged = content[:150] + content[-12:]  # header and end are valid, pixels are missing
    (run.root / "train/lr/img7.png").write_bytes(damaged)
    data = run.options["datasets"]["train"]
    data.update(num_worker_per_gpu=workers, batch_size_per_gpu=26)  # 208 samples: two epochs
    printed = run.train()
    [line] = [line for line in printed.splitlines() if "cannot be read" in line]
    assert re.search(r"lr/img7\.png: not a readable image; .*; another image takes its place \(1 of 101 cannot", line)

    (run.root / "train/lr/img9.png").write_bytes(damaged)
    printed = run.train(code=1)
    [line] = [line for line in printed.splitlines() if "error:" in line]
    assert re.search(r"2 of 101 training images cannot be read, over 1%, the last one in .*lr/img[79]\.png: ", line)
    assert "Traceback" not in printed


def test_sigterm_while_a_run_starts_is_one_line(project):
    (project.root / "ends.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\n")
    printed = project.start("basicsr", "train", "-opt", project.write(), "--import", "ends", code=143)
    assert printed == "basicsr train: ended by SIGTERM\n"
    assert not (project.root / "experiments").exists()
