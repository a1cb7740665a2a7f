"""Everything that makes BasicSR 1.4.2 run on today's stack: one module a seam, installed once by `import rgt_arch`."""

import sys
import types


def install() -> None:
    """Install every seam. Safe to call again."""
    if "torchvision.transforms.functional_tensor" not in sys.modules:
        from torchvision.transforms import functional

        module = types.ModuleType("torchvision.transforms.functional_tensor")
        module.rgb_to_grayscale = functional.rgb_to_grayscale  # type: ignore[attr-defined]
        sys.modules[module.__name__] = module
