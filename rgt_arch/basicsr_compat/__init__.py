"""Make BasicSR 1.4.2 importable and safe on today's libraries, and register our classes with it.

This package does not import BasicSR. `install` adds a finder to the import system.
"""

from rgt_arch.basicsr_compat.patches import PATCHES, install

__all__ = ["PATCHES", "install"]
