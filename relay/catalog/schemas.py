"""JSON Schema 2020-12 of an event type: checked when it is given, and what is wrong with a payload by it.

A client's schema is untrusted: nothing is fetched, expressions take linear time (no look-around, no back reference),
and what one check can cost is bounded before it begins (`relay.catalog.schema_cost`). `format` is a note, as the
standard has it by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from jsonschema_rs import Draft202012Validator, ReferencingError, RegexOptions, ValidationError, meta

from relay.catalog.places import place
from relay.catalog.schema_cost import Cost, cost
from relay.errors import Invalid

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_SCHEMA_BYTES = 128 * 1024
#: Of the failing places of one payload so many are named.
MAX_NAMED = 100
_MAX_TEXT = 200
#: What all values of one payload may cost: half a second where a client aims at it, a thousandth of that else.
_MOST_CHECKS = 20_000_000
_MOST_MATCHED_BYTES = 5_000_000
#: Naming what fails matches all once more.
_MOST_MATCHED_AGAIN = 1_000_000
#: Naming all that fails remembers nothing, and costs twenty times as much for each.
_MOST_FAULTS = 20_000
#: A schema that could not be tried on so many values, or bytes, is refused.
_FEWEST_VALUES = 100
_FEWEST_BYTES = 1_000
#: Compiled sizes, in bytes, and what one of that size counts.
_SIZES = ((1 << 10, 1), (4 << 10, 4), (8 << 10, 8), (16 << 10, 16), (64 << 10, 64))
_DFA_BYTES = 256 << 10
#: Memory for each byte of its text, and for each that its expressions count.
_MEMORY = 24
_RATE_BYTES = 16 << 10


class Misfit(NamedTuple):
    """Where a payload fails and why; no value of it is quoted."""

    place: str
    why: str


class Schema:
    """A compiled schema."""

    def __init__(self, document: Any, *, cost: Cost, size: int) -> None:
        self._validator = _validator(document, mask="value")
        self._cost = cost
        #: About how many bytes of memory it holds.
        self.size = _MEMORY * size + _RATE_BYTES * cost.rates

    def misfits(self, payload: bytes) -> list[Misfit]:
        """Return where a JSON payload fails, at most MAX_NAMED and one more; an empty list means that it fits."""
        if (refusal := self._too_much(payload)) is not None:
            return [refusal]
        try:
            value = msgspec.json.decode(payload)
            if self._validator.is_valid(value):
                return []
            return self._named(payload, value)
        except (msgspec.DecodeError, RecursionError, ValueError) as cause:
            return [Misfit("$", f"cannot be checked: {str(cause)[:_MAX_TEXT]}")]

    def _too_much(self, payload: bytes) -> Misfit | None:
        checks, matches, _ = self._cost.work
        if len(payload) * checks > _MOST_CHECKS and (n := _values(payload)) * checks > _MOST_CHECKS:
            return Misfit("$", f"holds about {n} values; this schema can be checked on {_MOST_CHECKS // checks}")
        if len(payload) * matches > _MOST_MATCHED_BYTES:
            most = _MOST_MATCHED_BYTES // matches
            return Misfit("$", f"has {len(payload)} bytes; the expressions of this schema can be tried on {most}")
        return None

    def _named(self, payload: bytes, value: Any) -> list[Misfit]:
        faults = self._cost.faults_at(_depth(value))
        again = len(payload) * self._cost.work.matches
        if faults is None or _values(payload) * faults > _MOST_FAULTS or again > _MOST_MATCHED_AGAIN:
            return [Misfit("$", "does not fit; it is too large to look for all the places where")]
        found = islice(self._validator.iter_errors(value), MAX_NAMED + 1)
        return [Misfit(place(error.instance_path), _short(error.message)) for error in found]


def told(misfits: Sequence[Misfit]) -> str:
    """Return a sentence with all misfits, at most MAX_NAMED."""
    named = "; ".join(f"{one.place} {one.why}" for one in misfits[:MAX_NAMED])
    return named + ("; and more." if len(misfits) > MAX_NAMED else ".")


def compile_schema(text: bytes, *, field: str = "schema") -> Schema:
    """Return the schema of this JSON text; raise Invalid, with the place in it, for what is none or would cost too much."""
    if len(text) > MAX_SCHEMA_BYTES:
        raise Invalid(f"{field} has {len(text)} bytes; the limit is {MAX_SCHEMA_BYTES}.", field=field)
    document = _document(text, field)
    try:
        meta.validate(document)
        bearable = _bearable(cost(document, rating=_rated, field=field), field)
        return Schema(document, cost=bearable, size=len(text))
    except (ValidationError, ReferencingError) as cause:
        where = place(cause.instance_path) + " " if isinstance(cause, ValidationError) else ""
        why = f"{field} is no JSON Schema 2020-12: {where}{_short(str(cause))}."
        raise Invalid(why, field=field) from cause
    except ValueError as cause:
        raise Invalid(f"{field} cannot be used: {_short(str(cause))}.", field=field) from cause


def _bearable(cost: Cost, field: str) -> Cost:
    checks, matches, _ = cost.work
    if checks * _FEWEST_VALUES > _MOST_CHECKS or matches * _FEWEST_BYTES > _MOST_MATCHED_BYTES:
        raise Invalid(f"{field} applies too many of its parts to the same value.", field=field)
    return cost


def _document(text: bytes, field: str) -> Any:
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError) as cause:
        raise Invalid(f"{field} must be JSON: {_short(str(cause))}", field=field) from cause
    if not isinstance(document, (dict, bool)):
        raise Invalid(f"{field} must be an object, or true or false.", field=field)
    dialect = document.get("$schema", DIALECT) if isinstance(document, dict) else DIALECT
    if not isinstance(dialect, str) or dialect.rstrip("#") != DIALECT:
        raise Invalid(f"{field} must be of JSON Schema 2020-12: $schema may be {DIALECT} or absent.", field=field)
    return document


def _validator(document: Any, *, mask: str | None) -> Draft202012Validator:
    return Draft202012Validator(
        document, offline=True, validate_formats=False, mask=mask, pattern_options=_options(_SIZES[-1][0])
    )


def _options(size: int) -> RegexOptions:
    return RegexOptions(size_limit=size, dfa_size_limit=_DFA_BYTES)


@lru_cache(maxsize=1_024)
def _rated(pattern: str) -> int:
    for size, counts in _SIZES:
        try:
            Draft202012Validator({"pattern": pattern}, offline=True, pattern_options=_options(size))
        except (ValidationError, ValueError):
            continue
        return counts
    raise ValueError("a regular expression that is too large or not linear (look-around, back references)")


def _values(payload: bytes) -> int:
    """About how many values a JSON text holds: never too few."""
    return 1 + payload.count(b",") + payload.count(b"[") + payload.count(b"{")


def _depth(value: Any) -> int:
    """How deep a value is nested."""
    depth, level = 0, [value]
    while level := [child for one in level for child in _members(one)]:
        depth += 1
    return depth


def _members(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _short(text: str) -> str:
    line = text.split("\n", 1)[0]
    return line if len(line) <= _MAX_TEXT else line[:_MAX_TEXT] + "…"
