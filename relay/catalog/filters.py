"""Which events an endpoint takes, beyond their type: a filter over payload, headers and type.

A filter is JSON: tests like {"path": "$.amount", "gt": 100}, joined by `and`, `or` and `not`. It is checked when it is
written; after that no event makes it raise. One that would look at too much lets the event not through, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from relay.catalog import filter_clauses
from relay.catalog.filter_clauses import Clause
from relay.catalog.json_paths import TooMuch
from relay.catalog.json_values import MISSING, read, shown, text_of
from relay.catalog.seen import MAX_LOOKED_AT, Seen
from relay.errors import Invalid

__all__ = ["Failing", "Filter", "Seen", "Verdict", "check_filter", "compile_filter", "stored_filter"]

MAX_FILTER_BYTES = 16_384
_KEPT_COMPILED = 20_000


@dataclass(frozen=True, slots=True)
class Failing:
    """Why an event is not let through: JSON texts of the first clause that failed and of what the event had there.

    `found` is None where there was nothing. `error` is set when the filter could not be evaluated to its end.
    """

    clause: bytes
    found: bytes | None = None
    error: str | None = None


class Verdict(Enum):
    """What a filter says of an event; UNFINISHED: it could not be evaluated to its end, so it lets nothing through."""

    PASSES = "passes"
    REFUSES = "refuses"
    UNFINISHED = "unfinished"


class Filter:
    """A filter ready for use; `text` is its compact JSON."""

    def __init__(self, root: Clause) -> None:
        """Keep what was checked."""
        self._root = root

    @property
    def text(self) -> str:
        """Its compact JSON."""
        return text_of(self._root.json)

    def verdict(self, seen: Seen) -> Verdict:
        """Tell what becomes of an event, without saying why. Never raises."""
        seen.budget.left = MAX_LOOKED_AT
        try:
            return Verdict.PASSES if self._root.refusing(seen) is None else Verdict.REFUSES
        except Exception:  # an event nobody foresaw must not stop the fan-out of others
            return Verdict.UNFINISHED

    def failing(self, seen: Seen, *, shown_as: Seen | None = None) -> Failing | None:
        """Return what keeps the event out; None when it is let through. Never raises.

        `shown_as` is the same event as people may see it (redacted): `found` is taken from there.
        """
        seen.budget.left = MAX_LOOKED_AT
        try:
            clause = self._root.refusing(seen)
        except TooMuch:
            return self._unfinished(f"It would look at more than {MAX_LOOKED_AT} values of the event.")
        except Exception as cause:  # as above
            return self._unfinished(f"It cannot be evaluated: {cause or type(cause).__name__}.")
        return None if clause is None else Failing(_text(clause.json), _found(clause, shown_as or seen))

    def _unfinished(self, error: str) -> Failing:
        return Failing(_text(self._root.json), error=error)


def _text(json: Any) -> bytes:
    return text_of(json).encode()


def _found(clause: Clause, seen: Seen) -> bytes | None:
    seen.budget.left = MAX_LOOKED_AT
    try:
        found = clause.found(seen)
        return None if found is MISSING else shown(found)
    except Exception:  # as above: what is shown matters less than that the answer stands
        return None


def check_filter(json: bytes | str, *, field: str) -> None:
    """Raise Invalid, which names the place, for a JSON text that is no filter."""
    try:
        compile_filter(json)
    except ValueError as cause:
        raise Invalid(f"{field}{cause}.", field=field) from cause


def compile_filter(json: bytes | str) -> Filter:
    """Return the filter that a JSON text is; raise ValueError, with the rest of a sentence about it, for what is none."""
    try:
        return _compiled(json if isinstance(json, str) else json.decode())
    except UnicodeError as cause:
        raise ValueError(" must be JSON in UTF-8") from cause


def stored_filter(json: str) -> Filter:
    """Return the filter of an endpoint; never raises: one that another release took and this one cannot read is never done."""
    try:
        return compile_filter(json)
    except ValueError as cause:
        return Filter(_Unreadable(json, f"filter{cause}"))


@dataclass(frozen=True, slots=True)
class _Unreadable:
    json: Any
    reason: str

    def refusing(self, seen: Seen) -> Clause | None:
        raise ValueError(self.reason)

    def found(self, seen: Seen) -> Any:
        return MISSING


@lru_cache(maxsize=_KEPT_COMPILED)
def _compiled(text: str) -> Filter:
    if len(text.encode()) > MAX_FILTER_BYTES:
        raise ValueError(f" must have at most {MAX_FILTER_BYTES} bytes")
    try:
        json = read(text)
    except ValueError as cause:
        raise ValueError(f" must be JSON: {cause}") from cause
    return Filter(filter_clauses.clause(json))
