"""RGT (Recursive Generalization Transformer, ICLR 2024) as a BasicSR plugin: importing it registers RGT and RGTModel."""

from rgt_arch import basicsr_compat

basicsr_compat.install()  # before anything else imports BasicSR

from rgt_arch.version import __version__  # noqa: E402

__all__ = ["__version__"]
