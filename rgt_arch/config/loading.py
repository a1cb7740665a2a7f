"""Reading option files as plain data (safe YAML, the line of every key, one-line errors), and access to their sections.

BasicSR's own loader (utils/options.py:12) is yaml.CLoader, which runs `!!python/object/apply` tags, silently keeps the
last of two equal keys, and reads `lr: 2e-4` as text, because YAML 1.1 wants a dot in a number with an exponent.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml

from rgt_arch.errors import UsageError

Options = dict[str, Any]
KeyPath = tuple[str, ...]

# Far above any real option file; they stop files whose aliases multiply ("billion laughs") or refer to themselves.
MAX_VALUES = 20_000
MAX_DEPTH = 24

# Numbers as YAML 1.2 writes them: a dot is not needed before an exponent.
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_MAP_TAG = "tag:yaml.org,2002:map"
_SEQ_TAG = "tag:yaml.org,2002:seq"
_MERGE_TAG = "tag:yaml.org,2002:merge"
_TIMESTAMP_TAG = "tag:yaml.org,2002:timestamp"
_NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_SCALAR_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str"))


class OptionLoader(yaml.SafeLoader):
    """SafeLoader that reads `2e-4` as a number and dates as text (a run may be called 2024-05-01)."""


OptionLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP_TAG]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
OptionLoader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))


class WrittenOptions(NamedTuple):
    """An option file: its options as plain data, the line of each key (from 1), and the keys that --force_yml set."""

    options: Any
    lines: dict[KeyPath, int]
    overridden: Collection[KeyPath] = ()


class _Builder:
    """Turns composed YAML nodes into dicts, lists and scalars, and records the line of each key.

    Every alias becomes a copy, because BasicSR pops keys out of sections, and the other section must keep them. A
    `name` that looks like a number stays text: a run may be called 0012.
    """

    def __init__(self, loader: OptionLoader, source: str) -> None:
        self.loader = loader
        self.source = source
        self.lines: dict[KeyPath, int] = {}
        self.count = 0

    def fail(self, node: yaml.Node, message: str) -> UsageError:
        return UsageError(f"{self.source}:{node.start_mark.line + 1}: {message}")

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.count += 1
        if self.count > MAX_VALUES or len(path) > MAX_DEPTH:
            raise self.fail(node, "the options are nested or repeated without end; write them out without & and *")
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP_TAG:
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQ_TAG:
            return [self.build(item, (*path, str(index))) for index, item in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALAR_TAGS:
            raise self.fail(
                node,
                f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')} is refused, because option files hold plain "
                "text, numbers, lists and sections only; write the value without a tag",
            )
        if path[-1:] == ("name",) and node.tag in _NUMBER_TAGS:
            return node.value
        try:
            return self.loader.construct_object(node)
        except (ValueError, KeyError, yaml.YAMLError) as error:
            kind = node.tag.rpartition(":")[2]
            raise self.fail(node, f"{node.value!r} is not a {kind}; correct it or remove the tag !!{kind}") from error

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        own: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE_TAG:  # "<<: *defaults": the section's own keys win over merged ones
                sections = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for section in sections:
                    merged = self.build(section, path)
                    if not isinstance(merged, dict):
                        raise self.fail(value_node, "'<<' takes a section, or a list of sections; give it one")
                    result = {**merged, **result}
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.fail(key_node, "a key must be a name; write it as plain text")
            key = key_node.value
            line = key_node.start_mark.line + 1
            if key in own:
                where = ":".join((*path, key))
                raise self.fail(key_node, f"{where} is given twice (first in line {own[key]}); keep one of the two")
            own[key] = line
            self.lines[(*path, key)] = line
            result[key] = self.build(value_node, (*path, key))
        return result


def parse_yaml(text: str, source: str) -> WrittenOptions:
    """Parse one YAML document; `options` is None for an empty one.

    source: name of the text in messages. Raises UsageError, one line, for everything except plain data.
    """
    try:
        loader = OptionLoader(text)
        node, builder = loader.get_single_node(), _Builder(loader, source)
        return WrittenOptions(None if node is None else builder.build(node, ()), builder.lines)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        parts = [getattr(error, name, None) for name in ("context", "problem")]
        what = " ".join(" ".join(str(part) for part in parts if part).split()) or " ".join(str(error).split())
        hint = "check its indentation, quotes and brackets"
        if "\\t" in what:
            hint = "indent with spaces, not tabs"
        elif not mark:
            hint = "save it as plain text, with fewer levels"
        raise UsageError(f"{source}{f':{mark.line + 1}' if mark else ''}: not valid YAML: {what}; {hint}") from error


def read_written(path: str | Path) -> WrittenOptions:
    """Read an option file as `load_options` does, with line numbers; `options` is a dict."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such option file; correct the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text; save the option file as UTF-8") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); correct the path") from error
    written = parse_yaml(text, str(path))
    options = written.options
    if not isinstance(options, dict):
        what = "is empty" if options is None else f"holds a {type(options).__name__}"
        raise UsageError(f"{path}: {what}, but an option file is a list of 'key: value' lines; see options/")
    return written


def load_options(path: str | Path) -> dict[str, Any]:
    """Read a BasicSR option file: nested dicts in file order; numbers such as `2e-4` are numbers.

    Nothing in the file is executed. Raises UsageError, one line with file and line number, for a missing file, text
    that is not YAML, tags except those of plain values (such as `!!float`), and duplicate keys.
    """
    return cast(dict[str, Any], read_written(path).options)


# --- access ---


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
