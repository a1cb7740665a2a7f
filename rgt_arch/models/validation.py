"""Validation: SR images, with tiles and self-ensemble, and mean metrics; the ranks share the images."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from os import path as osp
from typing import Any, NamedTuple

import torch
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, imwrite, tensor2img
from numpy import ndarray
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from rgt_arch.config.metrics import needs_gt
from rgt_arch.config.settings import ValSettings
from rgt_arch.errors import UsageError, naming
from rgt_arch.files import written_whole
from rgt_arch.inference.tiling import chop_forward, self_ensemble, tiled_forward
from rgt_arch.launchers import gathered
from rgt_arch.models.pyiqa_metric import prepare

_SECONDS_BETWEEN_LINES = 60.0


def predict(network: Callable[[Tensor], Tensor], image: Tensor, val: ValSettings, scale: int) -> Tensor:
    """Return the SR image with the `val` options: whole, in tiles or in the official code's chops, and self-ensembled.

    image: (B, C, H, W) in the network's range. Returns (B, C', H · scale, W · scale).
    """
    forward = network
    if val.tile:
        forward = partial(tiled_forward, network, scale=scale, tile=val.tile.size, overlap=val.tile.overlap)
    elif val.use_chop:
        forward = partial(chop_forward, network, scale=scale)
    return self_ensemble(forward, image) if val.self_ensemble else forward(image)


def fit_channels(image: Tensor, channels: int | None) -> Tensor:
    """Convert between grey and colour for the network: BasicSR reads a grey PNG as three equal channels.

    image: (B, C, H, W). A grey network (channels 1) gets one of three equal channels, a colour network (3) gets a grey
    image three times. Other images are returned unchanged. Raises UsageError for a grey network and a colour image.
    """
    if channels == 1 and image.shape[1] == 3:
        grey = image[:, :1]
        if not torch.equal(grey.expand_as(image), image):
            raise UsageError(
                "network_g takes grey images but these are in colour: set color: y in each data set, or in_chans: 3"
            )
        return grey
    if channels == 3 and image.shape[1] == 1:
        return image.repeat(1, 3, 1, 1)  # not expand: tensor2img clamps in place
    return image


class Results(NamedTuple):
    """Results of `measure`."""

    means: dict[str, float]
    """Name of the metric in the options -> mean over the images."""
    without_gt: set[str]
    """Metrics that were not computed on all images, because GT is missing."""
    failures: list[tuple[str, str, str]]
    """(metric, image, reason): values that the means leave out, because the metric failed or gave nan."""


def measure(
    model: SRModel, dataloader: DataLoader, image_path: Callable[[str], str | None], should_stop: Callable[[], bool]
) -> Results | None:
    """Run the model over a data set, and compute the means of the metrics in the options.

    Each rank runs every world_size-th image. Every rank adds the values of all images in the data set's order, so the
    means equal those of one process to the last bit. Metrics that need GT are skipped for images without GT. A metric
    that fails on an image, or gives nan, is left out for this image.
    image_path: image name -> file to save its SR image to, or None. Returns None if `should_stop` stopped any rank.
    """
    opt, dataset = model.opt, dataloader.dataset.opt  # type: ignore[attr-defined]
    val = opt.get("val") or {}
    metrics: dict[str, dict[str, Any]] = val.get("metrics") or {}
    prepare(metrics)
    rank, world_size = (opt["rank"], opt["world_size"]) if opt["dist"] else (0, 1)
    # [0] values by metric and image, [1] 1 where computed; 0 for images of other ranks. Last row: 1 if a rank stopped
    table = torch.zeros(2, len(metrics) + 1, len(dataloader), dtype=torch.float64)
    without_gt: set[str] = set()
    failures: list[tuple[str, str, str]] = []
    show_bar = bool(val.get("pbar")) and rank == 0
    for number, data in enumerate(_progress(_share(dataloader, rank, world_size), dataset["name"], show_bar)):
        if should_stop():
            table[0, -1, 0] = 1
            break
        image_name = osp.splitext(osp.basename(data["lq_path"][0]))[0]
        pair = _enlarge(model, data, f"{dataset['name']}: {image_name}")
        if (path := image_path(image_name)) is not None:
            with written_whole(path) as beside:
                imwrite(pair["img"], str(beside))
        for row, (metric, metric_opt) in enumerate(metrics.items()):
            if "img2" not in pair and needs_gt(metric_opt):
                without_gt.add(metric)
                continue
            try:
                value, reason = float(calculate_metric(pair, metric_opt)), "nan"
            except Exception as error:  # a metric can raise anything
                value, reason = math.nan, f"{type(error).__name__}: {' '.join(str(error).split())}"
            if math.isnan(value):
                failures.append((metric, image_name, reason))
            else:
                table[:, row, rank + number * world_size] = torch.tensor([value, 1.0], dtype=torch.float64)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # images of many sizes fragment the memory pool
    if world_size > 1:
        table = table.to(model.device)
        torch.distributed.all_reduce(table)
        failures = [failure for those in gathered(failures) for failure in those]
    (*values, stopped), (*computed, _) = table.tolist()
    if any(stopped):
        return None
    counted = zip(metrics, values, computed, strict=True)
    means = {metric: sum(value) / sum(number) for metric, value, number in counted if sum(number)}
    return Results(means, without_gt, failures)


def _enlarge(model: SRModel, data: Mapping[str, Any], where: str) -> dict[str, ndarray]:
    """The SR image, and GT if there is one, as BasicSR's metrics take them. Raises UsageError for unequal sizes."""
    with naming(where):
        model.feed_data(data)
    model.test()
    visuals = model.get_current_visuals()
    del model.lq, model.output
    pair = {"img": tensor2img([visuals["result"]])}
    if "gt" in visuals:
        del model.gt
        pair["img2"] = tensor2img([visuals["gt"]])
        (height, width), (gt_height, gt_width) = pair["img"].shape[:2], pair["img2"].shape[:2]
        if (height, width) != (gt_height, gt_width):
            raise UsageError(
                f"{where}: the network gives {width}×{height} pixels, its GT has {gt_width}×{gt_height}; "
                "crop GT to a multiple of scale and make LQ from that, or check scale and network_g.upscale"
            )
    return pair


def _progress(dataloader: DataLoader, label: str, show_bar: bool) -> Iterator[Any]:
    """Iterate over a loader with a bar (rate, ETA) on a terminal, else with a log line every minute."""
    bar = show_bar and sys.stderr.isatty()
    last = time.monotonic()
    for number, data in enumerate(tqdm(dataloader, desc=label, unit="image", disable=not bar), 1):
        yield data
        if not bar and time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            get_root_logger().info(f"{label}: {number} of {len(dataloader)} images")


def _share(dataloader: DataLoader, rank: int, world_size: int) -> DataLoader:
    """A loader of every world_size-th image, so that a rank reads only the images that it runs."""
    if world_size == 1:
        return dataloader
    return DataLoader(
        Subset(dataloader.dataset, range(rank, len(dataloader), world_size)),
        num_workers=dataloader.num_workers,
        pin_memory=dataloader.pin_memory,
        collate_fn=dataloader.collate_fn,
        generator=dataloader.generator,  # a new iterator draws a number from it, not from the generator of training
    )
