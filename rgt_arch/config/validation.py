"""`check_options`: every check of an option file that reads no other files."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from rgt_arch.config.checks.networks import check_network
from rgt_arch.config.checks.structure import check_structure
from rgt_arch.config.checks.training import check_training, check_validation
from rgt_arch.config.loading import sections, subsection
from rgt_arch.config.problems import Report
from rgt_arch.config.tables import INSTEAD

# Characters that are invalid in parts of paths, and in run names, which other operating systems must accept.
_NOT_IN_PATHS = "/\\\n\0"
_NOT_IN_RUN_NAMES = _NOT_IN_PATHS + ':*?"<>|'


def check_options(opt: dict[str, Any], report: Report, *, is_train: bool) -> None:
    """Run every check that reads no files; problems go to `report`.

    Changes `opt` in place where the intention is clear but BasicSR 1.4.2 would fail:
    - numbers and booleans written as text become numbers and booleans, whole numbers such as `!!float 5e3` integers;
      `amp: false` and `tile: false` become `~`;
    - keys of early BasicSR (`use_flip`, `pretrain_model_g`, `strict_load`) get today's names, each with a warning;
    - `num_gpu` becomes the number of GPUs to use, 0 without CUDA, with one warning if the options ask for more;
      on the CPU `pin_memory` and `prefetch_mode: cuda` are switched off;
    - `save_img`, `suffix` and `crop_border` at the top level of a test go to `val` or are dropped, each with a warning;
    - a missing or empty `path:` becomes {}; a missing `logger:use_tb_logger` becomes true if tensorboard is installed;
      in a test a missing or empty `val:` becomes {save_img: true}, and a missing `val:suffix` becomes `~`;
    - a missing `find_unused_parameters` becomes true if training patches are too small for RG-SA to recurse: its unused
      weights would stop DistributedDataParallel.
    """
    _fill_in(opt, report, is_train)
    check_structure(opt, report, is_train)
    check_network(opt, report)
    if is_train:
        check_training(opt, report)
    check_validation(opt, report, is_train)
    _check_names(opt, report, is_train)
    _settle_devices(opt, report)


def _fill_in(opt: dict[str, Any], report: Report, is_train: bool) -> None:
    """Set optional keys that BasicSR looks up unconditionally, and move keys of early test files to `val`."""
    if opt.get("path") in (None, False):
        opt["path"] = {}
    if is_train:
        if isinstance(opt.get("logger"), dict):
            opt["logger"].setdefault("use_tb_logger", importlib.util.find_spec("tensorboard") is not None)
        return
    moved = {key: opt.pop(key) for key in ("save_img", "suffix") if key in opt}
    for key in moved:
        report.warn((key,), f"is read as val:{key} if that is missing; move it there")
    if opt.pop("crop_border", None) is not None:
        report.warn(("crop_border",), f"is not read; {INSTEAD['crop_border']}")
    if opt.get("val") in (None, False):
        opt["val"] = {"save_img": True, "suffix": None, **moved}  # test.py:42
    elif isinstance(opt["val"], dict):
        opt["val"] = {"suffix": None, **moved, **opt["val"]}  # models/sr_model.py:177


def _check_names(opt: dict[str, Any], report: Report, is_train: bool) -> None:
    """Check that names used in paths do not lead out of the run's folder."""
    remedy = "use letters, digits, - and _"
    owners: dict[str, str] = {}
    for phase, data in sections(opt.get("datasets")):
        if not _is_folder_name(data.get("name"), _NOT_IN_PATHS):
            text = f"is the name of a folder of results; {remedy}"
            report.error(("datasets", phase, "name"), text, data["name"])
        elif phase != "train" and (other := owners.setdefault(str(data.get("name", phase)), phase)) != phase:
            text = f"is the name of datasets:{other} too, and results are kept by name; give it another"
            report.error(("datasets", phase, "name"), text, data["name"])
    suffix, name = subsection(opt, "val").get("suffix"), opt.get("name")
    if isinstance(suffix, str) and set(suffix) & set(_NOT_IN_PATHS):
        report.error(("val", "suffix"), f"ends the names of images; {remedy}", suffix)
    if not _is_folder_name(name, _NOT_IN_RUN_NAMES):
        report.error(("name",), f"is the name of a folder and a log file; {remedy}", name)
    elif is_train and "debug" in (name or ""):
        report.warn(("name",), "contains 'debug': BasicSR validates and saves every 8 steps and logs each one", name)


def _is_folder_name(name: Any, refused: str) -> bool:
    """Whether text is a valid folder name. True for other values, which other checks report."""
    return not isinstance(name, str) or bool(name.strip() and name not in (".", "..") and not set(name) & set(refused))


def usable_gpus() -> int:
    """Return the number of GPUs that PyTorch can use, 0 without CUDA."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _settle_devices(opt: dict[str, Any], report: Report) -> None:
    """Limit `num_gpu` to the GPUs of this machine, with one warning if the options ask for more. On the CPU, switch off
    data-loading options that need a GPU."""
    wanted, present = opt.get("num_gpu"), usable_gpus()
    if wanted == "auto":
        opt["num_gpu"] = present
    elif isinstance(wanted, int) and wanted > present:
        what = (
            f"only {present} GPUs are usable, so the run uses these"
            if present
            else "no CUDA GPU is usable, so the run uses the CPU"
        )
        report.warn(("num_gpu",), f"{what} (set num_gpu: {present} to avoid this warning)", wanted)
        opt["num_gpu"] = present
    if opt.get("num_gpu") == 0:
        for _, data in sections(opt.get("datasets")):
            if data.get("pin_memory"):
                data["pin_memory"] = False
            if data.get("prefetch_mode") == "cuda":
                data["prefetch_mode"] = None
