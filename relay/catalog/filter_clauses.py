"""The clauses of a filter: a test of one place, or clauses joined by `and`, `or` and `not`; and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from relay.catalog.filter_operators import OPERATORS, Operator, operator
from relay.catalog.json_paths import Path
from relay.catalog.json_values import MISSING
from relay.catalog.looking import Budget
from relay.catalog.seen import Seen

MAX_DEPTH = 10
MAX_CLAUSES = 100
_JOINED = ("and", "or", "not")
_SUBJECTS = ("path", "header", "field")
_HINT = (
    ' must be {"and": […]}, {"or": […]}, {"not": …} or a test: one of path, header, field'
    f" with one of {', '.join(OPERATORS)}"
)


class Clause(Protocol):
    """A part of a filter that is true or false of an event."""

    @property
    def json(self) -> Any:
        """How it was written."""
        ...

    def refusing(self, seen: Seen) -> Clause | None:
        """Return the first clause that failed, if that makes this one fail; None when this one holds."""
        ...

    def found(self, seen: Seen) -> Any:
        """Return what the event had where this clause looked; MISSING for nothing."""
        ...


@dataclass(frozen=True, slots=True)
class _Test:
    """An operator on what stands in one place; of several values one is enough, and for `ne` and `nin` one spoils it."""

    json: Any
    look: Callable[[Seen], Sequence[Any]]
    operator: Operator
    finds_one: bool

    def refusing(self, seen: Seen) -> Clause | None:
        return None if self.operator.holds(self.look(seen), seen.budget) else self

    def found(self, seen: Seen) -> Any:
        values = list(self.look(seen))
        if not self.finds_one:
            return values
        return values[0] if values else MISSING


@dataclass(frozen=True, slots=True)
class _And:
    json: Any
    parts: tuple[Clause, ...]

    def refusing(self, seen: Seen) -> Clause | None:
        for part in self.parts:
            clause = part.refusing(seen)
            if clause is not None:
                return clause
        return None

    def found(self, seen: Seen) -> Any:
        return [_or_null(part.found(seen)) for part in self.parts]


@dataclass(frozen=True, slots=True)
class _Or:
    json: Any
    parts: tuple[Clause, ...]

    def refusing(self, seen: Seen) -> Clause | None:
        return None if any(part.refusing(seen) is None for part in self.parts) else self

    def found(self, seen: Seen) -> Any:
        return [_or_null(part.found(seen)) for part in self.parts]


@dataclass(frozen=True, slots=True)
class _Not:
    json: Any
    part: Clause

    def refusing(self, seen: Seen) -> Clause | None:
        return self if self.part.refusing(seen) is None else None

    def found(self, seen: Seen) -> Any:
        return self.part.found(seen)


def _or_null(found: Any) -> Any:
    return None if found is MISSING else found


def clause(json: Any) -> Clause:
    """Return the clause that JSON describes; raise ValueError with where it is wrong and what is allowed there."""
    return _clause(json, "", depth=0, left=Budget(MAX_CLAUSES))


def _clause(json: Any, place: str, *, depth: int, left: Budget) -> Clause:
    if not isinstance(json, dict) or not json:
        raise ValueError(place + _HINT)
    left.left -= 1
    if left.left < 0:
        raise ValueError(f" must hold at most {MAX_CLAUSES} clauses")
    joined = next((name for name in _JOINED if name in json), None)
    if joined is None:
        return _test(json, place)
    if len(json) > 1:
        raise ValueError(f"{place} must have nothing beside {joined}")
    if depth >= MAX_DEPTH:
        raise ValueError(f"{place} must not be nested deeper than {MAX_DEPTH} of and, or, not")
    read = partial(_clause, depth=depth + 1, left=left)
    within = json[joined]
    if joined == "not":
        return _Not(json, read(within, f"{place}.not"))
    if not isinstance(within, list) or not within:
        raise ValueError(f"{place}.{joined} must be a list of one clause or more")
    parts = tuple(read(part, f"{place}.{joined}.{index}") for index, part in enumerate(within))
    return _And(json, parts) if joined == "and" else _Or(json, parts)


def _test(json: dict[str, Any], place: str) -> Clause:
    subjects = [name for name in json if name in _SUBJECTS]
    operators = [name for name in json if name in OPERATORS]
    if len(subjects) != 1 or len(operators) != 1 or len(json) != 2:
        raise ValueError(place + _HINT)
    subject, name = subjects[0], operators[0]
    look, finds_one = _look(subject, json[subject], place)
    return _Test(json, look, operator(name, json[name], f"{place}.{name}"), finds_one)


def _look(subject: str, what: Any, place: str) -> tuple[Callable[[Seen], Sequence[Any]], bool]:
    where = f"{place}.{subject}"
    if not isinstance(what, str):
        raise ValueError(f"{where} must be a string")
    if subject == "header":
        if not 1 <= len(what) <= 128:
            raise ValueError(f"{where} must be a header's name")
        return partial(_header, what.lower()), True
    if subject == "field":
        if what != "type":
            raise ValueError(f'{where} must be "type"')
        return _type, True
    try:
        path = Path(what)
    except ValueError as cause:
        raise ValueError(f"{where} must be a JSONPath (RFC 9535) like $.customer.id: {cause}") from cause
    return partial(_values, what, path), path.finds_one


def _header(name: str, seen: Seen) -> Sequence[Any]:
    value = seen.headers.get(name)
    return () if value is None else (value,)


def _type(seen: Seen) -> Sequence[Any]:
    return () if seen.type is None else (seen.type,)


def _values(text: str, path: Path, seen: Seen) -> Sequence[Any]:
    return seen.values(text, path)
