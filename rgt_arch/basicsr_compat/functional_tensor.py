"""torchvision.transforms.functional_tensor, which BasicSR imports and torchvision 0.17 dropped.

Where: basicsr/data/degradations.py:8. What goes wrong: `import basicsr` ends in ModuleNotFoundError. Delete it once no
supported BasicSR imports the module; BasicSR's git HEAD and `basicsr-fixed` already take the function from
torchvision.transforms.functional.
"""

from __future__ import annotations

from typing import Any

from rgt_arch.basicsr_compat.fallback_modules import provide


def _names() -> dict[str, Any]:
    from torchvision.transforms import functional

    return {"rgb_to_grayscale": functional.rgb_to_grayscale}


def install() -> None:
    provide("torchvision.transforms.functional_tensor", _names)
