"""JSONPath (RFC 9535) over one payload after another, with a bound on what may be looked at.

A path of plain members and indexes costs a look-up for each step. Any other stops with TooMuch once it has looked at more
values than its budget holds, whatever the payload: fan-out evaluates one client's paths between the events of others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from jsonpath_rfc9535 import JSONPathError, JSONPathQuery
from jsonpath_rfc9535 import compile as parse
from jsonpath_rfc9535.segments import JSONPathRecursiveDescentSegment
from jsonpath_rfc9535.selectors import (
    FilterSelector,
    IndexSelector,
    JSONPathSelector,
    NameSelector,
    SliceSelector,
    WildcardSelector,
)

from relay.catalog.json_values import MISSING

MAX_PATH = 255


class TooMuch(Exception):
    """There is more to look at than the budget allows."""


@dataclass(slots=True)
class Budget:
    """How many more values may be looked at."""

    left: int

    def spend(self, count: int) -> None:
        """Take this much away; raise TooMuch when that is more than there is."""
        self.left -= count
        if self.left < 0:
            raise TooMuch


class Path:
    """A path that was read once, for many payloads."""

    def __init__(self, text: str) -> None:
        """Read a path; raise ValueError with the reason for a text that is none."""
        if len(text) > MAX_PATH:
            raise ValueError(f"it has more than {MAX_PATH} characters")
        try:
            self._query: JSONPathQuery = parse(text)
        except (JSONPathError, RecursionError, ArithmeticError) as cause:
            raise ValueError(str(cause)) from cause
        self._steps = _steps(self._query)
        selectors = (selector for segment in self._query.segments for selector in segment.selectors)
        if any(isinstance(selector, FilterSelector) for selector in selectors):
            raise ValueError("it must have no filter of its own ([?…])")

    @property
    def finds_one(self) -> bool:
        """Tell whether there is one place at most that it can lead to."""
        return self._steps is not None

    def values(self, document: Any, budget: Budget) -> list[Any]:
        """Return all values it leads to; raise TooMuch when there are too many on the way."""
        if self._steps is not None:
            budget.spend(1)
            found = _follow(self._steps, document)
            return [] if found is MISSING else [found]
        nodes: Iterable[Any] = (document,)
        for segment in self._query.segments:
            below = isinstance(segment, JSONPathRecursiveDescentSegment)
            nodes = _select(nodes, segment.selectors, budget, below=below)
        return list(nodes)


def _steps(query: JSONPathQuery) -> tuple[str | int, ...] | None:
    """The names and indexes of a path that has nothing else."""
    steps: list[str | int] = []
    for segment in query.segments:
        if isinstance(segment, JSONPathRecursiveDescentSegment) or len(segment.selectors) != 1:
            return None
        match segment.selectors[0]:
            case NameSelector() as selector:
                steps.append(selector.name)
            case IndexSelector() as selector:
                steps.append(selector.index)
            case _:
                return None
    return tuple(steps)


def _follow(steps: tuple[str | int, ...], value: Any) -> Any:
    for step in steps:
        if type(value) is dict:
            value = value.get(step, MISSING)
        elif type(value) is list and type(step) is int and -len(value) <= step < len(value):
            value = value[step]
        else:
            return MISSING
    return value


def _select(
    nodes: Iterable[Any], selectors: tuple[JSONPathSelector, ...], budget: Budget, *, below: bool
) -> Iterator[Any]:
    for node in nodes:
        for parent in _descendants(node, budget) if below else (node,):
            for selector in selectors:
                budget.spend(1)
                yield from _children(parent, selector, budget)


def _descendants(node: Any, budget: Budget) -> Iterator[Any]:
    """Containers only: nothing is below another value."""
    waiting = [node]
    while waiting:
        value = waiting.pop()
        if isinstance(value, (dict, list)):
            yield value
            budget.spend(1 + len(value))
            waiting.extend(reversed(_contents(value)))


def _contents(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _children(value: Any, selector: JSONPathSelector, budget: Budget) -> Iterable[Any]:
    if not isinstance(value, (dict, list)):
        return ()
    match selector:
        case NameSelector() | IndexSelector():
            step = selector.name if isinstance(selector, NameSelector) else selector.index
            found = _follow((step,), value)
            return () if found is MISSING else (found,)
        case WildcardSelector():
            budget.spend(len(value))
            return _contents(value)
        case SliceSelector() if isinstance(value, list) and selector.slice.step != 0:
            chosen = value[selector.slice]
            budget.spend(len(chosen))
            return chosen
        case _:
            return ()
