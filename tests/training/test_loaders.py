"""Loaders of a run: `prefetch_mode: cpu` draws samples only in workers, and unreadable images are counted."""

from __future__ import annotations

import logging

import pytest

from rgt_arch.errors import UserError
from rgt_arch.training.loaders import UNREADABLE, UnreadableImages, training_loader, validation_loaders
from rgt_arch.training.run_folder import FolderLock

from ..models.conftest import loader  # noqa: F401 - a fixture that makes images

LOGGER = logging.getLogger("test")


@pytest.fixture
def opt(loader, tmp_path):  # noqa: F811
    data = dict(loader(3).dataset.opt)
    data |= {"gt_size": 16, "use_hflip": True, "use_rot": True, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
    opt = {"datasets": {"train": {**data, "phase": "train"}}, "train": {"total_iter": 9}, "manual_seed": 7}
    return opt | {"num_gpu": 0, "dist": False, "rank": 0, "world_size": 1}


@pytest.mark.parametrize(("workers", "queue", "factor"), [(0, 5, None), (2, 1, 2), (2, 5, 5)])
def test_prefetching_lengthens_the_queue_of_the_workers(opt, workers, queue, factor):
    """Without workers, BasicSR's thread would draw samples in parallel to the training."""
    opt["datasets"]["train"].update(prefetch_mode="cpu", num_prefetch_queue=queue, num_worker_per_gpu=workers)
    made, _ = training_loader(opt, 0, FolderLock("no such folder"), LOGGER)
    assert type(made).__module__ == "torch.utils.data.dataloader"
    assert made.prefetch_factor == factor


@pytest.mark.parametrize("start", [0, 4])
def test_exactly_the_remaining_iterations_are_loaded(opt, start):
    made, sampler = training_loader(opt, start, FolderLock("no such folder"), LOGGER)
    assert len(list(made)) == 9 - start
    assert (sampler.epoch_of(start + 1), sampler.global_batch) == (start * 2 // 3, 2)


def test_all_sets_except_the_training_set_are_validated_in_order(opt):
    data = opt["datasets"]["train"]
    opt["datasets"] |= {name: {**data, "name": name, "phase": "val"} for name in ("val_2", "val", "test_1")}
    assert [made.dataset.opt["name"] for made in validation_loaders(opt, LOGGER)] == ["val_2", "val", "test_1"]


def test_unreadable_images_of_all_ranks_are_named_once_and_too_many_end_the_run(monkeypatch, caplog):
    monkeypatch.setattr("rgt_arch.training.loaders.gathered", lambda own: [own, ["b.png: broken"]])
    images = UnreadableImages(200, LOGGER)
    batch = {"lq": 0, UNREADABLE: ["a.png: broken\na.png: broken", ""]}
    images.take(batch)
    images.take([1])
    assert batch == {"lq": 0}
    for _ in range(2):
        images.report()
    ending = "; another image takes its place"
    said = [f"a.png: broken{ending} (1 of 200 cannot be read)", f"b.png: broken{ending} (2 of 200 cannot be read)"]
    assert caplog.messages == said
    images.waiting = ["c.png: broken"]
    with pytest.raises(UserError, match=r"3 of 200 training images cannot be read, over 1%, the last one in c\.png"):
        images.report()
