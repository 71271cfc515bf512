"""An event as filters see it: each thing is read once, when the first filter asks, for all that the event meets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from relay.catalog.json_paths import Budget, Path, TooMuch
from relay.catalog.json_values import MISSING, read

#: What one filter may look at in one event, in values; about as many microseconds.
MAX_LOOKED_AT = 10_000


class Seen:
    """One event, for any number of filters, one after the other; `budget` is what the present one may still look at."""

    def __init__(self, payload: bytes, headers: Mapping[str, str] | None, type: str | None) -> None:
        """Keep what is to be looked at; it is read when a filter asks."""
        self.payload = payload
        self._headers = headers
        self._found: dict[str, tuple[list[Any] | None, int]] = {}
        self.type = type
        self.budget = Budget(MAX_LOOKED_AT)

    @cached_property
    def document(self) -> Any:
        """The payload's value; MISSING when it is no JSON."""
        try:
            return read(self.payload)
        except ValueError:
            return MISSING

    @cached_property
    def headers(self) -> dict[str, str]:
        """The event's headers by their names in lower case."""
        return {name.lower(): value for name, value in (self._headers or {}).items()}

    def values(self, text: str, path: Path) -> list[Any]:
        """Return what a path finds, for the same price whoever asked before; raise TooMuch."""
        known = self._found.get(text)
        if known is None:
            known = self._found[text] = self._look(path)
        values, price = known
        self.budget.spend(price)
        if values is None:
            raise TooMuch
        return values

    def _look(self, path: Path) -> tuple[list[Any] | None, int]:
        budget = Budget(MAX_LOOKED_AT)
        if self.document is MISSING:
            return [], 1
        try:
            values = path.values(self.document, budget)
        except TooMuch:
            return None, 0
        return values, MAX_LOOKED_AT - budget.left
