"""scipy.ndimage.filters, deprecated since SciPy 1.8 and gone in SciPy 2.

Where: basicsr/metrics/niqe.py:5 and basicsr/data/data_util.py:275 (`from scipy.ndimage import filters`). What goes
wrong: `import basicsr` ends in ModuleNotFoundError. Delete it once BasicSR takes both functions from scipy.ndimage;
`basicsr-fixed` does so for the first.
"""

from __future__ import annotations

from typing import Any

from rgt_arch.basicsr_compat.fallback_modules import provide


def _names() -> dict[str, Any]:
    from scipy import ndimage

    return {"convolve": ndimage.convolve, "gaussian_filter": ndimage.gaussian_filter}


def install() -> None:
    provide("scipy.ndimage.filters", _names)
