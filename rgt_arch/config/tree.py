"""Access to nested options in which a section may be missing or replaced by another value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rgt_arch.config.loading import KeyPath


def value_at(opt: Mapping[str, Any], path: KeyPath) -> Any:
    """Return the value at `path`, or None if it is missing."""
    value: Any = opt
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def subsection(opt: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the section `name`, or {} if it is missing or not a section."""
    section = opt.get(name)
    return section if isinstance(section, dict) else {}


def sections(value: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return (key, section) for the sections in `value`."""
    return [(k, v) for k, v in value.items() if isinstance(v, dict)] if isinstance(value, dict) else []
