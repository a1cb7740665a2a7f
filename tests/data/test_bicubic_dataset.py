"""BicubicDataset: HR images alone give the samples of PairedImageDataset on prepared pairs, bit for bit."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from PIL import Image

from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.data.lmdb import create_lmdb_of_folder
from rgt_arch.data.loading import UNREADABLE
from rgt_arch.data.meta_info import write_meta_info

from .image_files import TURNED, noise, save
from .test_lmdb_training import batches, equal, loaders


def write_photographs(folder: Path, scale: int) -> None:
    """Write photographs of several kinds to HR and, as BasicSR reads them, as pairs to pairs_HR and pairs_LR."""
    hr = folder / "HR"
    save(hr / "0001.png", noise(45, 53, 3, seed=1))
    save(hr / "sub/0001-b.png", noise(49, 50, seed=2))  # grey
    save(hr / "0001_deep.png", noise(48, 48, 3, seed=3, dtype=np.uint16))
    Image.fromarray(noise(50, 61, 3, seed=4)).save(hr / "sub/turned.jpg", exif=TURNED)
    save(hr / "alpha.png", noise(52, 47, 4, seed=5))
    for file in sorted(path for path in hr.rglob("*") if path.is_file()):
        pair = hr_lr_pair(cv2.imread(str(file)), scale)
        for kind, image in zip(("HR", "LR"), pair, strict=True):
            save(folder / f"pairs_{kind}" / file.relative_to(hr).with_suffix(".png"), image)
    (hr / "notes.txt").write_text("not a photograph")


def loader(dataset: dict, *, scale: int = 2, workers: int = 0, start: int = 0):
    data = {"scale": scale, "gt_size": 6 * scale, "io_backend": {"type": "disk"}, **dataset}
    return loaders(data, workers, start)[0]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_batches_equal_those_of_prepared_pairs_from_folder_list_and_lmdb(tmp_path, scale):
    write_photographs(tmp_path, scale)
    roots = {f"dataroot_{key}": str(tmp_path / f"pairs_{kind}.lmdb") for key, kind in (("gt", "HR"), ("lq", "LR"))}
    lmdb = {"io_backend": {"type": "lmdb"}}
    for kind in ("pairs_HR", "pairs_LR", "HR"):
        create_lmdb_of_folder(tmp_path / kind)
    write_meta_info(tmp_path / "HR", tmp_path / "list.txt")
    paired = {"type": "PairedImageDataset", **roots, **lmdb}
    wanted = batches(loader(paired, scale=scale))
    assert not torch.equal(wanted[0][1], wanted[1][1])
    single = {"type": "BicubicDataset", "dataroot_gt": str(tmp_path / "HR")}
    listed = {**single, "meta_info_file": str(tmp_path / "list.txt")}
    packed = {**single, "dataroot_gt": str(tmp_path / "HR.lmdb"), **lmdb}
    for data in (single, listed, packed):
        assert equal(batches(loader(data, scale=scale)), wanted)
    assert equal(batches(loader(packed, scale=scale, workers=2)), wanted)
    assert equal(batches(loader(single, scale=scale, workers=1, start=5)), wanted[5:])  # a resumed run
    luma = [batches(loader({**data, "color": "y"}, scale=scale)) for data in (single, paired)]
    assert luma[0][0][0].shape[1] == 1
    assert equal(*luma)


def test_validation_takes_whole_images(tmp_path):
    write_photographs(tmp_path, 3)
    data = {"name": "v", "type": "BicubicDataset", "phase": "val", "scale": 3, "dataroot_gt": str(tmp_path / "HR")}
    dataset = build_dataset({**data, "io_backend": {"type": "disk"}})
    pairs = {key: str(tmp_path / f"pairs_{kind}.lmdb") for key, kind in (("dataroot_gt", "HR"), ("dataroot_lq", "LR"))}
    for kind in ("HR", "LR"):
        create_lmdb_of_folder(tmp_path / f"pairs_{kind}")
    paired = build_dataset({**data, "type": "PairedImageDataset", **pairs, "io_backend": {"type": "lmdb"}})
    assert len(dataset) == len(paired) == 5
    for one, other in zip(dataset, paired, strict=False):
        assert all(torch.equal(one[key], other[key]) for key in ("gt", "lq"))
        assert Path(one["lq_path"]).with_suffix("").parts[-1] == other["lq_path"].split("/")[-1]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: file.write_bytes(b"no picture"), "0001.png: not a readable image; replace or remove it"),
        (lambda file: file.write_bytes(b""), "0001.png: not a readable image; replace or remove it"),
        (lambda file: save(file, noise(11, 40, 3)), "LQ (5, 20) is smaller than patch size (6, 6)"),
    ],
)
def test_unusable_image_is_named_and_replaced(tmp_path, spoil, words):
    write_photographs(tmp_path, 2)
    spoil(tmp_path / "HR/0001.png")
    made = list(loader({"type": "BicubicDataset", "dataroot_gt": str(tmp_path / "HR")}))
    reports = {line for batch in made for text in batch[UNREADABLE] for line in text.splitlines()}
    assert len(made) == 8
    assert len(reports) == 1
    assert words in reports.pop()
