"""The two data paths that `rgt bench data` measures: that of `basicsr train`, and plain BasicSR's."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import basicsr.train
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.prefetch_dataloader import CPUPrefetcher
from basicsr.utils import get_root_logger
from basicsr.utils.file_client import FileClient, LmdbBackend

from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.evaluation.data_benchmark_material import Pairs

Options = dict[str, Any]
Batch = dict[str, Any]
Batches = Generator[Batch, None, None]
Loader = Literal["ours", "BasicSR"]
LOADERS: tuple[Loader, Loader] = ("ours", "BasicSR")

LR_PATCH = 64
"""LR pixels along a side of a training patch."""


def training_options(
    pairs: Pairs, *, scale: int, batch: int, workers: int, steps: int, num_gpu: int, seed: int
) -> Options:
    """Options as options/train_RGT_T_x2.yml has them, as far as they concern loading data and a training step."""
    return {
        "name": "bench_data",
        "model_type": "RGTModel",
        "scale": scale,
        "num_gpu": num_gpu,
        "manual_seed": seed,
        "is_train": True,
        "dist": False,
        "rank": 0,
        "world_size": 1,
        "datasets": {
            "train": {
                "name": "bench",
                "type": "PairedImageDataset",
                "phase": "train",
                "scale": scale,
                "dataroot_gt": str(pairs.hr),
                "dataroot_lq": str(pairs.lr),
                "io_backend": {"type": pairs.backend},
                "gt_size": LR_PATCH * scale,
                "use_hflip": True,
                "use_rot": True,
                "num_worker_per_gpu": workers,
                "batch_size_per_gpu": batch,
            }
        },
        "network_g": {"type": "RGT", "upscale": scale, **PRESETS["RGT-T"]},
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "total_iter": steps,
            "optim_g": {"type": "Adam", "lr": 5e-4, "weight_decay": 0, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [steps], "gamma": 0.5},
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        },
    }


def batches(loader: Loader, opt: Options) -> Batches:
    """The batches of a run of `train.total_iter` iterations, or of more, as BasicSR's loop asks for them.

    Close it when you have enough: that ends the workers.
    """
    return OURS_OR_PLAIN[loader](opt)


def our_batches(opt: Options) -> Batches:
    """Those of `basicsr train`: the seams that this package puts into `basicsr.train`, a single pass."""
    loader, sampler, _, epochs, _ = basicsr.train.create_train_val_dataloader(opt, get_root_logger())
    yield from _loop(basicsr.train.CPUPrefetcher(loader), sampler, epochs + 1)


def plain_batches(opt: Options) -> Batches:
    """Those of BasicSR 1.4.2 without this package: basicsr/train.py:29-51 and :128, epoch after epoch without end."""
    dataset_opt = opt["datasets"]["train"]
    with _plain_lmdb():
        dataset = build_dataset(dataset_opt)
        sampler = EnlargedSampler(dataset, opt["world_size"], opt["rank"], dataset_opt.get("dataset_enlarge_ratio", 1))
        loader = build_dataloader(
            dataset, dataset_opt, num_gpu=opt["num_gpu"], dist=opt["dist"], sampler=sampler, seed=opt["manual_seed"]
        )
        yield from _loop(CPUPrefetcher(loader), sampler, None)


OURS_OR_PLAIN: dict[Loader, Callable[[Options], Batches]] = {"ours": our_batches, "BasicSR": plain_batches}


def _loop(prefetcher: Any, sampler: Any, epochs: int | None) -> Batches:
    """What basicsr/train.py:152-156 and :192 do to get data; without end where `epochs` is None."""
    epoch = 0
    while epoch != epochs:
        sampler.set_epoch(epoch)
        prefetcher.reset()
        batch = prefetcher.next()
        while batch is not None:
            yield batch
            batch = prefetcher.next()
        epoch += 1


@contextmanager
def _plain_lmdb() -> Iterator[None]:
    """BasicSR's own LMDB client, which basicsr_compat replaces."""
    ours = FileClient._backends["lmdb"]
    FileClient._backends["lmdb"] = LmdbBackend
    try:
        yield
    finally:
        FileClient._backends["lmdb"] = ours


@contextmanager
def quiet() -> Iterator[None]:
    """BasicSR's log lines are left out, and PyTorch's advice on the number of workers, which is the user's choice."""
    logger = get_root_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            yield
    finally:
        logger.setLevel(level)
