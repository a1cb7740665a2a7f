"""Keys that must fit each other: data sets and runs, patch and recursion, schedule, micro-batches, tiles, logging."""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

from rgt_arch.config.classes import find_class, is_rgt, parents
from rgt_arch.config.report import Report
from rgt_arch.config.settings import CHOP_PROBLEM, overlap_problem
from rgt_arch.config.tree import sections, subsection

_TRAIN = ("datasets", "train")


def check_training(opt: dict[str, Any], report: Report) -> None:
    """Check keys of a training run against each other."""
    data, train = subsection(subsection(opt, "datasets"), "train"), subsection(opt, "train")
    _check_phases(opt, report, train=True)
    _check_patch(opt, data, report)
    _check_batches(data, train, report)
    _check_schedule(train, report)
    if isinstance(opt.get("train"), dict) and not any(n.endswith("_opt") and v is not None for n, v in train.items()):
        report.error(("train",), "no loss is given; add pixel_opt: {type: L1Loss, loss_weight: 1.0, reduction: mean}")
    _check_logger(opt, subsection(opt, "logger"), report)


def check_validation(opt: dict[str, Any], report: Report, is_train: bool) -> None:
    """Check tiles, and metrics against the data sets on which they are computed."""
    if not is_train:
        _check_phases(opt, report, train=False)
        if "path" in opt and subsection(opt, "path").get("pretrain_network_g") is None:
            report.warn(("path", "pretrain_network_g"), "is not set: a network with random weights is tested")
    val = subsection(opt, "val")
    size, overlap = (subsection(val, "tile").get(name, 0) for name in ("size", "overlap"))
    if size and isinstance(size, int) and isinstance(overlap, int):
        if problem := overlap_problem(size, overlap):
            report.error(("val", "tile", "overlap"), problem, overlap)
        if val.get("use_chop"):
            report.error(("val", "use_chop"), CHOP_PROBLEM)
    _check_metrics(opt, val, report)


def _check_metrics(opt: dict[str, Any], val: dict[str, Any], report: Report) -> None:
    """A metric with a second image needs data sets with GT; RGTModel leaves it out where there is none."""
    is_left_out = "RGTModel" in parents(find_class("model", opt.get("model_type")))
    single = [name for name, data in sections(opt.get("datasets")) if data.get("type") == "SingleImageDataset"]
    for name, section in sections(val.get("metrics")):
        metric = find_class("metric", section.get("type"))
        if metric is None or "img2" not in inspect.signature(metric).parameters:
            continue
        for phase in single:
            path, problem = ("val", "metrics", name), f"needs HR images, and datasets:{phase}"
            if phase.split("_")[0] == "train":
                continue
            if is_left_out:
                report.warn(path, f"{problem} has none: not computed there")
            else:
                remedy = "remove the metric, or give the data set dataroot_gt and type: PairedImageDataset"
                report.error(path, f"{problem} (SingleImageDataset) has none; {remedy}")


def _check_phases(opt: dict[str, Any], report: Report, train: bool) -> None:
    datasets = opt.get("datasets")
    if not isinstance(datasets, dict):
        return
    phases = {name: name.split("_")[0] for name in datasets}
    run, names = ("training", "train, val, val_2, ...") if train else ("test", "test_1, test_2, ...")
    remedy = "rename it" if train else "rename it, or use `basicsr train`"
    is_test_file = train and "train" not in datasets
    if is_test_file:
        report.error(_TRAIN, "is missing; add the training data, or use `basicsr test`")
    if not train and not datasets:
        report.error(("datasets",), "no data set to test on; add test_1")
    for name, phase in phases.items():
        is_allowed = phase == "val" or (name == "train" if train else phase == "test")
        if not is_allowed and not (is_test_file and phase == "test"):
            report.error(("datasets", name), f"a {run} run takes {names}; {remedy}")
        if phase != "train" and subsection(datasets, name).get("persistent_workers"):
            text = "breaks loaders without worker processes, which validation and tests use; remove it"
            report.error(("datasets", name, "persistent_workers"), text)
    if train and subsection(datasets, "train").get("type") == "SingleImageDataset":
        report.error((*_TRAIN, "type"), "has no HR images to learn from; take PairedImageDataset", "SingleImageDataset")
    if train and "val" in phases.values() and not isinstance(opt.get("val"), dict):
        report.warn(("val",), "is missing, so nothing is validated; add val: {val_freq: 5000, save_img: false}")


def _check_patch(opt: dict[str, Any], data: dict[str, Any], report: Report) -> None:
    size, scale, path = data.get("gt_size"), opt.get("scale", data.get("scale")), (*_TRAIN, "gt_size")
    if not isinstance(size, int) or not isinstance(scale, int) or report.is_faulty(("scale",)):
        return
    if size % scale:
        report.error(path, f"does not divide by scale {scale}; take {max(size // scale, 1) * scale}", size)
        return
    network = subsection(opt, "network_g")
    stride, recursion, patch = network.get("reduction_stride", 4), network.get("recursion", "auto"), size // scale
    if not is_rgt(find_class("arch", network.get("type"))) or network.get("global_blocks") == "none":
        return
    if not isinstance(stride, int) or stride < 2:
        return
    if patch < stride**2 if recursion == "auto" else recursion == 0 or patch < stride:
        # RG-SA does not recurse; DistributedDataParallel must search for the weights without gradients.
        opt.setdefault("find_unused_parameters", True)
    # Training recurses ⌊log_s(P // s)⌋ times, testing 2 times up to images of s⁵ pixels: equal for P from s³ to s⁴ - 1.
    low, high = stride**3, stride**4 - 1
    if recursion == "auto" and not low <= patch <= high:
        report.warn(
            path,
            f"LR patches of {patch} train RG-SA at another recursion depth than the 2 it has in tests; LR patches of "
            f"{low} to {high} are safe: gt_size {low * scale} to {high * scale}",
            size,
        )


def _check_batches(data: dict[str, Any], train: dict[str, Any], report: Report) -> None:
    batch, parts, path = data.get("batch_size_per_gpu"), train.get("accumulate", 1), ("train", "accumulate")
    if isinstance(batch, int) and isinstance(parts, int) and parts >= 1 and batch % parts:
        if parts > batch:
            report.error(path, f"is more than batch_size_per_gpu {batch}, which it splits; take {batch} or less", parts)
        else:
            report.warn(path, f"does not divide batch_size_per_gpu {batch}: micro-batches differ by one image", parts)
    if data.get("prefetch_mode") == "cuda" and data.get("pin_memory") is not True:
        report.error((*_TRAIN, "prefetch_mode"), "needs pin_memory: true beside it; add that", "cuda")
    if data.get("persistent_workers") and data.get("num_worker_per_gpu") == 0:
        report.error((*_TRAIN, "persistent_workers"), "needs num_worker_per_gpu of 1 or more; set that, or false", True)
    if data.get("use_shuffle") is False:
        report.warn((*_TRAIN, "use_shuffle"), "is not read: BasicSR always shuffles the training data", False)


def _check_schedule(train: dict[str, Any], report: Report) -> None:
    scheduler, total, path = subsection(train, "scheduler"), train.get("total_iter"), ("train", "scheduler")
    lists = {name: value for name, value in scheduler.items() if isinstance(value, list)}
    for name in ("restarts", "periods"):
        weights, given = lists.get("restart_weights"), lists.get(name)
        if weights is not None and given is not None and len(weights) != len(given):
            text = f"has {len(weights)} entries, {name} has {len(given)}; match them"
            report.error((*path, "restart_weights"), text)
    if not isinstance(total, int):
        return
    lists = {name: value for name, value in lists.items() if all(isinstance(step, (int, float)) for step in value)}
    milestones = lists.get("milestones", [])
    if late := [step for step in milestones if step > total]:
        report.warn((*path, "milestones"), f"{late} come after total_iter {total} and change nothing", milestones)
    if sorted(milestones) != milestones:
        report.warn((*path, "milestones"), "are not in rising order", milestones)
    if "periods" in lists and (end := sum(lists["periods"])) < total:
        text = f"end at {end}, before total_iter {total}; add a period or train less"
        report.error((*path, "periods"), text, lists["periods"])


def _check_logger(opt: dict[str, Any], logger: dict[str, Any], report: Report) -> None:
    """Check that the loggers are installed, and `keep_best` against the metrics that validation computes."""
    wandb, best = subsection(logger, "wandb").get("project"), logger.get("keep_best")
    tensorboard, path = logger.get("use_tb_logger"), ("logger", "wandb", "project")
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        text = "tensorboard is not installed; pip install tensorboard, or false"
        report.error(("logger", "use_tb_logger"), text, True)
    if wandb is not None and not tensorboard:
        report.error(path, "needs use_tb_logger: true; set it, or project: ~", wandb)
    if wandb is not None and importlib.util.find_spec("wandb") is None:
        report.error(path, "wandb is not installed; pip install wandb, or project: ~", wandb)
    metrics = [name for name, _ in sections(subsection(opt, "val").get("metrics"))]
    if best is not None and best not in metrics:
        held = f"val:metrics has {', '.join(metrics)}" if metrics else "val:metrics is empty"
        report.error(("logger", "keep_best"), f"names no metric of val:metrics; {held}", best)
    if best is not None and not any(phase.split("_")[0] == "val" for phase, _ in sections(opt.get("datasets"))):
        report.error(("logger", "keep_best"), "needs a data set to validate on; add datasets:val", best)
