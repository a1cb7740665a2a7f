"""Fixtures of tests/models and the parts of a run: options, checkpoints and resuming from them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rgt_arch.training.checkpoints import CheckpointManager
from rgt_arch.training.snapshots import Snapshot

from ..models.conftest import batch, build, loader, log, options  # noqa: F401 - fixtures

RUN: dict[str, Any] = {"manual_seed": 7, "logger": {}, "datasets": {}}


@pytest.fixture
def begin(build: Callable[..., Any]) -> Callable[..., tuple[Any, CheckpointManager]]:  # noqa: F811
    """begin(…, logger={…}): a model of `build(…)` and its checkpoint manager, for 8 images per iteration."""

    def make(*args: Any, **sections: Any) -> tuple[Any, CheckpointManager]:
        model = build(*args, **sections)
        model.opt.update({key: value for key, value in RUN.items() if key not in model.opt})
        model.opt["path"]["experiments_root"] = str(Path(model.opt["path"]["models"]).parent)
        return model, CheckpointManager(model.opt, model, 8, None, logging.getLogger("basicsr"))

    return make


@pytest.fixture
def go_on(begin: Callable[..., Any]) -> Callable[..., tuple[Any, CheckpointManager]]:
    """go_on(iteration, …): like `begin`, but resumed from the snapshot of the iteration."""

    def make(iteration: int, *args: Any, **sections: Any) -> tuple[Any, CheckpointManager]:
        model, _ = begin(*args, **sections)
        snapshot = Snapshot.open(Path(model.opt["path"]["training_states"], f"{iteration}.state"), model.opt)
        snapshot.restore(model, model.opt, 8, logging.getLogger("basicsr"))
        snapshot.restore_generators(model.opt, model.device)
        return model, CheckpointManager(model.opt, model, 8, snapshot, logging.getLogger("basicsr"))

    return make
