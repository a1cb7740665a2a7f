"""The classes a file names: do they exist, and do they take the arguments given."""

from __future__ import annotations

from typing import Any

from rgt_arch.config.classes import (
    SCHEDULERS,
    class_names,
    find_class,
    optimizer_class,
    optimizers,
    signature_section,
)
from rgt_arch.config.loading import KeyPath
from rgt_arch.config.report import Report, suggestion
from rgt_arch.config.tree import sections, subsection
from rgt_arch.errors import UserError


def check_classes(opt: dict[str, Any], report: Report, is_train: bool) -> None:
    """Report unknown models, networks, data sets, losses, metrics, optimisers and schedulers."""
    _registered("model", opt.get("model_type"), ("model_type",), report)
    for key, section in opt.items():
        if key.startswith("network_"):
            _typed("arch", section, (key,), report)
    for name, section in sections(opt.get("datasets")):
        _typed("dataset", section, ("datasets", name), report)
    for name, section in sections(subsection(opt, "val").get("metrics")):
        _typed("metric", section, ("val", "metrics", name), report)
    if is_train:
        train = subsection(opt, "train")
        for name, section in sections(train):
            if name.endswith("_opt"):
                _typed("loss", section, ("train", name), report)
            elif name.startswith("optim_"):
                _check_optimizer(opt, section, ("train", name), report)
        _check_scheduler(train.get("scheduler"), report)


def _typed(kind: str, section: Any, path: KeyPath, report: Report) -> None:
    if not isinstance(section, dict):
        return  # reported as a wrong type
    if "type" in section:
        _registered(kind, section["type"], (*path, "type"), report)
    elif kind not in ("dataset",):  # the tables of data sets require it already
        report.error((*path, "type"), f"is missing; name a class, {suggestion('', class_names(kind))}")


def _registered(kind: str, name: Any, path: KeyPath, report: Report) -> None:
    if isinstance(name, str) and find_class(kind, name) is None:
        what = {"arch": "network", "dataset": "data set"}.get(kind, kind)
        report.error(
            path,
            f"no such {what} class; {suggestion(name, class_names(kind))} (a class of your own: --import its module)",
            name,
        )


def _check_optimizer(opt: dict[str, Any], section: dict[str, Any], path: KeyPath, report: Report) -> None:
    """Build the optimiser for parameters of the shapes that networks have (biases, linear layers, convolutions), as the
    model would: that tells names, arguments, ranges and shapes at once."""
    name = section.get("type")
    if "lr" not in section:
        report.missing((*path, "lr"), "is missing; add 'lr: 2e-4'")
        return
    if optimizer_class(name) is None:
        if name is None:
            report.missing((*path, "type"), "is missing; add 'type: Adam'")
        else:
            report.error(
                (*path, "type"),
                f"no optimiser of torch.optim that fits training step by step; {suggestion(str(name), optimizers())}",
                name,
            )
        return
    model = find_class("model", opt.get("model_type"))
    known = signature_section(optimizer_class(name)).keys
    arguments = {key: value for key, value in section.items() if key != "type" and key in known}
    if model is None or any(report.is_faulty((*path, key)) for key in arguments):
        return
    import torch

    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2,), (2, 2), (2, 2, 1, 1))]
    try:
        # get_optimizer (models/base_model.py:101) uses nothing of the model: one without __init__ will do.
        model.get_optimizer(model.__new__(model), name, parameters, **arguments)
    except NotImplementedError:
        report.error((*path, "type"), f"{model.__name__} knows Adam only; set model_type: RGTModel or type: Adam", name)
    except (ValueError, TypeError, RuntimeError, UserError) as error:
        report.error(path, f"{name} refuses its arguments: {_reason(error)}; correct them, or take another type")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rpartition("refuses its arguments: ")[2]


def _check_scheduler(section: Any, report: Report) -> None:
    if not isinstance(section, dict):
        return
    name = section.get("type")
    path = ("train", "scheduler", "type")
    if name is None:
        report.error(path, "is missing; add 'type: MultiStepLR'")
    elif name not in SCHEDULERS:
        report.error(path, f"no such scheduler; {suggestion(str(name), SCHEDULERS)}", name)
