"""Validation and testing that end in no KeyError or TypeError over things left out.

Where: basicsr/models/sr_model.py:194 (a metric without GT is a TypeError), :177 (`val: suffix` missing is a
KeyError), test.py:16 (cudnn.benchmark is on for images that all have another size: each is timed anew),
data/__init__.py:78 (`persistent_workers` is an error for loaders without workers, which validation loaders are).
Delete it once BasicSR fills in defaults and skips metrics that it has no second image for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from rgt_arch.basicsr_compat.notices import notice

Options = dict[str, Any]

NO_REFERENCE_METRICS = ("calculate_niqe",)


def fill_in_defaults(opt: Options, is_train: bool) -> None:
    """Give the options that BasicSR indexes without asking their defaults, in place."""
    if opt.get("path") is None:
        opt["path"] = {}
    if is_train:
        logger = opt["logger"] = opt.get("logger") or {}
        for key, value in (("print_freq", 100), ("save_checkpoint_freq", 5000), ("use_tb_logger", False)):
            logger.setdefault(key, value)
        opt["train"]["total_iter"] = int(opt["train"]["total_iter"])
    elif opt.get("val") is None:
        opt["val"] = {}
    if opt.get("val") is not None:
        opt["val"].setdefault("save_img", not is_train)
        opt["val"].setdefault("suffix", None)
        if is_train:
            opt["val"].setdefault("val_freq", opt["train"]["total_iter"])
        _drop_metrics_nobody_can_compute(opt)
    for phase, dataset in opt["datasets"].items():
        dataset.setdefault("name", phase)
        workers = dataset.get("num_worker_per_gpu") if phase == "train" else 0
        if not workers:
            dataset["persistent_workers"] = False
            if dataset.get("prefetch_mode") == "cpu":  # without workers, samples would be drawn in a second thread
                dataset["prefetch_mode"] = None


def _drop_metrics_nobody_can_compute(opt: Options) -> None:
    """Without GT in any data set, leave only the metrics that need none, and say so."""
    metrics = opt["val"].get("metrics")
    tested = [dataset for phase, dataset in opt["datasets"].items() if phase != "train"]
    if not metrics or any(dataset.get("type") != "SingleImageDataset" for dataset in tested):
        return
    kept = {name: metric for name, metric in metrics.items() if metric.get("type") in NO_REFERENCE_METRICS}
    if len(kept) < len(metrics):
        skipped = ", ".join(sorted(metrics.keys() - kept.keys()))
        notice(f"val:metrics: {skipped} skipped: the images have no GT to compare with")
        opt["val"]["metrics"] = kept or None


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
