"""Training from an LMDB: the same batches as from the files, in this process, in forked and in spawned workers."""

from __future__ import annotations

import copy
import logging
import os
import sys

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.data.lmdb import create_lmdb_of_folder
from rgt_arch.data.lmdb_reader import open_lmdb, read_value
from rgt_arch.data.meta_info import write_meta_info
from rgt_arch.errors import UserError
from rgt_arch.training.loaders import training_loader, validation_loaders
from rgt_arch.training.run_folder import FolderLock

PLAIN = ("0001_s001", "0001", "0001-b", "0002")
ODD = ("sub/photo (1)", "sub-2/v1.2", "sub/bébé", "a.b", "100%")  # "sub/" and "sub-2" sort otherwise by name parts


def make(folder, stems):
    """HR and LR pairs, their LMDBs and lists, under `folder`."""
    rng = np.random.default_rng(5)
    for stem in stems:
        hr, lr = hr_lr_pair(rng.integers(0, 256, (24, 28, 3), dtype=np.uint8), 2)
        for kind, image, ending in (("HR", hr, ""), ("LR", lr, "x2")):
            path = folder / kind / f"{stem}{ending}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
    create_lmdb_of_folder(folder / "HR")
    create_lmdb_of_folder(folder / "LR", ending="x2")
    return folder


def lmdb_options(folder):
    return {
        "type": "PairedImageDataset",
        "dataroot_gt": str(folder / "HR.lmdb"),
        "dataroot_lq": str(folder / "LR.lmdb"),
        "io_backend": {"type": "lmdb"},
    }


def disk_options(folder, stems):
    """BasicSR's own list of names where they allow it, else a list of pairs, which may have sub-folders and spaces."""
    options = {"dataroot_gt": str(folder / "HR"), "dataroot_lq": str(folder / "LR"), "io_backend": {"type": "disk"}}
    if stems is PLAIN:
        write_meta_info(folder / "HR", folder / "meta.txt")
        more = {"type": "PairedImageDataset", "meta_info_file": str(folder / "meta.txt"), "filename_tmpl": "{}x2"}
    else:
        write_meta_info(folder / "HR", folder / "pairs.txt", lr_folder=folder / "LR")
        roots = dict.fromkeys(("dataroot_gt", "dataroot_lq"), str(folder))
        more = {"type": "RealESRGANPairedDataset", "meta_info": str(folder / "pairs.txt"), **roots}
    return {**options, **more}


def loaders(dataset, workers, val=None):
    common = {"name": "photographs", "scale": 2, "phase": "train", "gt_size": 16, "use_hflip": True, "use_rot": True}
    loading = {"num_worker_per_gpu": workers, "batch_size_per_gpu": 2, "dataset_enlarge_ratio": 3}
    datasets = {"train": {**common, **loading, **copy.deepcopy(dataset)}}
    if val is not None:
        datasets["val"] = {**common, "phase": "val", **copy.deepcopy(val)}
    opt = {"datasets": datasets, "train": {"total_iter": 8}, "manual_seed": 7, "num_gpu": 0}
    opt |= {"dist": False, "rank": 0, "world_size": 1}
    logger = logging.getLogger("test")
    train, _ = training_loader(opt, 0, FolderLock("no such folder"), logger)
    return train, validation_loaders(opt, logger)


def batches(loader):
    return [(batch["gt"], batch["lq"]) for batch in loader]


def equal(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, b) for pair in zip(one, other, strict=True) for a, b in zip(*pair, strict=True)
    )


@pytest.mark.parametrize("stems", [PLAIN, ODD], ids=["plain", "odd"])
def test_batches_from_lmdb_and_disk_are_identical_with_and_without_workers(tmp_path, stems):
    folder = make(tmp_path, stems)
    disk = batches(loaders(disk_options(folder, stems), 0)[0])
    assert len(disk) == 8
    assert not torch.equal(disk[0][0], disk[1][0])
    for workers in (0, 2):
        assert equal(batches(loaders(lmdb_options(folder), workers)[0]), disk)


@pytest.mark.skipif(sys.platform != "linux", reason="forked workers are Linux's default alone")
def test_one_lmdb_serves_training_and_validation_and_workers_forked_after_it_was_opened(tmp_path):
    folder = make(tmp_path, PLAIN)
    options, link = lmdb_options(folder), tmp_path.with_name("link")
    link.symlink_to(folder)
    val_options = lmdb_options(link)  # the same LMDBs under another name
    train, (val,) = loaders(options, 0, val=val_options)
    here = batches(train)  # opens both LMDBs in this process
    assert len(batches(val)) == len(PLAIN)
    forked, (val,) = loaders(options, 2, val=val_options)
    iterator = iter(forked)
    first = next(iterator)
    assert len(batches(val)) == len(PLAIN)  # while the workers run
    assert equal([(first["gt"], first["lq"]), *batches(iterator)], here)


def test_forked_process_does_not_use_the_environment_of_its_parent(tmp_path):
    path = os.path.realpath(make(tmp_path, PLAIN) / "HR.lmdb")
    inherited = open_lmdb(path)
    child = os.fork()
    if not child:
        try:
            os._exit(0 if open_lmdb(path) is not inherited and read_value(path, path, "0001") else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert open_lmdb(path) is inherited


def test_spawned_workers_read_it(tmp_path):
    folder = make(tmp_path, ODD)
    train, _ = loaders(lmdb_options(folder), 0)
    spawned = DataLoader(
        train.dataset, batch_size=2, sampler=train.sampler, num_workers=1, multiprocessing_context="spawn"
    )
    assert equal(batches(spawned), batches(train))


@pytest.mark.parametrize("workers", [0, 1])
def test_missing_key_is_named_with_its_lmdb_from_a_worker_too(tmp_path, workers):
    folder = make(tmp_path, PLAIN)
    for kind in ("HR", "LR"):
        with (folder / f"{kind}.lmdb" / "meta_info.txt").open("w") as file:
            file.write("lenna.png (24,28,3) 1\n" * 4)
    with pytest.raises(UserError, match=r"[HL]R\.lmdb: no key 'lenna'; make the LMDB again"):
        batches(loaders(lmdb_options(folder), workers)[0])
