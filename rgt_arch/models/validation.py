"""Validation over ranks: images shared out, exact means, BasicSR's metrics, image naming and logging."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Iterator, Mapping
from os import path as osp
from typing import TYPE_CHECKING, Any

import cv2
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import get_root_logger, imwrite, tensor2img
from basicsr.utils.registry import METRIC_REGISTRY
from numpy import ndarray
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from rgt_arch.basicsr_compat import stopping
from rgt_arch.errors import UsageError
from rgt_arch.files import written_whole

if TYPE_CHECKING:
    from rgt_arch.models.rgt_model import RGTModel

_SECONDS_BETWEEN_LINES = 60.0


def validate(model: RGTModel, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool) -> bool:
    """Run the model over a data set, save images and log the metrics' means, as SRModel.nondist_validation does.

    Each rank runs every world_size-th image; the values of all images are added up in the data set's order on every
    rank, so the means are those of one process to the last bit. Metrics that need GT are left out where there is none.
    Sets `model.metric_results` and updates `model.best_metric_results`. Returns whether it came to its end; it does not
    where a signal asks the run to end.
    """
    opt, dataset_name, count = model.opt, model.dataset_name(dataloader), len(dataloader)
    val = opt.get("val") or {}
    metrics: dict[str, dict[str, Any]] = val.get("metrics") or {}
    rank, world_size = (opt["rank"], opt["world_size"]) if opt["dist"] else (0, 1)
    # values and whether there is one; zeros where other ranks have the image
    table = torch.zeros(2, len(metrics), count, dtype=torch.float64)
    without_gt: set[str] = set()

    images = progress(_share(dataloader, rank, world_size), dataset_name, bool(val.get("pbar")) and rank == 0)
    for number, data in enumerate(images):
        if stopping.asked():
            break
        image_name = osp.splitext(osp.basename(data["lq_path"][0]))[0]
        model.feed_data(data)
        model.test()
        visuals = model.get_current_visuals()
        del model.lq, model.output
        pair = {"img": tensor2img([visuals["result"]])}
        if "gt" in visuals:
            del model.gt
            pair["img2"] = tensor2img([visuals["gt"]])
        if save_img:
            _write_image(pair["img"], _image_path(opt, dataset_name, image_name, current_iter))
        for row, (metric, metric_opt) in enumerate(metrics.items()):
            if "img2" in pair:
                _check_sizes(pair, f"{dataset_name}: {image_name}")
            elif _needs_gt(metric_opt):
                without_gt.add(metric)
                continue
            table[:, row, rank + number * world_size] = torch.tensor([calculate_metric(pair, metric_opt), 1.0])
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # images of many sizes leave the pool in pieces

    # images that others share out, as `rgt table` does, are no common work of the ranks
    if stopping.agreed(model.device) if world_size > 1 else stopping.asked():
        return False

    if without_gt:
        model.warn_once(
            f"{dataset_name}: {', '.join(sorted(without_gt))} left out, because there are images without GT"
        )
    if not metrics:
        return True
    if world_size > 1:
        table = table.to(model.device)
        torch.distributed.all_reduce(table)
    values, there = table.tolist()
    model.metric_results = {
        metric: sum(value) / sum(number)
        for metric, value, number in zip(metrics, values, there, strict=True)
        if sum(number)
    }
    model._initialize_best_metric_results(dataset_name)
    for metric, value in model.metric_results.items():
        model._update_best_metric_result(dataset_name, metric, value, current_iter)
    model._log_validation_metric_values(current_iter, dataset_name, tb_logger)
    return True


def progress(dataloader: DataLoader, label: str, show_bar: bool) -> Iterator[Any]:
    """Go through a loader with a bar (rate, ETA) on a terminal, else with a log line a minute."""
    bar = show_bar and sys.stderr.isatty()
    last = time.monotonic()
    with tqdm(dataloader, desc=label, unit="image", disable=not bar) as images:
        for number, data in enumerate(images, 1):
            yield data
            if not bar and time.monotonic() - last > _SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                get_root_logger().info(f"{label}: {number} of {len(dataloader)} images")


def _share(dataloader: DataLoader, rank: int, world_size: int) -> DataLoader:
    """A loader of every world_size-th image, so that no rank reads images that it does not run."""
    if world_size == 1:
        return dataloader
    subset = Subset(dataloader.dataset, range(rank, len(dataloader), world_size))
    return DataLoader(
        subset,
        num_workers=dataloader.num_workers,
        pin_memory=dataloader.pin_memory,
        collate_fn=dataloader.collate_fn,
        generator=dataloader.generator,  # a new iterator draws from it, and not from the one that training uses
    )


def _image_path(opt: Mapping[str, Any], dataset_name: str, image_name: str, current_iter: int | str) -> str:
    """Where BasicSR saves an SR image (models/sr_model.py:172-183)."""
    folder = opt["path"]["visualization"]
    if opt["is_train"]:
        return osp.join(folder, image_name, f"{image_name}_{current_iter}.png")
    return osp.join(folder, dataset_name, f"{image_name}_{(opt.get('val') or {}).get('suffix') or opt['name']}.png")


def _write_image(image: ndarray, path: str) -> None:
    with written_whole(path) as beside:
        try:
            imwrite(image, str(beside))
        except cv2.error as error:
            raise OSError(str(error)) from error


def _needs_gt(metric_opt: Mapping[str, Any]) -> bool:
    """Whether a metric has an argument `img2` without default (PSNR, SSIM; not NIQE)."""
    parameter = inspect.signature(METRIC_REGISTRY.get(metric_opt["type"])).parameters.get("img2")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def _check_sizes(pair: Mapping[str, ndarray], where: str) -> None:
    (height, width), (gt_height, gt_width) = pair["img"].shape[:2], pair["img2"].shape[:2]
    if (height, width) != (gt_height, gt_width):
        raise UsageError(
            f"{where}: the network gives {width}×{height} pixels, its GT has {gt_width}×{gt_height}; "
            "crop GT to a multiple of scale and make LQ from that, or check scale and network_g.upscale"
        )
