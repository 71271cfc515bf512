"""How much work a JSON Schema can make of a payload: known before it is used, for a client's schema is untrusted.

jsonschema-rs follows references as often as a schema names them, lists errors without end, and matches an expression in
time linear in the text but also in the expression. So the work is bounded beforehand: by what applies to one value at
most, times the values of the payload. What applies on the way from the root to a value is counted as if it all did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from relay.catalog.places import Place, place
from relay.catalog.schema_parts import Parts, for_any, for_one, in_place
from relay.errors import Invalid

#: Keywords that hold much to be looked at for one value.
_COUNTED = ("required", "enum", "properties")
_MOST_STEPS = 50_000
#: What all regular expressions of a schema may count: to compile the largest takes milliseconds.
_MOST_RATED = 2_000
#: To match a name costs so many times what other checks do.
_NAME_CHECKS = 3

#: How often a regular expression must be counted, by its text; raises what is wrong with it.
Rating = Callable[[str], int]


class Work(NamedTuple):
    """For one value: how many checks, of how many (rated) expressions, and how many faults can be found."""

    checks: int
    matches: int
    faults: int

    def plus(self, other: Work) -> Work:
        """Both."""
        return Work(*(mine + its for mine, its in zip(self, other, strict=True)))


_NONE = Work(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a schema can cost: for one value, and (`rates`) in memory, counted in small regular expressions."""

    work: Work
    rates: int
    #: Of a schema that refers to itself, for which the work depends on the payload if nothing is remembered.
    _recursive: tuple[Any, Parts, _Prices] | None

    def faults_at(self, depth: int) -> int | None:
        """How many faults a value at this depth can have at most; None: too many to say."""
        if self._recursive is None:
            return self.work.faults
        schema, parts, prices = self._recursive
        try:
            return _Counting(parts, prices, flat=None).of(schema, depth).faults
        except (Invalid, RecursionError):
            return None


def cost(schema: Any, *, rating: Rating, field: str) -> Cost:
    """Return what a schema costs; raise Invalid for one that refers to what it does not hold, or is too entangled."""
    parts = Parts(schema, field=field)
    prices = _Prices(parts, rating, field)
    counting = _Counting(parts, prices, flat=0)
    try:
        work = counting.of(schema, 0)
    except RecursionError as cause:
        raise Invalid(f"{field} refers from one part to the next too often.", field=field) from cause
    if not counting.recursive:
        return Cost(work, prices.rates, None)
    # What was tried on a value is remembered, so no part counts twice.
    return Cost(work.plus(prices.of_all(parts)), prices.rates, (schema, parts, prices))


class _Prices:
    """What each part costs without those it holds."""

    def __init__(self, parts: Parts, rating: Rating, field: str) -> None:
        self._field = field
        self._rating = rating
        self.rates = 0
        self._own: dict[int, Work] = {}
        self._names: dict[int, Work] = {}
        for part, at in parts.known:
            self._own[id(part)] = self._priced(part, at)
            if isinstance(names := part.get("patternProperties"), dict):
                rated = [self._rated(text, (*at, "patternProperties", text)) for text in names]
                self._names[id(part)] = Work(_NAME_CHECKS * len(rated), sum(rated), 0)

    def _priced(self, part: Mapping[str, Any], at: Place) -> Work:
        much = sum(len(part[name]) // 2 for name in _COUNTED if isinstance(part.get(name), (list, dict)))
        matches = self._rated(part["pattern"], (*at, "pattern")) if isinstance(part.get("pattern"), str) else 0
        required = part.get("required")
        faults = 1 + len(part) + (len(required) if isinstance(required, list) else 0)
        return Work(1 + len(part) + much, matches, faults)

    def _rated(self, pattern: str, at: Place) -> int:
        try:
            rate = self._rating(pattern)
        except ValueError as cause:
            raise Invalid(f"{self._field} has at {place(at)} {cause}.", field=self._field) from cause
        self.rates += rate
        if self.rates > _MOST_RATED:
            raise Invalid(f"{self._field} has too many regular expressions, or too large ones.", field=self._field)
        return rate

    def own(self, part: Mapping[str, Any]) -> Work:
        """What a part costs the value it is for."""
        return self._own[id(part)]

    def names(self, part: Mapping[str, Any]) -> Work:
        """What its patterns for names cost each member."""
        return self._names.get(id(part), _NONE)

    def of_all(self, parts: Parts) -> Work:
        """What all parts cost together."""
        total = _NONE
        for part, _ in parts.known:
            total = total.plus(self.own(part)).plus(self.names(part))
        return total


class _Counting:
    """One count: to a depth, or (`flat` is 0) with each part left out that comes up again while it is counted."""

    def __init__(self, parts: Parts, prices: _Prices, *, flat: int | None) -> None:
        self._parts = parts
        self._prices = prices
        self._flat = flat
        self._counted: dict[tuple[int, int], Work | None] = {}
        self.recursive = False

    def of(self, part: Any, depth: int) -> Work:
        """What the part costs one value with so much below it."""
        if not isinstance(part, dict):
            return Work(1, 0, 1)
        key = id(part), depth
        if key in self._counted:
            self.recursive |= self._counted[key] is None
            return self._counted[key] or _NONE
        if len(self._counted) > _MOST_STEPS:
            raise Invalid("schema is too entangled.", field="schema")
        self._counted[key] = None
        work = self._counted[key] = self._here(part, depth).plus(self._below(part, depth))
        return work

    def _here(self, part: dict[str, Any], depth: int) -> Work:
        inner = _NONE
        for child in (*in_place(part), *self._parts.led(part)):
            inner = inner.plus(self.of(child, depth))
        if "unevaluatedProperties" in part or "unevaluatedItems" in part:  # looks at them again for what they saw
            inner = inner.plus(inner).plus(inner)
        return self._prices.own(part).plus(inner)

    def _below(self, part: dict[str, Any], depth: int) -> Work:
        if self._flat is None and depth == 0:
            return _NONE
        deeper = depth - 1 if self._flat is None else self._flat
        anywhere = self._prices.names(part)
        for child in for_any(part):
            anywhere = anywhere.plus(self.of(child, deeper))
        named = [self.of(child, deeper) for child in for_one(part)]
        return anywhere.plus(Work(*map(max, zip(*named, strict=True))) if named else _NONE)
