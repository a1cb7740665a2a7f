"""Measuring a model on a data set, over ranks: images shared out, exact means, BasicSR's metrics."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from os import path as osp
from typing import Any, NamedTuple

import cv2
import torch
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, imwrite, tensor2img
from basicsr.utils.registry import METRIC_REGISTRY
from numpy import ndarray
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from rgt_arch.errors import UsageError
from rgt_arch.files import written_whole

_SECONDS_BETWEEN_LINES = 60.0


class Results(NamedTuple):
    """What `measure` found."""

    means: dict[str, float]
    """By the name of the metric in the options."""
    without_gt: set[str]
    """Metrics that were not computed on all images, because GT is missing."""


def measure(
    model: SRModel, dataloader: DataLoader, image_path: Callable[[str], str | None], should_stop: Callable[[], bool]
) -> Results | None:
    """Run the model over a data set, and compute the means of the metrics that its options name.

    Each rank runs every world_size-th image; the values of all images are added up in the data set's order on every
    rank, so the means are those of one process to the last bit. Metrics that need GT are left out where there is none.
    image_path: where to save the SR image of a name, or None. Returns None where `should_stop` stopped any rank.
    """
    opt = model.opt
    dataset: Any = dataloader.dataset
    val = opt.get("val") or {}
    metrics: dict[str, dict[str, Any]] = val.get("metrics") or {}
    rank, world_size = (opt["rank"], opt["world_size"]) if opt["dist"] else (0, 1)
    # for each image the values and whether there is one, zeros where other ranks have the image; last, who has stopped
    table = torch.zeros(2, len(metrics) + 1, len(dataloader), dtype=torch.float64)
    without_gt: set[str] = set()
    show_bar = bool(val.get("pbar")) and rank == 0
    for number, data in enumerate(_progress(_share(dataloader, rank, world_size), dataset.opt["name"], show_bar)):
        if should_stop():
            table[0, -1, 0] = 1
            break
        image_name = osp.splitext(osp.basename(data["lq_path"][0]))[0]
        pair = _enlarge(model, data)
        if (path := image_path(image_name)) is not None:
            _write_image(pair["img"], path)
        if "img2" in pair:
            _check_sizes(pair, f"{dataset.opt['name']}: {image_name}")
        for row, (metric, metric_opt) in enumerate(metrics.items()):
            if "img2" not in pair and _needs_gt(metric_opt):
                without_gt.add(metric)
            else:
                table[:, row, rank + number * world_size] = torch.tensor([calculate_metric(pair, metric_opt), 1.0])
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # images of many sizes leave the pool in pieces
    if world_size > 1:
        table = table.to(model.device)
        torch.distributed.all_reduce(table)
    (*values, stopped), (*there, _) = table.tolist()
    if any(stopped):
        return None
    counted = zip(metrics, values, there, strict=True)
    return Results({metric: sum(value) / sum(number) for metric, value, number in counted if sum(number)}, without_gt)


def _enlarge(model: SRModel, data: Mapping[str, Any]) -> dict[str, ndarray]:
    """The model's image, and GT where there is one, as BasicSR's metrics take them."""
    model.feed_data(data)
    model.test()
    visuals = model.get_current_visuals()
    del model.lq, model.output
    pair = {"img": tensor2img([visuals["result"]])}
    if "gt" in visuals:
        del model.gt
        pair["img2"] = tensor2img([visuals["gt"]])
    return pair


def _progress(dataloader: DataLoader, label: str, show_bar: bool) -> Iterator[Any]:
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
