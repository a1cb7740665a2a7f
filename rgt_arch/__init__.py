"""RGT (Recursive Generalization Transformer, ICLR 2024) for BasicSR: importing it registers RGT and RGTModel."""

import importlib

from rgt_arch import basicsr_compat

basicsr_compat.install()  # before anything else imports BasicSR

from rgt_arch.archs.rgt_arch import RGT, rgt, rgt_s, rgt_t  # noqa: E402
from rgt_arch.inference.upscaler import Upscaler  # noqa: E402
from rgt_arch.version import __version__  # noqa: E402
from rgt_arch.weights import load_model  # noqa: E402

if basicsr_compat.is_installed():  # else one of BasicSR's own modules imports us, before its models exist
    importlib.import_module("rgt_arch.models.rgt_model")  # registers RGTModel

__all__ = ["RGT", "Upscaler", "__version__", "load_model", "rgt", "rgt_s", "rgt_t"]
