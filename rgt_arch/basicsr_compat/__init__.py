"""Everything that makes BasicSR 1.4.2 run on today's stack: one module a seam, installed once by `import rgt_arch`.

A seam replaces a name where BasicSR uses it (`basicsr.train.parse_options`), because `basicsr/__init__` star-imports
its modules, so that names are bound long before anybody could change where they are defined. A name that a host's
BasicSR does not have is left alone.
"""

from __future__ import annotations

from rgt_arch.basicsr_compat import distutils_version, functional_tensor, scipy_filters, working_directory

_installed = False


def is_installed() -> bool:
    """Whether all seams are in place, and BasicSR can be used."""
    return _installed


def install() -> None:
    """Install every seam. Safe and cheap to call again.

    The import-time seams come first, because `import basicsr` needs them. When one of BasicSR's own modules is what
    imports us, BasicSR is only half there: then the other seams wait for the next call (our command and our data
    workers call).
    """
    global _installed
    if _installed:
        return
    functional_tensor.install()
    distutils_version.install()
    scipy_filters.install()
    working_directory.install()

    import basicsr

    if not hasattr(basicsr, "train_pipeline"):
        return
    from rgt_arch.basicsr_compat import behaviour

    behaviour.install()
    _installed = True
