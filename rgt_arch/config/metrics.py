"""Facts about the metrics of option files: BasicSR's, and those of pyiqa (extra `metrics`) under `type: pyiqa`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from rgt_arch.config.classes import find_class
from rgt_arch.errors import UsageError

PYIQA = "pyiqa"
_OF_SETS = ("fid", "sfid", "fid_dinov2", "inception_score")  # they compare folders, not images


@cache
def pyiqa_metrics() -> Mapping[str, Mapping[str, Any]]:
    """Return pyiqa's metrics of images by name, with `metric_mode` (FR compares with HR) and `lower_better`.

    Raises UsageError if pyiqa cannot be imported.
    """
    try:
        from pyiqa.default_model_configs import DEFAULT_CONFIGS
    except ImportError as error:
        raise UsageError(f"pyiqa is not installed ({error}); pip install 'rgt-arch[metrics]'") from error
    return {name: facts for name, facts in DEFAULT_CONFIGS.items() if name not in _OF_SETS}


def needs_gt(section: Mapping[str, Any]) -> bool:
    """Whether a metric of `val:metrics` compares with HR: PSNR, SSIM and LPIPS, not NIQE. False for unknown ones."""
    if section.get("type") == PYIQA:
        return pyiqa_metrics().get(str(section.get("metric")), {}).get("metric_mode") == "FR"
    metric = find_class("metric", section.get("type"))
    parameter = inspect.signature(metric).parameters.get("img2") if metric else None
    return parameter is not None and parameter.default is inspect.Parameter.empty
