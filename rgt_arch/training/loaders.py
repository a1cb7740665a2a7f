"""Loaders of a run, made by BasicSR's builders: exactly the remaining iterations, reproducible and resumable.

BasicSR (train.py:29-65) rounds iterations per epoch up, but its loader drops the last batch, so a run ends too early.
Its sampler ignores `manual_seed`, and a resumed run repeats the data of its epoch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from traceback import walk_tb
from typing import Any

import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.prefetch_dataloader import CUDAPrefetcher
from torch.utils.data import DataLoader

from rgt_arch.config.loading import Options
from rgt_arch.data.loading import UNREADABLE, NamingDataset, TrainingDataset
from rgt_arch.data.sampling import IterationSampler
from rgt_arch.errors import UserError
from rgt_arch.launchers import gathered
from rgt_arch.training.failures import as_user_error
from rgt_arch.training.ranks import lost_contact
from rgt_arch.training.run_folder import FolderLock
from rgt_arch.training.signals import StopRequest, ignore_in_worker

MOST_UNREADABLE = 0.01
"""Share of unreadable images in a data set above which a run ends."""


def training_loader(
    opt: Options, start_iter: int, lock: FolderLock, logger: logging.Logger
) -> tuple[Any, IterationSampler]:
    """Return the loader of the iterations `start_iter` to `total_iter`, for a single pass, and its sampler."""
    dataset_opt, total_iter = opt["datasets"]["train"], int(opt["train"]["total_iter"])
    dataset = TrainingDataset(build_dataset(dataset_opt), opt["manual_seed"])
    replicas = 1 if opt["dist"] else max(1, opt["num_gpu"])  # DataParallel's batches, as in basicsr/data/__init__.py:65
    enlarge_ratio = dataset_opt.get("dataset_enlarge_ratio", 1)
    sampler = IterationSampler(
        len(dataset),
        batch_size=dataset_opt["batch_size_per_gpu"] * replicas,
        start_iter=start_iter,
        total_iter=total_iter,
        seed=opt["manual_seed"],
        rank=opt["rank"],
        world_size=opt["world_size"],
        enlarge_ratio=enlarge_ratio,
    )
    loader = _loader(opt, dataset_opt, dataset, sampler)
    loader.worker_init_fn = partial(_init_worker, loader.worker_init_fn, lock)
    logger.info(
        "Training statistics:"
        f"\n\tNumber of train images: {len(dataset)}"
        f"\n\tDataset enlarge ratio: {enlarge_ratio}"
        f"\n\tBatch size per gpu: {dataset_opt['batch_size_per_gpu']}"
        f"\n\tWorld size (gpu number): {opt['world_size']}"
        f"\n\tIterations per epoch: {sampler.epoch_size / sampler.global_batch:g}"
        f"\n\tTotal epochs: {math.ceil(total_iter * sampler.global_batch / sampler.epoch_size)}; iters: {total_iter}."
    )
    return loader, sampler


def validation_loaders(opt: Options, logger: logging.Logger) -> list[Any]:
    """Return the loaders of all data sets except the training set, in the file's order."""
    loaders = []
    for name, dataset_opt in opt["datasets"].items():
        if name != "train":
            dataset = ValidationDataset(build_dataset(dataset_opt))
            loaders.append(_loader(opt, dataset_opt, dataset, None))
            logger.info(f"Number of {dataset_opt['phase']} images/folders in {dataset_opt['name']}: {len(dataset)}")
    return loaders


class MetricError(UserError):
    """A metric that failed on an image, in a model that does not go on without it."""


class ValidationDataset(NamingDataset):
    """A validation set that knows which image is validated: BasicSR's loaders read it in this process."""

    def __init__(self, dataset: Any, most: int | None = None) -> None:
        """most: use only the first images, at most this number."""
        super().__init__(dataset)
        self._most, self._index = most, 0

    def __len__(self) -> int:
        return len(range(super().__len__())[: self._most])

    def __getitem__(self, index: int) -> Any:
        self._index = index
        return super().__getitem__(index)

    @contextmanager
    def naming_image(self) -> Iterator[None]:
        """Put data set, image and metric before the text of a model's error. A UserError names them itself."""
        try:
            yield
        except Exception as error:  # models and metrics can raise anything
            if isinstance(error, UserError) or lost_contact(error):
                raise
            calls = [frame for frame, _ in walk_tb(error.__traceback__) if frame.f_code.co_name == "calculate_metric"]
            where = f"data set {self.opt['name']}, {self._files(self._index)}"
            if not calls:
                raise UserError(f"{where}: {as_user_error(error)}") from error
            metric, remedy = calls[0].f_locals["metric_type"], "remove the metric or the image"
            raise MetricError(f"{where}, {metric}: {as_user_error(error)}; {remedy}") from error


def first_image(loader: Any) -> Any:
    """Return a loader of the first image of a validation set; it draws no numbers from the generators of others."""
    return DataLoader(ValidationDataset(loader.dataset.dataset, 1), generator=torch.Generator())


def _loader(opt: Options, dataset_opt: Options, dataset: Any, sampler: IterationSampler | None) -> Any:
    """BasicSR's loader. `prefetch_mode: cpu` only lengthens the workers' queue, as BasicSR's thread hangs on errors."""
    queue = dataset_opt.get("num_prefetch_queue", 1) if dataset_opt.get("prefetch_mode") == "cpu" else 0
    loader = build_dataloader(
        dataset,
        {**dataset_opt, "prefetch_mode": None, "persistent_workers": False},  # a training loader is for one pass
        num_gpu=opt["num_gpu"],
        dist=opt["dist"],
        sampler=sampler,
        seed=opt["manual_seed"],
    )
    if loader.num_workers:
        loader.prefetch_factor = max(loader.prefetch_factor, queue)
    # every new iterator draws a number: from this generator, not from that of training
    loader.generator = torch.Generator().manual_seed(opt["manual_seed"] + opt["rank"])
    return loader


def _init_worker(original: Any, lock: FolderLock, worker_id: int) -> None:
    lock.leave_to_parent()
    ignore_in_worker()
    if original is not None:
        original(worker_id)


def batches(loader: Any, opt: Options, stop: StopRequest) -> Iterator[Any]:
    """Yield a loader's batches, on the GPU with `prefetch_mode: cuda`. Ends early if a signal kills the workers."""
    try:
        if opt["datasets"]["train"].get("prefetch_mode") == "cuda":
            prefetcher = CUDAPrefetcher(loader, opt)
            while (batch := prefetcher.next()) is not None:
                yield batch
        else:
            yield from loader
    except RuntimeError:
        if not stop.signal:  # the signal may kill workers while they start
            raise


class UnreadableImages:
    """Training images that could not be read and were replaced by another one; each is logged once, on rank 0."""

    def __init__(self, images: int, logger: logging.Logger) -> None:
        """images: number of images in the data set."""
        self._images = images
        self._logger = logger
        self._known: list[str] = []
        self.waiting: list[str] = []
        """Reports of this rank since the last `report`."""

    def take(self, batch: Any) -> None:
        """Move the reports of `TrainingDataset` from a batch to `waiting`."""
        for reports in batch.pop(UNREADABLE, ()) if isinstance(batch, dict) else ():
            self.waiting += reports.splitlines()

    def report(self) -> None:
        """Log the new reports of all ranks; all ranks must call it. Raises UserError for too many unreadable images."""
        found = [reason for reasons in gathered(self.waiting) for reason in reasons]
        self.waiting = []
        for reason in found:
            if reason not in self._known:
                self._known.append(reason)
                self._logger.warning(
                    f"{reason}; another image takes its place ({len(self._known)} of {self._images:,} cannot be read)"
                )
        if len(self._known) > MOST_UNREADABLE * self._images:
            raise UserError(
                f"{len(self._known)} of {self._images:,} training images cannot be read, over {MOST_UNREADABLE:.0%}, "
                f"the last one in {self._known[-1]}; `rgt prepare check` finds them all"
            )
