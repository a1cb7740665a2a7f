"""Looking into nested options, whatever a user has put where a section belongs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rgt_arch.config.loading import KeyPath


def value_at(opt: Mapping[str, Any], path: KeyPath) -> Any:
    """The value at `path`, None where there is none."""
    value: Any = opt
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def subsection(opt: dict[str, Any], name: str) -> dict[str, Any]:
    """The section of that name, empty where there is none."""
    section = opt.get(name)
    return section if isinstance(section, dict) else {}


def sections(value: Any) -> list[tuple[str, dict[str, Any]]]:
    """The keys of `value` that are sections, with them."""
    return [(k, v) for k, v in value.items() if isinstance(v, dict)] if isinstance(value, dict) else []
