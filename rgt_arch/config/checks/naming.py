"""The classes a file names: do they exist, and do they take the arguments given."""

from __future__ import annotations

from typing import Any

import torch

from rgt_arch.config.classes import class_names, find_class, signature_section
from rgt_arch.config.loading import KeyPath
from rgt_arch.config.report import Report, suggestion
from rgt_arch.config.tree import sections, subsection
from rgt_arch.errors import UserError

_UNKNOWN = {
    "arch": "no such network class",
    "dataset": "no such data set class",
    "optimizer": "no optimiser of torch.optim that fits training step by step",
    "scheduler": "no such scheduler",
}
_EXAMPLES = {"optimizer": "Adam", "scheduler": "MultiStepLR"}


def check_classes(opt: dict[str, Any], report: Report, is_train: bool) -> None:
    """Report unknown models, networks, data sets, losses, metrics, optimisers and schedulers."""
    _check_name("model", opt.get("model_type"), ("model_type",), report)
    found: list[tuple[str, KeyPath, dict[str, Any]]]
    found = [("arch", (key,), section) for key, section in sections(opt) if key.startswith("network_")]
    found += [("dataset", ("datasets", name), section) for name, section in sections(opt.get("datasets"))]
    metrics = subsection(opt, "val").get("metrics")
    found += [("metric", ("val", "metrics", name), section) for name, section in sections(metrics)]
    for name, section in sections(opt.get("train")) if is_train else ():
        kind = "loss" if name.endswith("_opt") else "optimizer" if name.startswith("optim_") else name
        if kind in ("loss", "optimizer", "scheduler"):
            found.append((kind, ("train", name), section))
    for kind, path, section in found:
        named = section.get("type")
        if kind == "optimizer" and "lr" not in section:
            report.missing((*path, "lr"), "is missing; add 'lr: 2e-4'")
        elif named is not None:
            _check_name(kind, named, (*path, "type"), report)
        elif kind in _EXAMPLES:
            report.missing((*path, "type"), f"is missing; add 'type: {_EXAMPLES[kind]}'")
        elif kind != "dataset" and "type" not in section:  # the tables of data sets require it already
            report.error((*path, "type"), f"is missing; name a class, {suggestion('', class_names(kind))}")
        if kind == "optimizer" and "lr" in section and find_class(kind, named) is not None:
            _check_optimizer(opt, section, path, report)


def _check_name(kind: str, name: Any, path: KeyPath, report: Report) -> None:
    if isinstance(name, str) and find_class(kind, name) is None:
        near = suggestion(name, class_names(kind))
        own = "" if kind in _EXAMPLES else " (a class of your own: --import its module)"
        report.error(path, f"{_UNKNOWN.get(kind, f'no such {kind} class')}; {near}{own}", name)


def _check_optimizer(opt: dict[str, Any], section: dict[str, Any], path: KeyPath, report: Report) -> None:
    """Build the optimiser for parameters of the shapes that networks have (biases, linear layers, convolutions), as the
    model would: that checks names, arguments, ranges and shapes at once."""
    name = section["type"]
    model = find_class("model", opt.get("model_type"))
    known = signature_section(find_class("optimizer", name)).keys
    arguments = {key: value for key, value in section.items() if key != "type" and key in known}
    if model is None or any(report.is_faulty((*path, key)) for key in arguments):
        return
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2,), (2, 2), (2, 2, 1, 1))]
    try:
        # get_optimizer (models/base_model.py:101) uses nothing of the model: one without __init__ will do.
        model.get_optimizer(model.__new__(model), name, parameters, **arguments)
    except NotImplementedError:
        report.error((*path, "type"), f"{model.__name__} knows Adam only; set model_type: RGTModel or type: Adam", name)
    except (ValueError, TypeError, RuntimeError, UserError) as error:
        reason = " ".join(str(error).split()).rpartition("refuses its arguments: ")[2]
        report.error(path, f"{name} refuses its arguments: {reason}; correct them, or take another type")
