"""Filters inside of JSONPaths, `[?@.sku == 'A']`: RFC 9535, section 2.3.5, with its five functions.

Values are compared as filters of endpoints compare them; patterns are RE2's, in which `.` is anything but a line's end.
"""

from __future__ import annotations

import operator as compare
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol

from jsonpath_rfc9535 import JSONPathQuery
from jsonpath_rfc9535 import filter_expressions as tree

from relay.catalog.json_values import MISSING, Kind, comparable, kind_of
from relay.catalog.looking import Walk
from relay.catalog.patterns import Pattern

#: Whether an expression holds for the present value.
Holds = Callable[[Any, Walk], bool]
#: The value of an expression; MISSING for what RFC 9535 calls Nothing.
Value = Callable[[Any, Walk], Any]
_COMPILING = 100
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": compare.lt,
    "<=": compare.lt,
    ">": compare.gt,
    ">=": compare.gt,
}


class Query(Protocol):
    """A path inside of a path."""

    def find(self, start: Any, walk: Walk) -> Sequence[Any]:
        """Return what it finds from here."""
        ...


def reads(expression: tree.Expression, query: Callable[[JSONPathQuery], Query]) -> Holds:
    """Return the test that an expression is; `query` makes the paths in it."""
    match expression:
        case tree.FilterExpression():
            return reads(expression.expression, query)
        case tree.PrefixExpression():
            inner = reads(expression.right, query)
            return lambda value, walk: not inner(value, walk)
        case tree.LogicalExpression():
            left, right = reads(expression.left, query), reads(expression.right, query)
            if expression.operator == "&&":
                return lambda value, walk: left(value, walk) and right(value, walk)
            return lambda value, walk: left(value, walk) or right(value, walk)
        case tree.ComparisonExpression():
            return _comparison(expression, query)
        case tree.FilterQuery():
            nodes = _nodes(expression, query)
            return lambda value, walk: bool(nodes(value, walk))
        case tree.FunctionExtension() if expression.name in ("match", "search"):
            return _matching(expression, query)
        case _:
            raise ValueError("it has a filter that is no test")


def _comparison(expression: tree.ComparisonExpression, query: Callable[[JSONPathQuery], Query]) -> Holds:
    left, right = _value(expression.left, query), _value(expression.right, query)
    operator = expression.operator
    if operator == "==":
        return lambda value, walk: _same(left(value, walk), right(value, walk), walk)
    if operator == "!=":
        return lambda value, walk: not _same(left(value, walk), right(value, walk), walk)
    order, or_equal = _ORDERS[operator], operator.endswith("=")

    def _holds(value: Any, walk: Walk) -> bool:
        one, other = left(value, walk), right(value, walk)
        if one is not MISSING and other is not MISSING and comparable(one, other) and order(one, other):
            return True
        return or_equal and _same(one, other, walk)

    return _holds


def _same(one: Any, other: Any, walk: Walk) -> bool:
    """As `json_values.same`, at a price, for both may be large; nothing is the same as nothing."""
    if one is MISSING or other is MISSING:
        return one is other
    kind = kind_of(one)
    walk.budget.spend(1 + (len(one) >> 10 if kind is Kind.STRING else 0))
    if kind is not kind_of(other):
        return False
    if kind is Kind.ARRAY:
        return len(one) == len(other) and all(_same(a, b, walk) for a, b in zip(one, other, strict=True))
    if kind is Kind.OBJECT:
        return len(one) == len(other) and all(_same(item, other.get(name, MISSING), walk) for name, item in one.items())
    return one == other


def _value(expression: tree.Expression, query: Callable[[JSONPathQuery], Query]) -> Value:
    match expression:
        case tree.IntegerLiteral() | tree.FloatLiteral():
            number = Decimal(expression.token.value)  # as it is written: the library made a float of it
            return lambda _value, _walk: number
        case tree.FilterExpressionLiteral():
            literal: Any = expression.value
            return lambda _value, _walk: literal
        case tree.FilterQuery():
            return _only(_nodes(expression, query))
        case tree.FunctionExtension(name="length"):
            return _length(_value(expression.args[0], query))
        case tree.FunctionExtension(name="count"):
            nodes = _nodes(expression.args[0], query)
            return lambda value, walk: len(nodes(value, walk))
        case tree.FunctionExtension(name="value"):
            return _only(_nodes(expression.args[0], query))
        case _:
            raise ValueError("it compares what is no value")


def _nodes(
    expression: tree.Expression, query: Callable[[JSONPathQuery], Query]
) -> Callable[[Any, Walk], Sequence[Any]]:
    assert isinstance(expression, tree.FilterQuery)
    path = query(expression.query)
    if isinstance(expression, tree.RootFilterQuery):
        return lambda _value, walk: path.find(walk.root, walk)
    return path.find


def _only(nodes: Callable[[Any, Walk], Sequence[Any]]) -> Value:
    def _found(value: Any, walk: Walk) -> Any:
        found = nodes(value, walk)
        return found[0] if len(found) == 1 else MISSING

    return _found


def _length(inner: Value) -> Value:
    def _found(value: Any, walk: Walk) -> Any:
        found = inner(value, walk)
        return len(found) if isinstance(found, (str, list, dict)) else MISSING

    return _found


def _matching(expression: tree.FunctionExtension, query: Callable[[JSONPathQuery], Query]) -> Holds:
    text, pattern = (_value(one, query) for one in expression.args)
    whole = expression.name == "match"

    def _holds(value: Any, walk: Walk) -> bool:
        where, what = text(value, walk), pattern(value, walk)
        if not isinstance(where, str) or not isinstance(what, str):
            return False
        known = _pattern(what) if isinstance(expression.args[1], tree.StringLiteral) else _brought(what, walk)
        if known is None:
            return False
        walk.budget.spend(known.price(where))
        return known.is_all(where) if whole else known.is_in(where)

    return _holds


def _brought(text: str, walk: Walk) -> Pattern | None:
    """A pattern that stands in the event."""
    walk.budget.spend(_COMPILING + len(text))
    return _pattern(text)


@lru_cache(maxsize=1_000)
def _pattern(text: str) -> Pattern | None:
    try:
        return Pattern(_without_line_ends(text))
    except ValueError:
        return None


def _without_line_ends(text: str) -> str:
    """RFC 9485: outside of a class a dot is anything but a line feed and a carriage return."""
    parts: list[str] = []
    escaped = in_class = False
    for char in text:
        parts.append("[^\\n\\r]" if char == "." and not escaped and not in_class else char)
        if not escaped and char in "[]":
            in_class = char == "["
        escaped = char == "\\" and not escaped
    return "".join(parts)
