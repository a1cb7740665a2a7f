"""Key by key: unknown and misspelt names, wrong types, missing keys; puts values into the type their key takes."""

from __future__ import annotations

from typing import Any

from rgt_arch.config.classes import Section, section_at
from rgt_arch.config.loading import KeyPath
from rgt_arch.config.report import Report, key_name, nearest
from rgt_arch.config.schema import Key, WrongValueError, convert
from rgt_arch.config.tables import RENAMED

# BasicSR sets these itself and overwrites the values of a file (utils/options.py:134-165).
_SET_BY_BASICSR: dict[KeyPath, tuple[str, ...]] = {
    (): ("is_train", "dist", "rank", "world_size", "auto_resume", "root_path"),
    ("path",): ("experiments_root", "results_root", "models", "training_states", "log", "visualization"),
}


def check_structure(opt: dict[str, Any], report: Report, is_train: bool) -> None:
    """Check the whole option tree against the tables and signatures; converts and renames values in place."""
    _check_section(opt, opt, (), report, is_train)


def _check_section(opt: dict[str, Any], section: dict[str, Any], path: KeyPath, report: Report, train: bool) -> None:
    known = section_at(opt, path)
    if known is None:
        return
    _rename(section, known, path, report)
    for key, value in list(section.items()):
        where, spec = (*path, key), known.keys.get(key, known.others)
        if spec is None:
            _unknown(known, where, report)
            continue
        try:
            section[key] = convert(spec, report.as_written(where, value) if spec.kind == "text" else value)
        except WrongValueError as error:
            report.unusable(where, str(error), value)
            continue
        if isinstance(section[key], dict):
            _check_section(opt, section[key], where, report, train)
    for key, spec in known.keys.items():
        if key not in section and _is_required(spec, path, train):
            example = f"{key}: {spec.example}" if spec.example else f"'{key}: ...'"
            report.missing((*path, key), f"is missing; add {example}")


def _rename(section: dict[str, Any], known: Section, path: KeyPath, report: Report) -> None:
    """Give keys of early BasicSR versions today's names, in their places."""
    names = {old: new for old, new in RENAMED.items() if old in section and new in known.keys and new not in section}
    items = list(section.items())
    section.clear()
    section.update({names.get(key, key): value for key, value in items})
    for old, new in names.items():
        report.warn((*path, old), f"is called {new} in BasicSR 1.4.2 and read as that; rename it")


def _is_required(spec: Key, path: KeyPath, train: bool) -> bool:
    if path[:1] == ("datasets",) and len(path) > 1:
        train = train and path[1].split("_")[0] == "train"
    return spec.required == "always" or (spec.required == "train" and train)


def _unknown(known: Section, where: KeyPath, report: Report) -> None:
    key, section = where[-1], key_name(where[:-1]) or "the top level"
    of = section if section == known.owner else f"{section} ({known.owner})"
    if key in _SET_BY_BASICSR.get(where[:-1], ()):
        report.error(where, "is set by BasicSR itself; remove it")
    elif key in known.elsewhere:
        kind, other = "type" if where[0] == "datasets" else "model_type", known.elsewhere[key]
        text = f"{known.owner} would ignore it; set {kind}: {other}, which reads it, or remove it"
        (report.error if known.strict else report.warn)(where, text)
    elif known.strict:
        report.unknown(where, of, known.keys)
    else:
        near = nearest(key, known.keys)
        report.warn(where, f"unknown here; {of} may read it" + (f" (did you mean {near}?)" if near else ""))
