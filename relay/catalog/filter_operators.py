"""The operators of filters: what each needs beside it, and of which values it holds.

All but `ne`, `nin` and `exists` hold when they hold for one of the values found; for none found they do not.
"""

from __future__ import annotations

import operator as compare
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from relay.catalog.json_values import Kind, comparable, kind_of, same
from relay.catalog.looking import Budget
from relay.catalog.patterns import Pattern

MAX_LISTED = 1_000
MAX_OPERAND_DEPTH = 10
_SCALARS = frozenset({Kind.NULL, Kind.BOOLEAN, Kind.NUMBER, Kind.STRING})


class Operator:
    """What is asked of the values that stand in one place."""

    def holds(self, values: Sequence[Any], budget: Budget) -> bool:
        """Tell whether it holds for what was found; raise TooMuch when that takes too long to say."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _OneOf(Operator):
    """Holds when one of the values passes; `price` is what a look at a value costs."""

    passes: Callable[[Any], bool]
    price: Callable[[Any], int]

    def holds(self, values: Sequence[Any], budget: Budget) -> bool:
        for value in values:
            budget.spend(self.price(value))
            if self.passes(value):
                return True
        return False


@dataclass(frozen=True, slots=True)
class _NoneOf(Operator):
    one: Operator

    def holds(self, values: Sequence[Any], budget: Budget) -> bool:
        return not self.one.holds(values, budget)


@dataclass(frozen=True, slots=True)
class _Exists(Operator):
    wanted: bool

    def holds(self, values: Sequence[Any], budget: Budget) -> bool:
        return bool(values) is self.wanted


def operator(name: str, operand: Any, place: str) -> Operator:
    """Return an operator with what stands beside it; raise ValueError, which names the place, for the wrong thing."""
    try:
        return OPERATORS[name](operand)
    except ValueError as cause:
        raise ValueError(f"{place} {cause}") from cause


def _little(_value: Any) -> int:
    return 1


def _by_items(value: Any) -> int:
    return 1 + len(value) if type(value) is list else 1


def _equal(operand: Any) -> Operator:
    _check_depth(operand)
    return _OneOf(partial(same, operand), _little)


def _unequal(operand: Any) -> Operator:
    return _NoneOf(_equal(operand))


def _check_depth(operand: Any, depth: int = 0) -> None:
    if depth > MAX_OPERAND_DEPTH:
        raise ValueError(f"must not be nested deeper than {MAX_OPERAND_DEPTH}")
    within = operand.values() if isinstance(operand, dict) else operand if isinstance(operand, list) else ()
    for one in within:
        _check_depth(one, depth + 1)


def _ordered(relation: Callable[[Any, Any], bool]) -> Callable[[Any], Operator]:
    def _make(operand: Any) -> Operator:
        if kind_of(operand) not in {Kind.NUMBER, Kind.STRING}:
            raise ValueError("must be a number or a string")
        return _OneOf(lambda value: comparable(value, operand) and relation(value, operand), _little)

    return _make


def _listed(operand: Any) -> Operator:
    if not isinstance(operand, list) or not 1 <= len(operand) <= MAX_LISTED:
        raise ValueError(f"must be a list of 1 to {MAX_LISTED} values")
    _check_depth(operand)
    scalars = frozenset((kind_of(one), one) for one in operand if kind_of(one) in _SCALARS)
    others = [one for one in operand if kind_of(one) not in _SCALARS]

    def _passes(value: Any) -> bool:
        kind = kind_of(value)
        return (kind, value) in scalars if kind in _SCALARS else any(same(one, value) for one in others)

    return _OneOf(_passes, lambda _value: 1 + len(others))


def _unlisted(operand: Any) -> Operator:
    return _NoneOf(_listed(operand))


def _contains(operand: Any) -> Operator:
    _check_depth(operand)

    def _passes(value: Any) -> bool:
        if type(value) is str:
            return type(operand) is str and operand in value
        return type(value) is list and any(same(operand, item) for item in value)

    return _OneOf(_passes, _by_items)


def _text(operand: Any) -> str:
    if not isinstance(operand, str):
        raise ValueError("must be a string")
    return operand


def _starts(operand: Any) -> Operator:
    start = _text(operand)
    return _OneOf(lambda value: type(value) is str and value.startswith(start), _little)


def _ends(operand: Any) -> Operator:
    end = _text(operand)
    return _OneOf(lambda value: type(value) is str and value.endswith(end), _little)


def _exists(operand: Any) -> Operator:
    if not isinstance(operand, bool):
        raise ValueError("must be true or false")
    return _Exists(operand)


def _pattern(operand: Any) -> Operator:
    pattern = Pattern(_text(operand))

    def _price(value: Any) -> int:
        return pattern.price(value) if type(value) is str else 1

    return _OneOf(lambda value: type(value) is str and pattern.is_in(value), _price)


#: Each operator by its name, made of what stands beside it.
OPERATORS: dict[str, Callable[[Any], Operator]] = {
    "eq": _equal,
    "ne": _unequal,
    "gt": _ordered(compare.gt),
    "gte": _ordered(compare.ge),
    "lt": _ordered(compare.lt),
    "lte": _ordered(compare.le),
    "in": _listed,
    "nin": _unlisted,
    "contains": _contains,
    "startsWith": _starts,
    "endsWith": _ends,
    "exists": _exists,
    "regex": _pattern,
}
