"""Validation and testing that end in no KeyError or TypeError over what BasicSR's code does not expect.

Where: basicsr/models/sr_model.py:194 (a metric without GT is a TypeError), data/__init__.py:78 (`persistent_workers` is an
error for loaders without workers, which validation loaders are), test.py:15 (cudnn.benchmark is on for images that all
have another size: each is timed anew). Delete it once BasicSR skips metrics that it has no second image for and keeps
these settings to loaders and loops that they suit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

Options = dict[str, Any]

NO_REFERENCE_METRICS = ("calculate_niqe",)


def settle_loading(opt: Options) -> None:
    """Take back loader options where there are no workers, in place; give a test without `val` an empty section."""
    for phase, dataset in opt["datasets"].items():
        if phase != "train" or not dataset.get("num_worker_per_gpu"):
            dataset["persistent_workers"] = False
            if dataset.get("prefetch_mode") == "cpu":  # without workers, samples would be drawn in a second thread
                dataset["prefetch_mode"] = None
    if "train" not in opt and opt.get("val") is None:
        opt["val"] = {"save_img": True, "suffix": None}


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
