"""Replacements that `patches` puts into BasicSR's modules; its table PATCHES gives place and reason."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import types
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from rgt_arch.config.loading import OptionLoader, Options
from rgt_arch.config.tables import KERNELS
from rgt_arch.data.lmdb_reader import SharedLmdbBackend
from rgt_arch.data.pair_pool import exchange_with_pool
from rgt_arch.data.pairing import list_images, lmdb_key, pairs_from_folders
from rgt_arch.errors import UserError
from rgt_arch.torch_files import SAFETENSORS, load_data_only, save_whole
from rgt_arch.weights.inspecting import is_rgt
from rgt_arch.weights.reading import PLAIN, read_checkpoint

# torch 2.15 renamed the argument; the old name warns there. Otherwise DDP would broadcast buffers in the
# forward of validation on rank 0, which the other ranks do not run.
_RENAMED = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
_NO_BUFFER_SYNC: dict[str, Any] = {"forward_sync_buffers" if _RENAMED else "broadcast_buffers": False}


def keep_first(original: Callable[..., None]) -> Callable[..., None]:
    """Return a Registry._do_register that keeps the first of two classes of the same name if one of them is ours."""

    def _do_register(registry: Any, name: str, obj: Any, *suffix: str | None) -> None:
        known = registry._obj_map.get("_".join([name, *(part for part in suffix if isinstance(part, str))]))
        if known is None or "rgt_arch" not in {str(cls.__module__).split(".")[0] for cls in (known, obj)}:
            original(registry, name, obj, *suffix)
        elif known is not obj and known.__module__ != obj.__module__:
            logging.getLogger("rgt_arch").warning(
                "%s is registered by %s; the one of %s is not used", name, known.__module__, obj.__module__
            )

    return _do_register


def safe_yaml(original: Callable[[], Any]) -> Callable[[], tuple[Any, Any]]:
    """Return an `ordered_yaml` whose loader builds plain data only, and reads 2e-4 as a number."""
    return lambda: (OptionLoader, original()[1])


def parse_options_for_this_machine(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `parse_options` whose options do not use a GPU if the machine has none."""

    def parse_options(root_path: str, is_train: bool = True) -> tuple[Options, Any]:
        opt, arguments = original(root_path, is_train=is_train)
        if not torch.cuda.is_available():
            opt["num_gpu"] = 0
            for dataset in opt["datasets"].values():
                dataset["pin_memory"] = False
                if dataset.get("prefetch_mode") == "cuda":
                    dataset["prefetch_mode"] = None
        return opt, arguments

    return parse_options


def with_shared_lmdb(original: dict[str, Any]) -> dict[str, Any]:
    """Return BasicSR's storage backends, with our LMDB backend."""
    return {**original, "lmdb": SharedLmdbBackend}


def sorted_pairs(original: Callable[..., Any]) -> Callable[..., list[dict[str, str]]]:
    """Return a `paired_paths_from_folder` of linear time. Pairs are in the order of an LMDB of the same images."""

    @functools.wraps(original, assigned=())
    def paired_paths(folders: Sequence[str], keys: Sequence[str], filename_tmpl: str) -> list[dict[str, str]]:
        (lq, gt), (lq_key, gt_key) = folders, keys
        names = list_images(Path(gt)), list_images(Path(lq))
        pairs = pairs_from_folders(*names, Path(gt), Path(lq), filename_tmpl)
        pairs.sort(key=lambda pair: lmdb_key(PurePath(pair.name)))
        return [{f"{lq_key}_path": str(pair.lq), f"{gt_key}_path": str(pair.gt)} for pair in pairs]

    return paired_paths


class SafeTorch(types.ModuleType):
    """`torch` for a BasicSR module: `load` does not run code, and `save` writes atomically."""

    def __init__(self, _original: Any) -> None:
        super().__init__("torch")

    @staticmethod
    def load(path: Any, map_location: Any = "cpu", **_: Any) -> Any:
        """The content of a file, with all weights that `read_checkpoint` finds under their names, and an RGT's without
        prefixes; weights of a safetensors file under `params`, as BasicSR writes them."""
        checkpoint = read_checkpoint(path)
        if checkpoint.kind == SAFETENSORS:
            return {"params": checkpoint.state_dict()}
        content: dict[str, Any] = load_data_only(path, map_location)
        named = {key: weights for key, weights in checkpoint.weights.items() if key != PLAIN}
        ours = {key: weights for key, weights in checkpoint.weights.items() if is_rgt(weights)}
        return {**named, **ours.pop(PLAIN, content), **ours}

    @staticmethod
    def save(value: Any, path: str | os.PathLike[str]) -> None:
        """Raise OSError on failure; BasicSR tries three times, then only warns."""
        try:
            save_whole(value, path)
        except UserError as error:
            raise OSError(str(error)) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def model_to_device(_original: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return a `BaseModel.model_to_device` for CPUs and GPUs."""

    def to_device(self: Any, net: nn.Module) -> nn.Module:
        net = net.to(self.device)
        if self.opt["dist"]:
            return DistributedDataParallel(
                net,
                device_ids=[torch.cuda.current_device()] if self.device.type == "cuda" else None,
                **_NO_BUFFER_SYNC,
                find_unused_parameters=self.opt.get("find_unused_parameters", False),
            )
        return DataParallel(net) if self.opt["num_gpu"] > 1 else net

    return to_device


def load_resume_state(_original: Callable[[Options], Any]) -> Callable[[Options], dict[str, Any] | None]:
    """Return a `load_resume_state` that loads BasicSR's choice of state onto the CPU."""

    def load(opt: Options) -> dict[str, Any] | None:
        from basicsr.utils import check_resume

        if opt["auto_resume"]:
            states = Path("experiments", opt["name"], "training_states").glob("*.state")
            newest = max((state for state in states if state.stem.isdigit()), key=lambda s: int(s.stem), default=None)
            opt["path"]["resume_state"] = opt["path"].get("resume_state") if newest is None else str(newest)
        if not opt["path"].get("resume_state"):
            return None
        state = load_data_only(opt["path"]["resume_state"])
        check_resume(opt, state["iter"])
        return state

    return load


def hr_images(original: Callable[..., None]) -> Callable[..., None]:
    """Return a `RealESRGANDataset.__init__` that reads folders without a list, and has values for the blur kernels."""

    def init(self: Any, opt: Options) -> None:
        opt = {name: spec.default for name, spec in KERNELS.items()} | opt
        is_listed = opt.get("meta_info") is not None or opt["io_backend"]["type"] == "lmdb"
        original(self, opt if is_listed else {**opt, "meta_info": os.devnull})
        if not is_listed:
            folder = Path(opt["dataroot_gt"])
            self.paths = [str(folder / name) for name in list_images(folder)]

    return init


def for_any_layout(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return a `filter2D` for images of every memory layout."""
    return lambda img, kernel: original(img.contiguous(), kernel)


def stay(_original: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return a `cuda` that leaves a module where it is."""
    return lambda self, device=None: self


def follow_input(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return a `forward` that first moves the module to the device of its input."""
    return lambda self, img, *args, **kwargs: original(self.to(img.device), img, *args, **kwargs)


def pool(_original: Callable[..., None]) -> Callable[..., None]:
    """Return a `_dequeue_and_enqueue` for every device."""
    return exchange_with_pool
