"""`--force_yml train:optim_g:lr=1e-4`: options given on the command line.

BasicSR builds Python source from these and runs it (utils/options.py:117-128), splits the value at every '=', and
leaves '2e-4' and '-1' as text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rgt_arch.config.classes import section_at
from rgt_arch.config.loading import KeyPath, parse_yaml
from rgt_arch.config.problems import Report, key_name, suggestion
from rgt_arch.config.schema import Key
from rgt_arch.errors import UsageError


def apply_overrides(opt: dict[str, Any], entries: Iterable[str]) -> set[KeyPath]:
    """Set options in place from entries such as `train:optim_g:lr=1e-4`, in order. Returns their keys.

    The value is the text after the first '=', read as in an option file; `none` is `~`. A key must be in `opt`, or its
    section must know it (`val:self_ensemble=true`). Raises UsageError, one line for each entry without '=', with an
    unknown key (and the nearest known one) or with a value that is not safe YAML.
    """
    report, paths = Report("--force_yml", None), set()
    for entry in entries:
        try:
            paths.add(_apply(opt, entry))
        except UsageError as error:
            report.errors.append(str(error))
    report.raise_errors()
    return paths


def _apply(opt: dict[str, Any], entry: str) -> KeyPath:
    keys, equals, text = entry.partition("=")
    path = tuple(key.strip() for key in keys.split(":"))
    if not equals or not all(path):
        raise UsageError(f"--force_yml {entry}: write section:key=value, for instance train:optim_g:lr=1e-4")
    section = opt
    for depth, key in enumerate(path):
        known, where = section_at(opt, path[:depth]), key_name(path[: depth + 1])
        if key not in section and known and not known.may_have(key, path[:depth]):
            near = suggestion(key, {*section, *known.keys})
            raise UsageError(f"--force_yml {entry}: unknown key {where}; {near}")
        if depth == len(path) - 1:
            section[key] = _parse(text.strip(), known.keys.get(key) if known else None, entry)
            break
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict):
            raise UsageError(
                f"--force_yml {entry}: {where} is {section!r}, not a section; give it as a whole: {where}=..."
            )
    return path


def _parse(text: str, spec: Key | None, entry: str) -> Any:
    """Parse the value of an entry. It stays text if the key takes text: `filename_tmpl={}x4` is not YAML."""
    is_text = spec is not None and spec.kind in ("text", "path") and not spec.choices
    if text.lower() in ("", "~", "null", "none") and (text in ("", "~") or not is_text or (spec and spec.nullable)):
        return None
    if not is_text:
        return parse_yaml(text, f"--force_yml {entry}").options
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
