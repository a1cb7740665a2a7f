"""Lets BasicSR 1.4.2 be imported and used safely on today's libraries, and registers our classes with it.

Nothing of BasicSR is imported here. `install` adds two finders to the import system: `fallbacks` provides modules that
libraries have dropped and BasicSR still imports, `patches` patches a BasicSR module right after its import.
"""

from rgt_arch.basicsr_compat.fallbacks import install_fallbacks
from rgt_arch.basicsr_compat.patches import PATCHES, install_patches

__all__ = ["PATCHES", "install"]


def install() -> None:
    """Make BasicSR importable, and mend it and register our classes when it is imported. Cheap to call again."""
    install_fallbacks()
    install_patches()
