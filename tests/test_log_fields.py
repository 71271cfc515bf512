"""The table of log fields in the guide, and the fields that the code gives its lines: the same, both ways."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Iterator

import pytest

from relay import log
from relay.settings import Settings
from tests.documents import ROOT, first_column

PACKAGES = ("relay", "actors", "api")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
Scope = dict[str, list[ast.expr]]


def given() -> Iterator[str]:
    """Every field that a call to a log is given as `extra`."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for call, scope in _calls(tree, {}):
                for keyword in call.keywords:
                    if keyword.arg == "extra":
                        yield from _keys(keyword.value, scope, f"{path}:{call.lineno}")


def _calls(node: ast.AST, scope: Scope) -> Iterator[tuple[ast.Call, Scope]]:
    """Calls to a log, with what is assigned in the function that each is in."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        scope = _assigned(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
        yield node, scope
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, scope)


def _assigned(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Scope:
    found: Scope = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
    return found


def _keys(node: ast.expr, scope: Scope, place: str) -> Iterator[str]:
    """The keys of a mapping as it is spelled; fails where they cannot be read off."""
    match node:
        case ast.Dict():
            for key, value in zip(node.keys, node.values, strict=True):
                yield from _keys(value, scope, place) if key is None else _words(key, scope, place)
        case ast.Name() if node.id in scope:
            for value in scope[node.id]:
                yield from _keys(value, scope, place)
        case ast.Attribute(attr="ids"):
            yield from _ids_of_a_delivery()
        case _:
            pytest.fail(f"{place}: {ast.unparse(node)} does not show its fields")


def _words(node: ast.expr, scope: Scope, place: str) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(word)):
            yield word
        case ast.IfExp():
            yield from _words(node.body, scope, place)
            yield from _words(node.orelse, scope, place)
        case ast.Name() if node.id in scope:
            for value in scope[node.id]:
                yield from _words(value, scope, place)
        case _:
            pytest.fail(f"{place}: {ast.unparse(node)} is no name of a field")


def _ids_of_a_delivery() -> Iterator[str]:
    tree = ast.parse((ROOT / "relay" / "delivery" / "live.py").read_text(encoding="utf-8"))
    (ids,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "ids"]
    (answer,) = [node.value for node in ast.walk(ids) if isinstance(node, ast.Return)]
    assert isinstance(answer, ast.Dict)
    yield from _keys(answer, {}, "ids")


def always(settings: Settings, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The fields of a line that tells of an error and is given none."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        log.configure(settings.model_copy(update={"log_format": "json"}))
        try:
            raise ValueError
        except ValueError:
            logging.getLogger("relay.test").exception("x")
    finally:
        root.handlers[:], root.level = before
    return set(json.loads(capsys.readouterr().err))


def test_every_field_of_a_line_is_in_the_guide_and_every_one_of_the_guide_is_given(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = first_column(ROOT / "docs" / "operations.md", "| field of a line | what it holds |")
    told = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(told) == sorted({*given(), *always(settings, capsys)})
