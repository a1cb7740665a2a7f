"""Which keys a section of a given option file may have, from the tables and from the classes the file names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rgt_arch.config import tables
from rgt_arch.config.classes import (
    find_class,
    is_known,
    optimizer_class,
    scheduler_class,
    signature_section,
)
from rgt_arch.config.loading import KeyPath
from rgt_arch.config.schema import Key, Section
from rgt_arch.config.tree import value_at

_TYPE = Key("text", "class name", "always")
_FREE = Section({}, "", free=True)
# Keys of sections that model classes add theirs to; "" is the top level.
_BASES: Mapping[str, Mapping[str, Key]] = {"": tables.TOP, "logger": tables.LOGGER}


def section_at(opt: Mapping[str, Any], path: KeyPath) -> Section | None:
    """The keys allowed in the section at `path` of `opt`; None where anything goes (arguments of unknown classes).

    Looks at `opt` for the types it names only; the section itself need not exist.
    """
    match path:
        case () | ("path" | "train" | "val" | "logger",):
            return _model_section(opt, path[0] if path else "")
        case ("val", "tile"):
            return Section(tables.TILE, "val:tile")
        case ("val", "metrics"):
            return _FREE
        case ("val", "metrics", _):
            return _metric_section(value_at(opt, path))
        case ("logger", "wandb"):
            return Section(tables.WANDB, "logger:wandb")
        case ("dist_params",):
            return Section(tables.DIST_PARAMS, "dist_params")
        case ("datasets",):
            return _FREE
        case ("datasets", _):
            return _dataset_section(value_at(opt, path))
        case ("datasets", _, "io_backend"):
            return _io_backend_section(value_at(opt, path))
        case (name,) if name.startswith("network_"):
            return _class_section(find_class("arch", _type_of(value_at(opt, path))))
        case ("train", name) if name.startswith("optim_"):
            return _class_section(optimizer_class(_type_of(value_at(opt, path))), skip=("params",))
        case ("train", "scheduler"):
            return _class_section(scheduler_class(_type_of(value_at(opt, path))), skip=("optimizer", "last_epoch"))
        case ("train", name) if name.endswith("_opt"):
            return _class_section(find_class("loss", _type_of(value_at(opt, path))))
    return None


def _type_of(section: Any) -> str | None:
    name = section.get("type") if isinstance(section, Mapping) else None
    return name if isinstance(name, str) else None


def _class_section(found: Any, skip: tuple[str, ...] = ()) -> Section | None:
    return None if found is None else signature_section(found, skip)


def _model_section(opt: Mapping[str, Any], part: str) -> Section:
    """A section whose keys depend on the model class: those of its table entry and of its parents' entries."""
    base = _BASES.get(part, {})
    name = opt.get("model_type")
    found = find_class("model", name)
    if found is None:  # reported elsewhere; until it is mended, allow what any model reads
        every: dict[str, Key] = dict(base)
        for table in tables.MODELS.values():
            every.update({k: Key(v.kind, v.text, nullable=v.nullable) for k, v in table.get(part, {}).items()})
        return Section({**every, **tables.MODELS["SRModel"].get(part, {})}, str(name))
    parents = [parent.__name__ for parent in reversed(found.__mro__) if parent.__name__ in tables.MODELS]
    keys = dict(base)
    for parent in parents:
        keys.update(tables.MODELS[parent].get(part, {}))
    elsewhere = {key: model for model, table in tables.MODELS.items() for key in table.get(part, {}) if key not in keys}
    return Section(
        keys, found.__name__, strict=found.__name__ in tables.MODELS and is_known(found), elsewhere=elsewhere
    )


def _dataset_section(section: Any) -> Section:
    name = _type_of(section)
    found = find_class("dataset", name)
    if found is None:
        every = {key: Key("any") for table in tables.DATASETS.values() for key in table}
        return Section({**every, **tables.DATASET}, str(name))
    keys = dict(tables.DATASET)
    for parent in reversed(found.__mro__):
        keys.update(tables.DATASETS.get(parent.__name__, {}))
    # Backwards, so that of several classes that read a key the first and plainest is the one to propose.
    elsewhere = {key: other for other, table in reversed(tables.DATASETS.items()) for key in table if key not in keys}
    known = found.__name__ in tables.DATASETS and is_known(found)
    return Section(keys, found.__name__, strict=known, elsewhere=elsewhere)


def _io_backend_section(section: Any) -> Section:
    extra = {"lmdb": tables.IO_BACKEND_LMDB, "memcached": tables.IO_BACKEND_MEMCACHED}.get(_type_of(section) or "", {})
    return Section({**tables.IO_BACKEND, **extra}, "io_backend")


def _metric_section(section: Any) -> Section | None:
    found = find_class("metric", _type_of(section))
    if found is None:
        return None
    arguments = signature_section(found, skip=("img", "img2"))
    better = Key("text", "higher or lower: which value is the best one", choices=("higher", "lower"))
    return Section({**arguments.keys, "type": _TYPE, "better": better}, arguments.owner, arguments.strict)
