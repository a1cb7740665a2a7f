"""The tables of patches and of fallbacks for BasicSR 1.4.2, and the import hook for them and for our classes.

The patches make BasicSR's own pipelines run RGT safely. They do not change loops, loggers, folders or signals of the
host program. A patch is skipped if the host's BasicSR lacks its name.
"""

from __future__ import annotations

import importlib
import importlib.abc
import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any, NamedTuple

FALLBACKS: dict[str, tuple[str, dict[str, str]]] = {
    # data/degradations.py:8; gone since torchvision 0.17; BasicSR's git HEAD no longer imports it
    "torchvision.transforms.functional_tensor": (
        "torchvision.transforms.functional",
        {"rgb_to_grayscale": "rgb_to_grayscale"},
    ),
    # archs/arch_util.py:6; gone since Python 3.12. TorchVersion is a str that compares as a version, also with +cpu
    "distutils": ("", {}),
    "distutils.version": ("torch.torch_version", {"LooseVersion": "TorchVersion"}),
    # metrics/niqe.py:5, data/data_util.py:275; gone in SciPy 2
    "scipy.ndimage.filters": ("scipy.ndimage", {"convolve": "convolve", "gaussian_filter": "gaussian_filter"}),
}
"""Removed module that BasicSR imports -> the module that has its names today, and {name: name there}."""


class Patch(NamedTuple):
    """One replacement in BasicSR: `name` of `module` becomes the result of the function `make` of `mended`."""

    module: str
    """The module that defines the name."""
    name: str
    """`function` or `Class.attribute`."""
    make: str
    """Name of the function; its argument is the original object. `mended` is imported late, because it needs torch."""


PATCHES = (
    # registry.py:42: a host's own RGT, or a copy of our file, beside this package raises "already registered"
    Patch("basicsr.utils.registry", "Registry._do_register", "keep_first"),
    # options.py:12: CLoader runs !!python/object/apply, and reads 2e-4 as text
    Patch("basicsr.utils.options", "ordered_yaml", "safe_yaml"),
    # base_model.py:18: `num_gpu: 1` means CUDA even on a machine without it
    Patch("basicsr.utils.options", "parse_options", "parse_options_for_this_machine"),
    # file_client.py:112: lmdb 3 refuses to open a path twice in a process; a missing key is a TypeError in NumPy
    Patch("basicsr.utils.file_client", "FileClient._backends", "with_shared_lmdb"),
    # data_util.py:200: looks every name up in a list; the order of pairs is the file system's
    Patch("basicsr.data.data_util", "paired_paths_from_folder", "sorted_pairs"),
    # base_model.py:229, :290, :327: loading may run code; saving writes in place, and a failure leaves half a file
    Patch("basicsr.models.base_model", "torch", "SafeTorch"),
    # base_model.py:98: DistributedDataParallel gets a CUDA device id on a CPU
    Patch("basicsr.models.base_model", "BaseModel.model_to_device", "model_to_device"),
    # realesrgan_dataset.py:54, :61: a folder needs a list of its images, and all values of the kernels must be given
    Patch("basicsr.data.realesrgan_dataset", "RealESRGANDataset.__init__", "hr_images"),
    # img_process_util.py:29: `view` fails on channels-last images, which DiffJPEG gives on CPUs
    Patch("basicsr.utils.img_process_util", "filter2D", "for_any_layout"),
    # realesrnet_model.py:26 and realesrgan_model.py:27: `cuda()` also where there is no GPU, or it is not to be used
    Patch("basicsr.utils.diffjpeg", "DiffJPEG.cuda", "stay"),
    Patch("basicsr.utils.diffjpeg", "DiffJPEG.forward", "follow_input"),
    Patch("basicsr.utils.img_process_util", "USMSharp.cuda", "stay"),
    Patch("basicsr.utils.img_process_util", "USMSharp.forward", "follow_input"),
    # realesrnet_model.py:42, :44 and realesrgan_model.py:43, :45: `cuda()` again; the whole pool is copied in each step
    Patch("basicsr.models.realesrnet_model", "RealESRNetModel._dequeue_and_enqueue", "pool"),
    Patch("basicsr.models.realesrgan_model", "RealESRGANModel._dequeue_and_enqueue", "pool"),
    # train.py:84: resuming asks for the current CUDA device, and loading may run code
    Patch("basicsr.train", "load_resume_state", "load_resume_state"),
)

_MODELS = {"RGTModel": "rgt_arch.models.rgt_model"}
_MODELS |= dict.fromkeys(("RealRGTModel", "RealRGTGANModel"), "rgt_arch.models.real_rgt_model")
OURS = {
    "ARCH_REGISTRY": {"RGT": "rgt_arch.archs.rgt_arch"},
    "DATASET_REGISTRY": {"BicubicDataset": "rgt_arch.data.bicubic_dataset"},
    "METRIC_REGISTRY": {"pyiqa": "rgt_arch.models.pyiqa_metric"},
    "MODEL_REGISTRY": _MODELS,
}
"""Registry -> our classes in it, with their modules."""
REGISTRATIONS = {
    "basicsr.archs": "ARCH_REGISTRY",
    "basicsr.data": "DATASET_REGISTRY",
    "basicsr.metrics": "METRIC_REGISTRY",
    "basicsr.models": "MODEL_REGISTRY",
    "basicsr.train": "MODEL_REGISTRY",  # in case a file of basicsr/models imports us
    # in case one of them is the first to import BasicSR
    **dict.fromkeys(_MODELS.values(), "MODEL_REGISTRY"),
    "rgt_arch.data.bicubic_dataset": "DATASET_REGISTRY",
    "rgt_arch.models.pyiqa_metric": "METRIC_REGISTRY",
}
"""Module -> the registry in which our classes are entered after the module's import."""
_MODULES = {patch.module for patch in PATCHES} | REGISTRATIONS.keys()


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The first finder on sys.meta_path. It patches modules that the other finders find, and makes those of FALLBACKS
    that they do not find."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname not in _MODULES and fullname not in FALLBACKS:
            return None
        others = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in others if spec is not None), None)
        if fullname in FALLBACKS:
            is_package = any(name.startswith(f"{fullname}.") for name in FALLBACKS)
            return spec or ModuleSpec(fullname, self, is_package=is_package)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            execute(module)
            _apply(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def exec_module(self, module: types.ModuleType) -> None:
        """Fill a fallback."""
        home, names = FALLBACKS[module.__name__]
        vars(module).update({name: getattr(importlib.import_module(home), there) for name, there in names.items()})


def install() -> None:
    """Make BasicSR importable; patch it and register our classes when it is imported. Cheap to call again."""
    if any(isinstance(finder, Finder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, Finder())
    for name in _MODULES:
        module = sys.modules.get(name)
        # a file of the host's own BasicSR may import us while BasicSR's packages are half imported
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            _apply(module)
    if "basicsr.utils.registry" in sys.modules:
        register("ARCH_REGISTRY")


def _apply(module: types.ModuleType) -> None:
    for patch in PATCHES:
        if patch.module == module.__name__:
            _replace(module, patch)
    if module.__name__ in REGISTRATIONS:
        register(REGISTRATIONS[module.__name__])


def _replace(module: types.ModuleType, patch: Patch) -> None:
    """Apply a patch, also in BasicSR's modules that have already imported the name."""
    *classes, name = patch.name.split(".")
    owner: Any = module
    for part in classes:
        owner = getattr(owner, part, None)
    original = getattr(owner, name, None)
    if original is None:
        return
    mended = importlib.import_module("rgt_arch.basicsr_compat.mended")
    replacement = getattr(mended, patch.make)(original)
    setattr(owner, name, replacement)
    if classes or isinstance(original, types.ModuleType):
        return
    for other in [other for known, other in sys.modules.items() if known.split(".")[0] == "basicsr"]:
        if getattr(other, name, None) is original:
            setattr(other, name, replacement)


def prefer_ours() -> list[str]:
    """Register our classes in place of a host's, for our commands. Returns a line for each replaced class."""
    return [line for registry in OURS for line in register(registry, replace=True)]


def register(registry: str, replace: bool = False) -> list[str]:
    """Register our classes. A host's class of the same name stays unless `replace`. Returns a line for each replaced
    class."""
    known = getattr(importlib.import_module("basicsr.utils.registry"), registry)._obj_map
    ours = OURS[registry].items()
    if any(module in sys.modules and not hasattr(sys.modules[module], name) for name, module in ours):
        return []  # our module is importing BasicSR; the classes are registered at the end of that import
    replaced = []
    for name, module in ours:
        theirs: Any = known.get(name)
        if theirs is None or replace:
            known[name] = getattr(importlib.import_module(module), name)
            if theirs not in (None, known[name]):
                replaced.append(f"{name} of {theirs.__module__} is replaced by the one of rgt_arch")
    return replaced
