"""RGT (Recursive Generalization Transformer, ICLR 2024) as a BasicSR plugin: importing it registers RGT and RGTModel."""

from rgt_arch import basicsr_compat

basicsr_compat.install()  # before anything else imports BasicSR

from rgt_arch.archs.rgt_arch import RGT, rgt, rgt_s, rgt_t  # noqa: E402
from rgt_arch.version import __version__  # noqa: E402

__all__ = ["RGT", "__version__", "rgt", "rgt_s", "rgt_t"]
