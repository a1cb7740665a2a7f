"""Checks of keys against each other: data sets, patch and recursion, schedule, micro-batches, tiles, logging."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from rgt_arch.config.classes import find_class, is_known, is_rgt, makes_lr, parents, patch_key
from rgt_arch.config.loading import KeyPath, sections, subsection, value_at
from rgt_arch.config.metrics import PYIQA, needs_gt, pyiqa_metrics
from rgt_arch.config.problems import Report, suggestion
from rgt_arch.config.settings import tile_problems
from rgt_arch.config.tables import KERNELS, QUEUE, REAL_ONLY
from rgt_arch.errors import UsageError

_TRAIN = ("datasets", "train")
_MADE = 400
"""Side of the HR images that RealESRGANDataset crops or pads (data/realesrgan_dataset.py:99)."""


def check_training(opt: dict[str, Any], report: Report) -> None:
    """Check keys of a training run against each other."""
    data, train = subsection(subsection(opt, "datasets"), "train"), subsection(opt, "train")
    _check_patch(opt, data, report)
    _check_degradations(opt, data, report)
    batch, parts = data.get("batch_size_per_gpu"), train.get("accumulate", 1)
    if isinstance(batch, int) and isinstance(parts, int) and parts > batch > 0:
        text = f"is more than batch_size_per_gpu {batch}, which it splits; take {batch} or less"
        report.error(("train", "accumulate"), text, parts)
    _check_schedule(train, report)
    if isinstance(opt.get("train"), dict) and not any(n.endswith("_opt") and v is not None for n, v in train.items()):
        report.error(("train",), "no loss is given; add pixel_opt: {type: L1Loss, loss_weight: 1.0, reduction: mean}")
    _check_logger(opt, subsection(opt, "logger"), report)


def check_validation(opt: dict[str, Any], report: Report, is_train: bool) -> None:
    """Check the data sets of a run, its tiles, and its metrics against its data sets."""
    _check_phases(opt, report, is_train)
    if not is_train and "path" in opt and subsection(opt, "path").get("pretrain_network_g") is None:
        report.warn(("path", "pretrain_network_g"), "is not set: a network with random weights is tested")
    val = subsection(opt, "val")
    size, overlap = (subsection(val, "tile").get(name, 0) for name in ("size", "overlap"))
    if size and isinstance(size, int) and isinstance(overlap, int):
        for path, problem, value in tile_problems(size, overlap, bool(val.get("use_chop"))):
            report.error(path, problem, value)
    _check_metrics(opt, val, report)


def _check_metrics(opt: dict[str, Any], val: dict[str, Any], report: Report) -> None:
    """Check metrics of pyiqa, and that data sets have GT for metrics that compare with it; RGTModel skips such metrics
    elsewhere."""
    is_left_out = "RGTModel" in parents(find_class("model", opt.get("model_type")))
    single = [name for name, data in sections(opt.get("datasets")) if data.get("type") == "SingleImageDataset"]
    for name, section in sections(val.get("metrics")):
        path = ("val", "metrics", name)
        if section.get("type") == PYIQA and not _is_pyiqa(section, path, report):
            continue
        for phase in single if needs_gt(section) else ():
            problem = f"needs HR images, and datasets:{phase} (SingleImageDataset) has none"
            if is_left_out:
                report.warn(path, f"{problem}: not computed there")
            else:
                remedy = "remove the metric, or give the data set dataroot_gt and type: PairedImageDataset"
                report.error(path, f"{problem}; {remedy}")


def _is_pyiqa(section: dict[str, Any], path: KeyPath, report: Report) -> bool:
    """Whether pyiqa has the metric of a section; else report why not. Sets a missing `better`."""
    try:
        known = pyiqa_metrics()
    except UsageError as error:
        report.error((*path, "type"), str(error), PYIQA)
        return False
    name = str(section.get("metric"))
    if "metric" in section and name not in known:
        text = f"pyiqa has no such metric of single images; {suggestion(name, known)}"
        report.error((*path, "metric"), text, name)
    section.setdefault("better", "lower" if known.get(name, {}).get("lower_better") else "higher")
    return name in known


def _check_phases(opt: dict[str, Any], report: Report, train: bool) -> None:
    datasets = opt.get("datasets")
    if not isinstance(datasets, dict):
        return
    if train and "train" not in datasets:
        report.error(_TRAIN, "is missing; add the training data, or use `basicsr test`")
        return
    if not train and not datasets:
        report.error(("datasets",), "no data set to test on; add test_1")
    for name in datasets:
        phase, kinds = name.split("_")[0], parents(find_class("dataset", subsection(datasets, name).get("type")))
        if "RealESRGANDataset" in kinds and phase != "train":
            text = "makes no LR images; take type: PairedImageDataset"
            report.error(("datasets", name, "type"), text, datasets[name]["type"])
        if train and name != "train" and phase != "val":
            report.error(("datasets", name), "a training run takes train, val, val_2, ...; rename it")
        elif not train and phase not in ("test", "val"):
            text = "a test run takes test_1, test_2, ...; rename it, or use `basicsr train`"
            report.error(("datasets", name), text)
    if train and subsection(datasets, "train").get("type") == "SingleImageDataset":
        report.error((*_TRAIN, "type"), "has no HR images to learn from; take PairedImageDataset", "SingleImageDataset")
    if train and any(name.startswith("val") for name in datasets) and not isinstance(opt.get("val"), dict):
        report.warn(("val",), "is missing, so nothing is validated; add val: {val_freq: 5000, save_img: false}")


def _check_degradations(opt: dict[str, Any], data: dict[str, Any], report: Report) -> None:
    """Check the data and keys of models that make LR images (models/realesrnet_model.py)."""
    kind, model = find_class("dataset", data.get("type")), find_class("model", opt.get("model_type"))
    degrades, has_kernels = makes_lr(opt), "RealESRGANDataset" in parents(kind)
    is_ours = "RealRGTModel" in parents(model)
    if has_kernels and not degrades and is_known(model):
        text = "makes no LR images; set model_type: RealRGTModel, or take type: PairedImageDataset"
        report.error((*_TRAIN, "type"), text, data["type"])
    elif degrades and not has_kernels and is_known(kind) and not (is_ours and opt.get("degradation") == "photo"):
        text = f"makes no blur kernels for {opt['model_type']}; take type: RealESRGANDataset"
        other = "degradation: photo" if is_ours else "high_order_degradation: false"
        report.error((*_TRAIN, "type"), f"{text}, or {other}", data["type"])
    if has_kernels:
        _check_kernels(data, report)
    train = subsection(opt, "train")
    if "RealRGTGANModel" in parents(model) and train.get("ldl_opt"):
        report.error(("train", "ldl_opt"), "RealRGTGANModel has no such loss; remove it")
    if "RealESRGANModel" in parents(model) and train.get("ldl_opt") and not train.get("ema_decay"):
        # models/realesrgan_model.py:211
        report.error(("train", "ldl_opt"), "needs averaged weights; set train:ema_decay: 0.999")
    if not degrades:
        return
    is_photo = is_ours and opt.get("degradation") == "photo"
    for name in sorted(REAL_ONLY & opt.keys()) if is_photo else ():
        report.error((name,), "is not read with degradation: photo; remove it, or set degradation: real", opt[name])
    for name in ("resize_prob", "resize_prob2"):
        _check_draw((name,), opt.get(name), report)
    queue, batch = opt.get("queue_size", QUEUE["photo" if is_photo else "real"]), data.get("batch_size_per_gpu")
    gpus = opt.get("num_gpu")
    if isinstance(batch, int) and isinstance(gpus, int):  # in one process several GPUs share a batch
        batch *= max(1, min(gpus, torch.cuda.device_count()))
    if isinstance(queue, int) and isinstance(batch, int) and 0 < queue < batch:
        report.error(("queue_size",), f"is smaller than the batch of {batch}; take {batch} or more", queue)
    network, size, scale = subsection(opt, "network_g"), opt.get("gt_size"), opt.get("scale")
    if (channels := network.get("in_chans", network.get("num_in_ch", 3))) != 3:
        text = f"takes {channels} channels, and {opt['model_type']} degrades images in colour; take a network of 3"
        report.error(("network_g",), text)
    if isinstance(size, int) and isinstance(given := data.get("gt_size"), int) and not has_kernels and given < size:
        report.error(("gt_size",), f"is over {given}, the datasets:train:gt_size; remove one of the two", size)
    if not has_kernels or not isinstance(scale, int) or report.is_faulty(("scale",)):
        return
    if size is None and is_ours:
        report.error(("gt_size",), "is missing, and RealESRGANDataset's images have 400×400 pixels; add gt_size: 256")
    if _MADE % scale:
        report.error(("scale",), f"does not divide {_MADE}, the side of RealESRGANDataset's images; take 4", scale)
    elif isinstance(size, int) and size > _MADE:
        text = f"is over {_MADE}, the side of RealESRGANDataset's images; take {_MADE} or less"
        report.error(("gt_size",), text, size)


def _check_kernels(data: dict[str, Any], report: Report) -> None:
    """Check the blur kernels of RealESRGANDataset (data/degradations.py:327)."""
    for order in ("", "2"):
        kinds, weights, sigmas = (
            data.get(name, KERNELS[name].default)
            for name in (f"kernel_list{order}", f"kernel_prob{order}", f"blur_sigma{order}")
        )
        path = (*_TRAIN, f"kernel_prob{order}")
        is_faulty = report.is_faulty((*_TRAIN, f"kernel_list{order}"))
        if isinstance(kinds, list) and isinstance(weights, list) and len(kinds) != len(weights) and not is_faulty:
            text = f"has {len(weights)} numbers for the {len(kinds)} names of kernel_list{order}; give each name one"
            report.error(path, text, weights)
        _check_draw(path, weights, report)
        if isinstance(sigmas, list) and len({*map(str, sigmas)}) == 1:  # line 107
            report.error((*_TRAIN, f"blur_sigma{order}"), "expected two different numbers", sigmas)


def _check_draw(path: KeyPath, weights: Any, report: Report) -> None:
    if isinstance(weights, list) and not any(weights):
        report.error(path, "never draws anything; give a number above 0", weights)


def _check_patch(opt: dict[str, Any], data: dict[str, Any], report: Report) -> None:
    path = patch_key(opt)
    size, scale = value_at(opt, path), opt.get("scale", data.get("scale"))
    is_faulty = report.is_faulty(("scale",)) or report.is_faulty(path)
    if not isinstance(size, int) or not isinstance(scale, int) or is_faulty:
        return
    if size % scale:
        report.error(path, f"does not divide by scale {scale}; take {max(size // scale, 1) * scale}", size)
        return
    judge = subsection(opt, "network_d")
    side, judges = judge.get("input_size", 128), parents(find_class("arch", judge.get("type")))
    if "VGGStyleDiscriminator" in judges and side != size:
        report.error(("network_d", "input_size"), f"is {side}, but HR patches are {size}; make both 128, or both 256")
    network = subsection(opt, "network_g")
    stride, recursion, patch = network.get("reduction_stride", 4), network.get("recursion", "auto"), size // scale
    built = find_class("arch", network.get("type"))
    is_named = not report.is_faulty(("network_g", "window_size"))
    if (
        is_named
        and "SwinIR" in parents(built)
        and isinstance(window := network.get("window_size", 7), int)
        and patch % window
    ):
        least = max(patch // window, 1) * window * scale
        report.error(path, f"LR patches of {patch} do not divide by SwinIR's window_size {window}; take {least}", size)
    if not is_rgt(built) or network.get("global_blocks") == "none":
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


def _check_schedule(train: dict[str, Any], report: Report) -> None:
    scheduler, total, path = subsection(train, "scheduler"), train.get("total_iter"), ("train", "scheduler")
    if not isinstance(total, int) or report.is_faulty(path):
        return
    if late := [step for step in scheduler.get("milestones", ()) if step > total]:
        text = f"{late} come after total_iter {total} and change nothing"
        report.warn((*path, "milestones"), text, scheduler["milestones"])
    if "periods" in scheduler and (end := sum(scheduler["periods"])) < total:
        text = f"end at {end}, before total_iter {total}; add a period or train less"
        report.error((*path, "periods"), text, scheduler["periods"])


def _check_logger(opt: dict[str, Any], logger: dict[str, Any], report: Report) -> None:
    """Check that the loggers are installed, and `keep_best` against the metrics that validation computes."""
    wandb, best = subsection(logger, "wandb").get("project"), logger.get("keep_best")
    tensorboard, path = logger.get("use_tb_logger"), ("logger", "wandb", "project")
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        text = "tensorboard is not installed; pip install tensorboard, or false"
        report.error(("logger", "use_tb_logger"), text, True)
    if wandb is not None and not tensorboard:
        report.error(path, "needs use_tb_logger: true; set it, or project: ~", wandb)
    elif wandb is not None and importlib.util.find_spec("wandb") is None:
        report.error(path, "wandb is not installed; pip install wandb, or project: ~", wandb)
    metrics = [name for name, _ in sections(subsection(opt, "val").get("metrics"))]
    if best is not None and best not in metrics:
        held = f"val:metrics has {', '.join(metrics)}" if metrics else "val:metrics is empty"
        report.error(("logger", "keep_best"), f"is not a metric of val:metrics; {held}", best)
    elif best is not None and not any(phase.split("_")[0] == "val" for phase, _ in sections(opt.get("datasets"))):
        report.error(("logger", "keep_best"), "needs a data set to validate on; add datasets:val", best)
