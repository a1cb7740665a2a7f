"""Compare an interrupted and resumed run with an uninterrupted one, bit for bit."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils._pytree import tree_flatten_with_path


def assert_same_runs(broken: Path, unbroken: Path, total_iter: int) -> None:
    """Compare networks, averages, optimiser, schedule and generator states, best results, and all logged numbers.

    The last checkpoint and state and the best results must exist. Other files are compared if both folders have them.
    """
    files = [*unbroken.glob("models/*.pth"), *unbroken.glob("training_states/*.state")]
    names = {str(path.relative_to(unbroken)) for path in files}
    must = {f"models/net_g_{total_iter}.pth", "models/net_g_latest.pth", f"training_states/{total_iter}.state"}
    best = {name for name in names if "best" in name}
    assert must <= names
    for name in sorted(names):
        if name in must | best or (broken / name).exists():
            assert_same_content(broken / name, unbroken / name)
    for folder in (broken, unbroken):
        assert not list(folder.rglob(".*.part*"))
    assert logged(broken, total_iter) == logged(unbroken, total_iter)
    if (unbroken / "metrics.csv").exists():
        assert (broken / "metrics.csv").read_text() == (unbroken / "metrics.csv").read_text()


def assert_same_curves(broken: Path, unbroken: Path) -> None:
    """Compare the TensorBoard scalars of two folders."""
    assert scalars(broken) == scalars(unbroken) != {}


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """Values by name and iteration. A repeated validation must give the same value."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    values: dict[tuple[str, int], float] = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            assert tag.startswith("metrics/") or (tag, event.step) not in values
            assert values.setdefault((tag, event.step), event.value) == event.value
    return values


def assert_same_content(one: Path, other: Path) -> None:
    """Compare two files of torch.save: names and values, tensors bit for bit."""
    mine, theirs = (tree_flatten_with_path(torch.load(path, weights_only=True))[0] for path in (one, other))
    for (key, value), (other_key, other_value) in zip(mine, theirs, strict=True):
        assert key == other_key
        same = torch.equal(value, other_value) if isinstance(value, torch.Tensor) else value == other_value
        assert same, f"{one.name}: {key}"


def logged(folder: Path, total_iter: int) -> dict[str, tuple[str, str]]:
    """Learning rates and losses by iteration, from all logs. A repeated iteration must give the same values."""
    lines: dict[str, tuple[str, str]] = {}
    for log in sorted(folder.glob("train_*.log"), key=lambda path: path.stat().st_mtime):
        for iteration, rates, losses in re.findall(r"iter: *([\d,]+), lr:(\S+)\] .*?\)\] (.*)", log.read_text()):
            assert lines.setdefault(iteration, (rates, losses)) == (rates, losses)
    assert len(lines) == total_iter
    return lines
