"""Real-ESRGAN's pool of training pairs: it mixes batches whose images share a degradation, such as one resize."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_QUEUES = ("queue_lr", "queue_gt")


def exchange_with_pool(model: Any) -> None:
    """Exchange the batch `model.lq`, `model.gt` for as many random pairs of the pool of `model.queue_size` pairs.

    Until the pool is full, the batch is only copied into it. As BasicSR's `_dequeue_and_enqueue`
    (models/realesrnet_model.py:29), on any device, and without copying the whole pool in each step.
    """
    batch = (model.lq, model.gt)
    if not hasattr(model, "queue_ptr"):
        model.queue_ptr = 0
        for name, images in zip(_QUEUES, batch, strict=True):
            setattr(model, name, images.new_zeros(model.queue_size, *images.shape[1:]))
    pool = [getattr(model, name) for name in _QUEUES]
    end = model.queue_ptr + len(model.lq)
    if end <= model.queue_size:
        for queue, images in zip(pool, batch, strict=True):
            queue[model.queue_ptr : end] = images
        model.queue_ptr = end
        return
    chosen = torch.randperm(model.queue_ptr)[: len(model.lq)]
    model.lq, model.gt = (queue[chosen] for queue in pool)
    for queue, images in zip(pool, batch, strict=True):
        queue[chosen] = images


def pool_state(model: Any) -> dict[str, Any]:
    """Return the pool of a Real-ESRGAN model, {} without one; as uint8 where the values are exactly those of 8 bits."""
    if not hasattr(model, "queue_ptr"):
        return {}
    return {"queue_ptr": model.queue_ptr, **{name: _packed(getattr(model, name).cpu()) for name in _QUEUES}}


def restore_pool(model: Any, pool: Mapping[str, Any], gt_size: int | None) -> None:
    """Restore the result of `pool_state`, if the pool has the model's `queue_size` and HR patches of side `gt_size`."""
    if pool and tuple(pool["queue_gt"].shape[::3]) == (getattr(model, "queue_size", 0), gt_size):
        model.queue_ptr = pool["queue_ptr"]
        for name in _QUEUES:
            setattr(model, name, _unpacked(pool[name]).to(model.device))


def _packed(images: Tensor) -> Tensor:
    rounded = (images * 255).round().to(torch.uint8)
    return rounded if torch.equal(_unpacked(rounded), images) else images


def _unpacked(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images
