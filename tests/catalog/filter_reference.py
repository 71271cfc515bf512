"""Subscriptions and filters as docs/filters.md describes them, slow and plain, over Python values.

The standard library only, and nothing of Relay: what the product does is compared with this.
"""

from __future__ import annotations

import re
from fractions import Fraction
from json import loads
from typing import Any

#: A path as data: for each segment whether it descends, and its selectors (a name, an index, a slice, or None for all).
Selector = str | int | slice | None
Segment = tuple[bool, list[Selector]]


def read(text: str) -> Any:
    """JSON with numbers that are what they are worth; no bool is one of them."""
    return loads(text, parse_int=Fraction, parse_float=Fraction)


def is_subscribed(patterns: list[str], event_type: str) -> bool:
    return any(re.fullmatch(_expression(pattern), event_type) for pattern in patterns)


def _expression(pattern: str) -> str:
    if pattern == "*":
        return r"(?!relay\.).+"
    if pattern.endswith(".*"):
        return re.escape(pattern[:-2]) + r"(\.[^.]+)+"
    return re.escape(pattern)


def passes(filter: Any, paths: dict[str, list[Segment]], payload: Any, headers: dict[str, str], type: str) -> bool:
    """Whether a filter lets an event through; `paths` says what each path in it means."""

    def _inner(filter: Any) -> bool:
        if "and" in filter:
            return all(_inner(one) for one in filter["and"])
        if "or" in filter:
            return any(_inner(one) for one in filter["or"])
        if "not" in filter:
            return not _inner(filter["not"])
        if "path" in filter:
            values = select(paths[filter["path"]], payload)
        elif "header" in filter:
            values = [value for name, value in headers.items() if name.lower() == filter["header"].lower()]
        else:
            values = [type]
        ((operator, operand),) = [item for item in filter.items() if item[0] not in ("path", "header", "field")]
        return _test(operator, operand, values)

    return _inner(filter)


def _test(operator: str, operand: Any, values: list[Any]) -> bool:
    if operator == "exists":
        return (len(values) > 0) == operand
    if operator == "ne":
        return not any(same(value, operand) for value in values)
    if operator == "nin":
        return not any(same(value, one) for value in values for one in operand)
    return any(_holds(operator, operand, value) for value in values)


def _holds(operator: str, operand: Any, value: Any) -> bool:
    match operator:
        case "eq":
            return same(value, operand)
        case "in":
            return any(same(value, one) for one in operand)
        case "contains" if isinstance(value, list):
            return any(same(one, operand) for one in value)
        case "gt" | "gte" | "lt" | "lte":
            return _in_order(operator, value, operand)
        case _:
            return isinstance(value, str) and isinstance(operand, str) and _text_holds(operator, operand, value)


def _in_order(operator: str, value: Any, operand: Any) -> bool:
    if not (is_number(value) and is_number(operand)) and not (isinstance(value, str) and isinstance(operand, str)):
        return False
    return {"gt": value > operand, "gte": value >= operand, "lt": value < operand, "lte": value <= operand}[operator]


def _text_holds(operator: str, operand: str, value: str) -> bool:
    return {
        "contains": operand in value,
        "startsWith": value[: len(operand)] == operand,
        "endsWith": operand == "" or value[-len(operand) :] == operand,
        "regex": operator == "regex" and re.search(operand, value) is not None,
    }[operator]


def is_number(value: Any) -> bool:
    return isinstance(value, Fraction)


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[name], other[name]) for name in one)
    return one == other


def select(path: list[Segment], document: Any) -> list[Any]:
    """RFC 9535, sections 2.3 and 2.5, without filter selectors."""
    nodes = [document]
    for descends, selectors in path:
        nodes = [
            found
            for node in nodes
            for parent in (_all_below(node) if descends else [node])
            for selector in selectors
            for found in _selected(parent, selector)
        ]
    return nodes


def _all_below(node: Any) -> list[Any]:
    return [node, *(found for child in _selected(node, None) for found in _all_below(child))]


def _selected(node: Any, selector: Selector) -> list[Any]:
    if isinstance(node, dict):
        if isinstance(selector, str):
            return [node[selector]] if selector in node else []
        return list(node.values()) if selector is None else []
    if not isinstance(node, list):
        return []
    match selector:
        case None:
            return list(node)
        case slice():
            return [] if selector.step == 0 else node[selector]
        case int():
            return [node[selector]] if -len(node) <= selector < len(node) else []
        case _:
            return []
