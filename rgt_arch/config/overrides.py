"""`--force_yml train:optim_g:lr=1e-4`: options given on the command line.

BasicSR builds Python source from these and runs it (utils/options.py:117-128), splits the value at every '=', and
leaves '2e-4' and '-1' as text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from rgt_arch.config.classes import Section, section_at
from rgt_arch.config.loading import SCALAR_TAGS, KeyPath, OptionLoader, parse_yaml
from rgt_arch.config.report import key_name, suggestion
from rgt_arch.config.schema import Key
from rgt_arch.errors import UsageError

_NOTHING = ("none", "null")


def apply_overrides(opt: dict[str, Any], entries: Iterable[str]) -> None:
    """Set options in place from entries such as `train:optim_g:lr=1e-4`, in order.

    The value is what follows the first '=': a number, true, false, none, a list or section in YAML's brackets, or text.
    A key must be in `opt` or be one that its section may have (`val:self_ensemble=true`). Raises UsageError, one line,
    for an entry without '=', an unknown key (naming the nearest) or a value that is not safe YAML.
    """
    for entry in entries:
        keys, equals, text = entry.partition("=")
        path = tuple(key.strip() for key in keys.split(":"))
        if not equals or not all(path):
            raise UsageError(f"--force_yml {entry}: write section:key=value, for instance train:optim_g:lr=1e-4")
        section, spec = _find(opt, path, entry)
        section[path[-1]] = _parse(text.strip(), spec, entry)


def _find(opt: dict[str, Any], path: KeyPath, entry: str) -> tuple[dict[str, Any], Key | None]:
    """The section that holds the last key, which is made if it is missing; and the schema's entry of the key."""
    section = opt
    for depth, key in enumerate(path):
        known = section_at(opt, path[:depth])
        if key not in section and not _may_have(known, key, path[:depth]):
            valid = {*section, *(known.keys if known else ())}
            where = key_name(path[: depth + 1])
            raise UsageError(f"--force_yml {entry}: unknown key {where}; {suggestion(key, valid)}")
        if depth == len(path) - 1:
            return section, known.keys.get(key) if known else None
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict):
            where = key_name(path[: depth + 1])
            raise UsageError(
                f"--force_yml {entry}: {where} is {section!r}, not a section; give it as a whole: {where}=..."
            )
    raise AssertionError("a path has at least one key")


def _may_have(known: Section | None, key: str, path: KeyPath) -> bool:
    """Whether a section may get the key although the file does not give it."""
    if path == ("datasets",):
        return key.split("_")[0] in ("train", "val", "test")
    return known is None or known.others is not None or not known.strict or key in known.keys


def _parse(text: str, spec: Key | None, entry: str) -> Any:
    """The value of an entry. Text stays text where the key takes text: `filename_tmpl={}x4` is not YAML."""
    is_text = spec is not None and spec.kind in ("text", "path") and not spec.choices
    if text in ("", "~") or (text.lower() in _NOTHING and (spec is None or spec.nullable or not is_text)):
        return None
    if is_text:
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    if text[0] in "[{!'\"":
        return parse_yaml(text, f"--force_yml {entry}").options
    # A plain scalar: YAML decides on its type only, so that '#' and ': ' in it mean nothing.
    loader = OptionLoader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    if tag not in SCALAR_TAGS:  # a lone '=' or '<<'
        return text
    return loader.construct_object(yaml.ScalarNode(tag, text))
