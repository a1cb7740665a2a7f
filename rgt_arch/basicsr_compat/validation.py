"""Validation and testing without the TypeErrors and races that BasicSR leaves in them.

Where: basicsr/models/sr_model.py:194 (a metric without GT is a TypeError), data/prefetch_dataloader.py:25 (without
workers, `prefetch_mode: cpu` draws samples in a second thread, whose random numbers mix with the training's),
test.py:15 (cudnn.benchmark is on for images that all have another size: each is timed anew). Delete it once BasicSR
skips metrics that it has no second image for and keeps these settings to loaders and loops that they suit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

Options = dict[str, Any]

NO_REFERENCE_METRICS = ("calculate_niqe",)


def settle_loading(opt: Options) -> None:
    """Take back `prefetch_mode: cpu` where there are no workers, in place."""
    for phase, dataset in opt["datasets"].items():
        workers = dataset.get("num_worker_per_gpu") if phase == "train" else 0
        if not workers and dataset.get("prefetch_mode") == "cpu":
            dataset["prefetch_mode"] = None


def nan_without_gt(original: Callable[..., Any]) -> Callable[..., Any]:
    """calculate_metric that gives NaN for a data set without GT beside others that have it."""

    def calculate_metric(data: dict[str, Any], opt: Options) -> Any:
        if "img2" not in data and opt["type"] not in NO_REFERENCE_METRICS:
            return math.nan
        return original(data, opt)

    return calculate_metric


def without_benchmark(original: Callable[[Options], Any]) -> Callable[[Options], Any]:
    """build_model of the test pipeline, after which cudnn does not time every image size."""

    def build_model(opt: Options) -> Any:
        torch.backends.cudnn.benchmark = False
        return original(opt)

    return build_model
