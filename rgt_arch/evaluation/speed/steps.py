"""A training step as measurements make it: forward, L1, backward, Adam."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from rgt_arch.evaluation.speed.clock import Work
from rgt_arch.evaluation.speed.networks import random_images
from rgt_arch.evaluation.speed.settings import Size, autocast


def training_step(
    network: nn.Module, size: Size, config: dict[str, Any], batch: int, dtype: str, seed: int, device: torch.device
) -> Work:
    """A function that trains `network` for one step on random images and puts it into train mode.

    size: of the LR patches. The gradients are let go before each step, as BasicSR does.
    """
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.9, 0.99))
    lr = random_images(size, config, seed, device, batch)
    hr_size = Size(size.height * config["upscale"], size.width * config["upscale"])
    hr = random_images(hr_size, config, seed + 1, device, batch)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(dtype, device):
            output = network(lr)
        F.l1_loss(output.float(), hr).backward()
        optimizer.step()

    return step
