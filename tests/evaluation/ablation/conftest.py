"""A list of two tiny networks with data to train and validate them on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from rgt_arch.data.bicubic import hr_lr_pair

OPTIONS = """name: anything
model_type: RGTModel
scale: 2
num_gpu: 0
manual_seed: 10
datasets:
  train:
    name: photographs
    type: PairedImageDataset
    dataroot_gt: data/train/HR
    dataroot_lq: data/train/LR
    filename_tmpl: '{}x2'
    io_backend: {type: disk}
    gt_size: 32
    use_hflip: true
    use_rot: true
    num_worker_per_gpu: 0
    batch_size_per_gpu: 1
  val:
    name: Set of one
    type: PairedImageDataset
    dataroot_gt: data/val/HR
    dataroot_lq: data/val/LR
    filename_tmpl: '{}x2'
    io_backend: {type: disk}
network_g: {type: RGT, upscale: 2, embed_dim: 96, depth: [2], num_heads: [4], split_size: [4, 8], mlp_ratio: 1}
path: {pretrain_network_g: ~, strict_load_g: true, resume_state: ~}
train:
  total_iter: 4
  warmup_iter: -1
  optim_g: {type: Adam, lr: 2.0e-4, weight_decay: 0, betas: [0.9, 0.99]}
  scheduler: {type: MultiStepLR, milestones: [4], gamma: 0.5}
  pixel_opt: {type: L1Loss, loss_weight: 1.0, reduction: mean}
val:
  val_freq: 4
  save_img: false
  metrics:
    psnr: {type: calculate_psnr, crop_border: 2, test_y_channel: true}
    ssim: {type: calculate_ssim, crop_border: 2, test_y_channel: true}
logger: {print_freq: 1, save_checkpoint_freq: 2, use_tb_logger: false}
"""
LIST = """base: files/rgt.yml
seeds: [1, 2]
variants:
  RGT: []
  no CPE: [network_g:cpe=false]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: list.yml, files/rgt.yml, data/."""
    for part, size in (("train", 48), ("val", 40)):
        hr, lr = hr_lr_pair(data.astronaut()[100 : 100 + size, 150 : 150 + size], 2)
        for kind, image, ending in (("HR", hr, ""), ("LR", lr, "x2")):
            folder = tmp_path / "data" / part / kind
            folder.mkdir(parents=True)
            Image.fromarray(image).save(folder / f"a{ending}.png")
    (tmp_path / "files").mkdir()
    (tmp_path / "files/rgt.yml").write_text(OPTIONS)
    (tmp_path / "list.yml").write_text(LIST)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def edit(project: Path) -> Callable[[str, str, str], None]:
    """Replace a piece of one of the files that is there exactly once."""

    def replace(name: str, old: str, new: str) -> None:
        text = (project / name).read_text()
        assert text.count(old) == 1
        (project / name).write_text(text.replace(old, new))

    return replace
