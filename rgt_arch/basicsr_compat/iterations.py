"""Runs of exactly `total_iter` iterations: one pass over one loader, whatever the sizes of data set, batch and world.

Where: basicsr/train.py:29-65, its loop at :152, and basicsr/data/data_sampler.py. What goes wrong: iterations per
epoch are rounded up while the loader drops the last batch, so a run stops short (and 6 images with batch 8 train not
at all), each unfinished epoch adds one to the counter, workers start anew every epoch, the sampler ignores
`manual_seed` and a resumed run repeats the epoch's data. Delete it once BasicSR's loop counts iterations over an
endless sampler.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import torch

from rgt_arch.basicsr_compat import stopping
from rgt_arch.basicsr_compat.training_loop import TrainingLoader
from rgt_arch.data.loading import NamingDataset, TrainingDataset
from rgt_arch.data.sampling import IterationSampler
from rgt_arch.errors import UsageError

Options = dict[str, Any]
Loaders = tuple[Any, IterationSampler, list[Any], int, int]


def create_train_val_dataloader(opt: Options, logger: logging.Logger) -> Loaders:
    """The loaders of a run, built by BasicSR's own builders, in the shape basicsr.train wants:
    (train loader, its sampler, validation loaders, total epochs, total iterations).

    The train loader holds iterations `opt["start_iter"]` to `total_iter` and is run through once: total epochs is the
    start epoch, so that BasicSR's `range(start_epoch, total_epochs + 1)` has one member. Sets
    `opt["samples_per_epoch"]` and `opt["samples_per_iter"]`, from which `epoch_of` tells real epochs.
    """
    if "train" not in opt["datasets"]:
        raise UsageError("datasets: there is no section 'train'; add one, or run `basicsr test`")
    total_iter = int(opt["train"]["total_iter"])
    train_loader, sampler = _train_loader(opt, opt["datasets"]["train"], total_iter, logger)
    val_loaders = []
    for phase, dataset_opt in opt["datasets"].items():
        if phase.split("_")[0] == "val":
            val_loaders.append(_validation_loader(opt, dataset_opt, logger))
        elif phase != "train":
            raise UsageError(f"datasets:{phase}: no such phase; name it train, val or val_…")
    loader = TrainingLoader(train_loader, opt, val_loaders)
    return loader, sampler, val_loaders, opt.get("start_epoch", 0), total_iter


def _train_loader(
    opt: Options, dataset_opt: Options, total_iter: int, logger: logging.Logger
) -> tuple[Any, IterationSampler]:
    from basicsr.data import build_dataloader, build_dataset

    dataset = TrainingDataset(build_dataset(dataset_opt), opt["manual_seed"])
    replicas = 1 if opt["dist"] else max(1, opt["num_gpu"])  # DataParallel's batches, as in basicsr/data/__init__.py:65
    sampler = IterationSampler(
        len(dataset),
        batch_size=dataset_opt["batch_size_per_gpu"] * replicas,
        start_iter=opt.get("start_iter", 0),
        total_iter=total_iter,
        seed=opt["manual_seed"],
        rank=opt["rank"],
        world_size=opt["world_size"],
        enlarge_ratio=dataset_opt.get("dataset_enlarge_ratio", 1),
    )
    loader = build_dataloader(
        dataset, dataset_opt, num_gpu=opt["num_gpu"], dist=opt["dist"], sampler=sampler, seed=opt["manual_seed"]
    )
    loader.generator = _own_generator(opt)
    loader.worker_init_fn = stopping.worker_init(loader.worker_init_fn)
    opt["samples_per_epoch"] = sampler.epoch_size
    opt["samples_per_iter"] = sampler.global_batch
    logger.info(
        "Training statistics:"
        f"\n\tNumber of train images: {len(dataset)}"
        f"\n\tDataset enlarge ratio: {dataset_opt.get('dataset_enlarge_ratio', 1)}"
        f"\n\tBatch size per gpu: {dataset_opt['batch_size_per_gpu']}"
        f"\n\tWorld size (gpu number): {opt['world_size']}"
        f"\n\tIterations per epoch: {sampler.epoch_size / sampler.global_batch:g}"
        f"\n\tTotal epochs: {math.ceil(total_iter * sampler.global_batch / sampler.epoch_size)}; iters: {total_iter}."
    )
    return loader, sampler


def _validation_loader(opt: Options, dataset_opt: Options, logger: logging.Logger) -> Any:
    from basicsr.data import build_dataloader, build_dataset

    dataset = NamingDataset(build_dataset(dataset_opt))
    loader = build_dataloader(
        dataset, dataset_opt, num_gpu=opt["num_gpu"], dist=opt["dist"], sampler=None, seed=opt["manual_seed"]
    )
    loader.generator = _own_generator(opt)
    logger.info(f"Number of val images/folders in {dataset_opt['name']}: {len(dataset)}")
    return loader


def _own_generator(opt: Options) -> torch.Generator:
    """Every new DataLoader iterator draws a number; with this it is not drawn from the generator that training uses."""
    return torch.Generator().manual_seed(opt["manual_seed"] + opt["rank"])


def naming_errors(original: Callable[[Options], Any]) -> Callable[[Options], Any]:
    """build_dataset of the test pipeline: what its images raise names the image."""

    def build_dataset(dataset_opt: Options) -> Any:
        return NamingDataset(original(dataset_opt))

    return build_dataset


def epoch_of(opt: Options, iteration: int, default: int) -> int:
    """The epoch (from 0) that an iteration (from 1) begins in; `default` where the loaders are not ours."""
    if "samples_per_epoch" not in opt:
        return default
    return max(0, iteration - 1) * int(opt["samples_per_iter"]) // int(opt["samples_per_epoch"])


def saving_real_epochs(original: Callable[[Options], Any]) -> Callable[[Options], Any]:
    """build_model whose model saves the epoch the data is in; BasicSR's loop would say that of our single pass."""

    def build_model(opt: Options) -> Any:
        model = original(opt)
        save = model.save
        model.save = lambda epoch, current_iter: save(epoch_of(opt, current_iter, epoch), current_iter)
        return model

    return build_model
