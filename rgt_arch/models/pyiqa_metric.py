"""The metric `type: pyiqa` of option files: any metric of pyiqa, on images as BasicSR's metrics take them."""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from functools import cache
from typing import Any
from unittest import mock

from basicsr.metrics.metric_util import reorder_image
from basicsr.utils import img2tensor
from numpy.typing import NDArray
from torch import Tensor

from rgt_arch.config.metrics import PYIQA, pyiqa_metrics
from rgt_arch.data.loading import seeded
from rgt_arch.errors import UserError
from rgt_arch.torch_files import load_failure

# pyiqa loads weights with `weights_only=False`; this makes torch refuse a file that would run code
_NO_CODE = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"}


def pyiqa(
    img: NDArray[Any],
    img2: NDArray[Any] | None = None,
    *,
    metric: str,
    crop_border: int = 0,
    options: dict[str, Any] | None = None,
    **_: Any,
) -> float:
    """Return a metric of pyiqa for an image and, if it compares, its HR image.

    img, img2: (H, W) or (H, W, C), BGR, from 0 to 255. metric: a name of `pyiqa.list_models()`. crop_border: pixels cut
    off at each side. options: arguments of the metric's network, such as pretrained_model_path. pyiqa chooses the
    device. Random numbers of the caller stay as they are. Raises UserError for weights that cannot be loaded.
    """
    network = load_metric(metric, options)
    images = [img] if img2 is None or network.metric_mode == "NR" else [img, img2]
    with seeded(0, 0):
        return float(network(*(_tensor(image, crop_border) for image in images)))


def prepare(metrics: dict[str, dict[str, Any]]) -> None:
    """Load the networks of all pyiqa metrics in `val:metrics`. Raises UserError if one cannot be loaded."""
    for section in metrics.values():
        if section.get("type") == PYIQA:
            load_metric(section["metric"], section.get("options"))


def load_metric(name: str, options: dict[str, Any] | None = None) -> Any:
    """Return the network of a metric, loaded once. Raises UserError, one line, if that fails."""
    return _load(name, json.dumps(options or {}, sort_keys=True))


@cache
def _load(name: str, options: str) -> Any:
    pyiqa_metrics()  # its error explains a missing package
    from pyiqa import create_metric

    with seeded(0, 0), redirect_stdout(sys.stderr), mock.patch.dict(os.environ, _NO_CODE):
        try:
            return create_metric(name, **json.loads(options))
        except Exception as error:  # a network's constructor can raise anything
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(f"pyiqa's metric {name}: {load_failure(error) or text}") from error


def _tensor(image: NDArray[Any], border: int) -> Tensor:
    """Convert to (1, 3, H, W), RGB in [0, 1]."""
    image = reorder_image(image)
    height, width = image.shape[:2]
    tensor: Tensor = img2tensor(image[border : height - border, border : width - border], bgr2rgb=True, float32=True)
    return (tensor / 255).expand(3, -1, -1)[None]
