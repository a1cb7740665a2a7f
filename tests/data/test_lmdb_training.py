"""Training from an LMDB: the same batches as from the files, in this process and in forked workers."""

from __future__ import annotations

import contextlib
import logging
import os
import sys

import pytest
import torch

from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.data.lmdb import create_lmdb_of_folder
from rgt_arch.data.lmdb_reader import open_lmdb, read_value
from rgt_arch.data.meta_info import write_meta_info
from rgt_arch.errors import UserError
from rgt_arch.training.loaders import training_loader, validation_loaders
from rgt_arch.training.run_folder import FolderLock

from .image_files import noise, save

# Sorting by folder and stem gives another order than by file name: "sub/" and "sub-2", "0001" and "0001-b".
STEMS = ("0001_s001", "0001", "0001-b", "sub/photo (1)", "sub-2/v1.2", "sub/bébé", "a.b", "100%")


def make(folder, stems=STEMS):
    """Write HR and LR pairs and their LMDBs under `folder`; return the options of the LMDBs."""
    for seed, stem in enumerate(stems):
        hr, lr = hr_lr_pair(noise(24, 28, 3, seed=seed), 2)
        save(folder / "HR" / f"{stem}.png", hr)
        save(folder / "LR" / f"{stem}x2.png", lr)
    create_lmdb_of_folder(folder / "HR")
    create_lmdb_of_folder(folder / "LR", ending="x2")
    roots = {"dataroot_gt": str(folder / "HR.lmdb"), "dataroot_lq": str(folder / "LR.lmdb")}
    return {"type": "PairedImageDataset", "io_backend": {"type": "lmdb"}, **roots}


def loaders(dataset, workers, start=0):
    """The training loader from an iteration on, and the validation loaders."""
    common = {"name": "photographs", "scale": 2, "gt_size": 16, "use_hflip": True, "use_rot": True, **dataset}
    loading = {"num_worker_per_gpu": workers, "batch_size_per_gpu": 2, "dataset_enlarge_ratio": 3}
    datasets = {"train": {**common, **loading, "phase": "train"}, "val": {**common, "phase": "val"}}
    opt = {"datasets": datasets, "train": {"total_iter": 8}, "manual_seed": 7, "num_gpu": 0}
    opt |= {"dist": False, "rank": 0, "world_size": 1}
    logger = logging.getLogger("test")
    train, _ = training_loader(opt, start, FolderLock("no such folder"), logger)
    return train, *validation_loaders(opt, logger)


def batches(loader):
    return [(batch["gt"], batch["lq"]) for batch in loader]


def equal(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, b) for pair in zip(one, other, strict=True) for a, b in zip(*pair, strict=True)
    )


def test_batches_from_lmdb_and_disk_are_identical_with_and_without_workers(tmp_path):
    options = make(tmp_path)
    write_meta_info(tmp_path / "HR", tmp_path / "pairs.txt", lr_folder=tmp_path / "LR")
    roots = dict.fromkeys(("dataroot_gt", "dataroot_lq"), str(tmp_path))
    listed = {"type": "RealESRGANPairedDataset", "meta_info": str(tmp_path / "pairs.txt"), **roots}
    disk = batches(loaders({**listed, "io_backend": {"type": "disk"}}, 0)[0])
    assert len(disk) == 8
    assert not torch.equal(disk[0][0], disk[1][0])
    for workers in (0, 2):
        assert equal(batches(loaders(options, workers)[0]), disk)


@pytest.mark.skipif(sys.platform != "linux", reason="forked workers are Linux's default alone")
def test_folder_list_and_lmdb_give_the_same_batches_whatever_the_order_of_the_file_system(tmp_path, monkeypatch):
    scandir = os.scandir
    lmdb = make(tmp_path, [stem for stem in STEMS if "/" not in stem])
    folders = {key: lmdb[key].removesuffix(".lmdb") for key in ("dataroot_gt", "dataroot_lq")}
    disk = {"type": "PairedImageDataset", "filename_tmpl": "{}x2", "io_backend": {"type": "disk"}, **folders}
    write_meta_info(tmp_path / "HR", tmp_path / "list.txt")
    wanted = [batches(loader) for loader in loaders(lmdb, 0)]
    for backwards in (False, True):

        @contextlib.contextmanager
        def in_order(folder, backwards=backwards):
            with scandir(folder) as entries:
                yield iter(sorted(entries, key=lambda entry: entry.name, reverse=backwards))

        monkeypatch.setattr(os, "scandir", in_order)
        for dataset in (disk, {**disk, "meta_info_file": str(tmp_path / "list.txt")}):
            assert all(map(equal, wanted, [batches(loader) for loader in loaders(dataset, 0)]))


def test_one_lmdb_serves_training_and_validation_and_workers_forked_after_it_was_opened(tmp_path):
    options = make(tmp_path)
    train, val = loaders(options, 0)
    here = batches(train)  # opens both LMDBs in this process
    assert len(batches(val)) == len(STEMS)
    forked, val = loaders(options, 2)
    iterator = iter(forked)
    first = next(iterator)
    assert len(batches(val)) == len(STEMS)  # while the workers run
    assert equal([(first["gt"], first["lq"]), *batches(iterator)], here)


def test_forked_process_does_not_use_the_environment_of_its_parent(tmp_path):
    make(tmp_path)
    path = os.path.realpath(tmp_path / "HR.lmdb")
    inherited = open_lmdb(path)
    child = os.fork()
    if not child:
        try:
            os._exit(0 if open_lmdb(path) is not inherited and read_value(path, path, "0001") else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert open_lmdb(path) is inherited


def test_error_in_a_worker_names_the_missing_key_and_its_lmdb(tmp_path):
    options = make(tmp_path)
    for kind in ("HR", "LR"):
        (tmp_path / f"{kind}.lmdb" / "meta_info.txt").write_text("lenna.png (24,28,3) 1\n" * 4)
    with pytest.raises(UserError, match=r"[HL]R\.lmdb: no key 'lenna'; make the LMDB again"):
        batches(loaders(options, 1)[0])
