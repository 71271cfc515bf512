"""The file of `relay plan`: YAML 1.2 without its traps, read strictly and written so that it reads back the same.

`yes`, `on`, `0123` and dates stay text; a key given twice is refused, and every key is text.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

from relay.errors import Invalid

STDIN = Path("-")
_MAX_DEPTH = 100
_MAX_VALUES = 1_000_000
_TAG = "tag:yaml.org,2002:"
# YAML 1.1 ends a line there, too.
_OTHER_LINE_ENDS = re.compile("[\r\x85\u2028\u2029]")
_MERGE = f"{_TAG}merge"
# What a plain word means: JSON's numbers and words, and YAML's other spellings of true, false and null.
_WORDS: tuple[tuple[str, str, list[str]], ...] = (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^-?(?:0|[1-9][0-9]*)$", list("-0123456789")),
    ("float", r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$", list("-0123456789")),
)


class _Loader(yaml.SafeLoader):
    """Builds what JSON can say."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own way to begin without its words

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Compose a mapping whose keys are text, none of them twice."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise ConstructorError(None, None, "a key must be text", key.start_mark)
            if key.value in seen:
                raise ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(key.value)
            if key.tag != _MERGE:
                key.tag = f"{_TAG}str"
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what this or any other reader could take for something else; writes several lines as several lines."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        return True


def _int(_loader: _Loader, node: Node) -> int:
    return int(node.value)


def _float(_loader: _Loader, node: Node) -> float:
    number = float(node.value)
    if not math.isfinite(number):
        raise ConstructorError(None, None, f"{node.value} is too large", node.start_mark)
    return number


def _text(dumper: _Dumper, text: str) -> Node:
    style = '"' if _OTHER_LINE_ENDS.search(text) else "|" if "\n" in text else None
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


for _name, _pattern, _first in _WORDS:
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(_pattern), _first)
    _Dumper.add_implicit_resolver(f"{_TAG}{_name}", re.compile(_pattern), _first)
_Loader.add_implicit_resolver(_MERGE, re.compile("^<<$"), ["<"])
_Loader.add_constructor(f"{_TAG}int", _int)
_Loader.add_constructor(f"{_TAG}float", _float)
_Dumper.add_representer(str, _text)


def read(path: Path) -> dict[str, Any]:
    """Return the file's content (`-`: standard input); raise Invalid, with the line, for what is no such file."""
    try:
        text = sys.stdin.read() if path == STDIN else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) else "it is no UTF-8"
        raise Invalid(f"{path} cannot be read ({reason}).") from cause
    return parse(text, name=str(path))


def parse(text: str, *, name: str) -> dict[str, Any]:
    """Return what a YAML text says; `name` is what the errors call it."""
    try:
        found = yaml.load(text, _Loader)  # noqa: S506 - it is a SafeLoader
        _check(found)
    except yaml.MarkedYAMLError as cause:
        line = f", line {cause.problem_mark.line + 1}" if cause.problem_mark else ""
        raise Invalid(f"{name}{line}: {cause.problem}.") from cause
    except yaml.YAMLError as cause:
        raise Invalid(f"{name} is no YAML ({' '.join(str(cause).split())}).") from cause
    except RecursionError as cause:
        raise Invalid(f"{name} is nested too deeply.") from cause
    except ValueError as cause:
        raise Invalid(f"{name}: {cause}.") from cause
    if not isinstance(found, dict):
        raise Invalid(f"{name} must hold endpoints, eventTypes, or both.")
    return found


def _check(found: object) -> None:
    """Refuse what JSON cannot say, and what anchors blow up."""
    waiting: list[tuple[object, int]] = [(found, 0)]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > _MAX_DEPTH or seen > _MAX_VALUES:
            raise ValueError(f"it nests deeper than {_MAX_DEPTH} levels, or holds more than {_MAX_VALUES} values")
        if isinstance(value, dict):
            waiting += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1) for inner in value]
        elif not isinstance(value, str | int | float | None):
            raise ValueError(f"a value is of the kind {type(value).__name__}, which JSON does not have")


def write(document: Mapping[str, Any]) -> str:
    """Return the YAML text of a file."""
    return yaml.dump(
        dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
    )
