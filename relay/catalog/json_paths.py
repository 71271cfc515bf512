"""JSONPath (RFC 9535) over one payload after another, with a bound on what may be looked at.

A path of plain members and indexes costs a look-up for each step. Any other stops with TooMuch once it has looked at more
values than its budget holds, whatever the payload: fan-out evaluates one client's paths between the events of others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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

from relay.catalog.json_path_tests import Holds, reads
from relay.catalog.json_values import MISSING
from relay.catalog.looking import Budget, Walk

MAX_PATH = 255
#: What a selector takes of a value.
_Select = Callable[[Any, Walk], Iterable[Any]]


class Path:
    """A path that was read once, for many payloads."""

    def __init__(self, text: str) -> None:
        """Read a path; raise ValueError with the reason for a text that is none."""
        if len(text) > MAX_PATH:
            raise ValueError(f"it has more than {MAX_PATH} characters")
        try:
            self._query = _Query(parse(text))
        except (JSONPathError, RecursionError, ArithmeticError) as cause:
            raise ValueError(str(cause)) from cause

    @property
    def finds_one(self) -> bool:
        """Tell whether there is one place at most that it can lead to."""
        return self._query.steps is not None

    def values(self, document: Any, budget: Budget) -> Sequence[Any]:
        """Return all values it leads to; raise TooMuch when there are too many on the way."""
        return self._query.find(document, Walk(document, budget))


class _Query:
    def __init__(self, query: JSONPathQuery) -> None:
        self.steps = _steps(query)
        self._segments = [
            (isinstance(segment, JSONPathRecursiveDescentSegment), [_selecting(one) for one in segment.selectors])
            for segment in query.segments
        ]

    def find(self, start: Any, walk: Walk) -> Sequence[Any]:
        """Return what it finds from a value."""
        if self.steps is not None:
            walk.budget.spend(1)
            found = _follow(self.steps, start)
            return () if found is MISSING else (found,)
        nodes: Iterable[Any] = (start,)
        for below, selectors in self._segments:
            nodes = _select(nodes, selectors, walk, below=below)
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


def _select(nodes: Iterable[Any], selectors: Sequence[_Select], walk: Walk, *, below: bool) -> Iterator[Any]:
    for node in nodes:
        for parent in _descendants(node, walk.budget) if below else (node,):
            for select in selectors:
                walk.budget.spend(1)
                if isinstance(parent, (dict, list)):
                    yield from select(parent, walk)


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


def _selecting(selector: JSONPathSelector) -> _Select:
    match selector:
        case NameSelector():
            return _at(selector.name)
        case IndexSelector():
            return _at(selector.index)
        case WildcardSelector():
            return _all
        case SliceSelector():
            return _slice(selector.slice)
        case FilterSelector():
            return _those(reads(selector.expression, _Query))
        case _:
            raise ValueError("it has a selector that is unknown")


def _at(step: str | int) -> _Select:
    def _found(value: Any, _walk: Walk) -> Iterable[Any]:
        found = _follow((step,), value)
        return () if found is MISSING else (found,)

    return _found


def _all(value: Any, walk: Walk) -> Iterable[Any]:
    walk.budget.spend(len(value))
    return _contents(value)


def _slice(places: slice) -> _Select:
    def _found(value: Any, walk: Walk) -> Iterable[Any]:
        if not isinstance(value, list) or places.step == 0:
            return ()
        chosen = value[places]
        walk.budget.spend(len(chosen))
        return chosen

    return _found


def _those(holds: Holds) -> _Select:
    def _found(value: Any, walk: Walk) -> Iterable[Any]:
        for one in _contents(value):
            walk.budget.spend(1)
            if holds(one, walk):
                yield one

    return _found
