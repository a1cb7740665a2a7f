"""Key by key: unknown and misspelt names, wrong types, missing keys; puts values into the type their key takes."""

from __future__ import annotations

from typing import Any

from rgt_arch.config.classes import Section, section_at
from rgt_arch.config.loading import KeyPath
from rgt_arch.config.report import Report, suggestion
from rgt_arch.config.schema import Key, WrongValueError, convert
from rgt_arch.config.tables import RENAMED

# BasicSR sets these itself and overwrites what a file says (utils/options.py:134-165).
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
    if known.free:
        _check_free(opt, section, path, report, train)
        return
    for key in list(section):
        new = RENAMED.get(key)
        if new is not None and new in known.keys and new not in section:
            # Rebuilt, so that the order of the keys stays that of the file.
            renamed = {(new if old == key else old): value for old, value in section.items()}
            section.clear()
            section.update(renamed)
            report.warn((*path, key), f"is called {new} in BasicSR 1.4.2 and read as that; rename it")
    for key, value in list(section.items()):
        where = (*path, key)
        if key not in known.keys:
            _unknown(known, where, report)
            continue
        try:
            spec = known.keys[key]
            section[key] = convert(spec, report.as_written(where, value) if spec.kind == "text" else value)
        except WrongValueError as error:
            report.unusable(where, str(error), value)
            continue
        if isinstance(section[key], dict):
            _check_section(opt, section[key], where, report, train)
    for key, spec in known.keys.items():
        if key not in section and _required(spec, path, train):
            report.missing((*path, key), f"is missing; {_how_to_add(key, spec)}")


def _check_free(opt: dict[str, Any], section: dict[str, Any], path: KeyPath, report: Report, train: bool) -> None:
    for name, value in section.items():
        if isinstance(value, dict):
            _check_section(opt, value, (*path, name), report, train)
        else:
            report.error((*path, name), "expected a section (its keys indented on the following lines)", value)


def _required(spec: Key, path: KeyPath, train: bool) -> bool:
    if path[:1] == ("datasets",) and len(path) > 1:
        train = train and path[1].split("_")[0] == "train"
    return spec.required == "always" or (spec.required == "train" and train)


def _how_to_add(key: str, spec: Key) -> str:
    return f"add {key}: {spec.example}" if spec.example else f"add '{key}: ...'"


def _unknown(known: Section, where: KeyPath, report: Report) -> None:
    key = where[-1]
    if key in _SET_BY_BASICSR.get(where[:-1], ()):
        report.error(where, "is set by BasicSR itself; remove it")
    elif key in known.elsewhere:
        other = known.elsewhere[key]
        kind = "type" if where[0] == "datasets" else "model_type"
        text = f"{known.owner} would ignore it; set {kind}: {other}, which reads it, or remove it"
        (report.error if known.strict else report.warn)(where, text)
    elif known.strict:
        report.unknown(where, _of(known, where), known.keys)
    else:
        near = suggestion(key, known.keys)
        report.warn(where, f"unknown here; {_of(known, where)} may read it" + (f" ({near})" if "mean" in near else ""))


def _of(known: Section, where: KeyPath) -> str:
    section = ":".join(where[:-1]) or "the top level"
    return section if section == known.owner else f"{section} ({known.owner})"
