"""distutils.version.LooseVersion, which left the standard library with Python 3.12.

Where: basicsr/archs/arch_util.py:6 (and line 231, its only use: is torchvision at least 0.9.0?). What goes wrong:
without setuptools in the environment `import basicsr` ends in ModuleNotFoundError. Delete it once BasicSR no longer
imports distutils.
"""

from __future__ import annotations

from typing import Any

from rgt_arch.basicsr_compat.fallback_modules import provide


def _names() -> dict[str, Any]:
    from torch.torch_version import TorchVersion  # a str that compares as a version; it knows suffixes such as +cpu

    return {"LooseVersion": TorchVersion}


def install() -> None:
    provide("distutils", dict)
    provide("distutils.version", _names)
