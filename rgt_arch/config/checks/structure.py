"""Checks of each section: unknown, misspelt and missing keys, wrong types, unknown classes and wrong arguments.

Values are converted to the types of their keys.
"""

from __future__ import annotations

from typing import Any

import torch

from rgt_arch.config.classes import Section, class_names, find_class, makes_lr, section_at, signature_section
from rgt_arch.config.loading import KeyPath, sections, subsection
from rgt_arch.config.problems import Report, key_name, nearest, suggestion
from rgt_arch.config.schema import WrongValueError, convert
from rgt_arch.config.tables import ANY_DATASET, INSTEAD, RENAMED, SET_BY_BASICSR, place_of
from rgt_arch.errors import UserError

_UNKNOWN = {
    "arch": "no such network class",
    "dataset": "no such data set class",
    "optimizer": "no optimiser of torch.optim that fits training step by step, nor Muon (pip install 'rgt-arch[muon]')",
    "scheduler": "no such scheduler",
}


def check_structure(opt: dict[str, Any], report: Report, is_train: bool) -> None:
    """Check all options against the tables and signatures; convert values and rename old keys in place."""
    _check_section(opt, opt, (), report, is_train)
    for name, section in sections(opt.get("train")) if is_train else ():
        if name.startswith("optim_") and not report.is_faulty(("train", name)):
            _check_steps(opt, section, ("train", name), report)


def _check_section(opt: dict[str, Any], section: dict[str, Any], path: KeyPath, report: Report, train: bool) -> None:
    known = section_at(opt, path)
    if known is None or (path == ("train",) and not train):
        return
    _rename(section, known, path, report)
    for key, value in list(section.items()):
        where, spec = (*path, key), known.keys.get(key, known.others)
        if spec is None:
            _unknown(known, section, where, report)
            continue
        try:
            section[key] = convert(spec, value)
        except WrongValueError as error:
            report.error(where, str(error), value)
            continue
        if isinstance(section[key], dict):
            _check_section(opt, section[key], where, report, train)
    is_training = train and (len(path) < 2 or path[0] != "datasets" or path[1].split("_")[0] == "train")
    needed = {"": False, "always": True, "train": is_training, "degrade": is_training and makes_lr(opt)}
    for key, spec in known.keys.items():
        if key not in section and needed[spec.required]:
            report.error((*path, key), f"is missing; add {key}: {spec.example or spec.default or '...'}")
    name_key = "type" if path else "model_type"
    kind, name = known.names, section.get(name_key)
    if kind and isinstance(name, str) and find_class(kind, name) is None:
        own = "" if kind in ("optimizer", "scheduler") else " (a class of your own: --import its module)"
        text = f"{_UNKNOWN.get(kind, f'no such {kind} class')}; {suggestion(name, class_names(kind))}{own}"
        report.error((*path, name_key), text, name)


def _rename(section: dict[str, Any], known: Section, path: KeyPath, report: Report) -> None:
    """Rename keys of early BasicSR versions, and keep the order of keys."""
    names = {old: new for old, new in RENAMED.items() if old in section and new in known.keys and new not in section}
    items = list(section.items())
    section.clear()
    section.update({names.get(key, key): value for key, value in items})
    for old, new in names.items():
        report.warn((*path, old), f"is called {new} in BasicSR 1.4.2 and read as that; rename it")


def _unknown(known: Section, section: dict[str, Any], where: KeyPath, report: Report) -> None:
    key, place, near = where[-1], key_name(where[:-1]) or "the top level", nearest(where[-1], known.keys)
    of = place if place == known.owner else f"{place} ({known.owner})"
    is_data_set = len(where) == 3 and where[0] == "datasets"
    if key in SET_BY_BASICSR.get(ANY_DATASET if is_data_set else where[:-1], ()):
        report.error(where, "is set by BasicSR; remove it", section[key])
    elif key in known.elsewhere:
        kind = "type" if where[0] == "datasets" else "model_type"
        text = f"{known.owner} would ignore it; set {kind}: {known.elsewhere[key]}, which reads it, or remove it"
        (report.error if known.strict else report.warn)(where, text)
    elif known.strict:
        remedy = INSTEAD.get(key) or (f"move it to {place_of(key)}" if near is None and place_of(key) else "")
        report.error(where, f"unknown key of {of}; {remedy or suggestion(key, known.keys)}")
        if near is not None and near not in section:
            report.faulty.add((*where[:-1], near))  # it is not also reported as missing
    else:
        report.warn(where, f"unknown here; {of} may read it" + (f" (did you mean {near}?)" if near else ""))


def _check_steps(opt: dict[str, Any], section: dict[str, Any], path: KeyPath, report: Report) -> None:
    """Build the optimiser and the scheduler as the model does, which checks names, arguments, ranges and shapes. The
    parameters have the shapes of biases, linear layers and convolutions."""
    name, model = section["type"], find_class("model", opt.get("model_type"))
    known = signature_section(find_class("optimizer", name)).keys
    arguments = {key: value for key, value in section.items() if key in known}
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2,), (2, 2), (2, 2, 1, 1))]
    if model is None:
        return
    try:
        # get_optimizer (models/base_model.py:101) reads no attributes: a model without __init__ is enough.
        optimizer = model.get_optimizer(model.__new__(model), name, parameters, **arguments)
        path, scheduler = ("train", "scheduler"), subsection(opt["train"], "scheduler")
        if (made := find_class("scheduler", name := scheduler.get("type"))) and not report.is_faulty(path):
            made(optimizer, **{key: value for key, value in scheduler.items() if key != "type"})
    except NotImplementedError:
        report.error((*path, "type"), f"{model.__name__} knows Adam only; set model_type: RGTModel or type: Adam", name)
    except (AssertionError, ValueError, TypeError, IndexError, RuntimeError, UserError) as error:
        reason = " ".join(str(error).split()).rpartition("refuses its arguments: ")[2].rstrip(".")
        report.error(path, f"{name} refuses its arguments: {reason}; correct them, or take another type")
