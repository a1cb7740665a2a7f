"""Make BasicSR 1.4.2 importable and safe on today's libraries, and register our classes with it.

This package does not import BasicSR. `install` adds two finders to the import system: `fallbacks` provides modules that
libraries have removed and BasicSR still imports, `patches` patches a BasicSR module right after its import.
"""

from rgt_arch.basicsr_compat.fallbacks import install_fallbacks
from rgt_arch.basicsr_compat.patches import PATCHES, install_patches

__all__ = ["PATCHES", "install"]


def install() -> None:
    """Make BasicSR importable; patch it and register our classes when it is imported. Cheap to call again."""
    install_fallbacks()
    install_patches()
