"""Which endpoints an event type is for: exact names, `order.*` (one or more further segments) and `*`.

`*` leaves out Relay's own notices, `relay.*`; who wants those says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, Generic, TypeVar

from relay.errors import Invalid

T = TypeVar("T")

MAX_PATTERNS = 100
MAX_NAME = 255
RESERVED = "relay."
_ANY = "*"
_BELOW = ".*"
_NOBODY: Final[list[Any]] = []
_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*", re.ASCII)
_RULE = f"1 to {MAX_NAME} of a-z A-Z 0-9 _ - in segments parted by dots"


def check_name(name: str, *, field: str) -> None:
    """Raise Invalid for what cannot be an event's type, be it a producer's or one of Relay's own."""
    if not _is_name(name):
        raise Invalid(f"{field} must be {_RULE}.", field=field)


def check_type(name: str, *, field: str) -> None:
    """Raise Invalid for a name that no producer may send."""
    check_name(name, field=field)
    if name.startswith(RESERVED):
        raise Invalid(f"{field} must not begin with {RESERVED}, those are Relay's own notices.", field=field)


def check_patterns(patterns: Sequence[str], *, field: str) -> None:
    """Raise Invalid unless there are 1..100 patterns, each an exact name, a name with `.*` behind it, or `*`."""
    if not 1 <= len(patterns) <= MAX_PATTERNS:
        raise Invalid(f"{field} must hold 1 to {MAX_PATTERNS} names or patterns.", field=field)
    for pattern in patterns:
        check_pattern(pattern, field=field)


def check_pattern(pattern: str, *, field: str) -> None:
    """Raise Invalid for a text that is no pattern."""
    if pattern != _ANY and not (_is_name(pattern.removesuffix(_BELOW)) and len(pattern) <= MAX_NAME):
        raise Invalid(f"{field} must hold exact names ({_RULE}), patterns like order.*, or *.", field=field)


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def matches(pattern: str, event_type: str) -> bool:
    """Tell whether events of this type are for a subscriber of this pattern."""
    if pattern == _ANY:
        return not event_type.startswith(RESERVED)
    if pattern.endswith(_BELOW):
        return event_type.startswith(pattern[:-1])
    return pattern == event_type


def patterns_for(event_type: str) -> list[str]:
    """Return every pattern that `matches` events of this type."""
    segments = event_type.split(".")
    below = [".".join(segments[:count]) + _BELOW for count in range(1, len(segments))]
    return [event_type, *below] if event_type.startswith(RESERVED) else [event_type, *below, _ANY]


class Matcher(Generic[T]):
    """The subscriptions of a client, arranged so that a match costs what it finds and not what there is."""

    def __init__(self, entries: Iterable[tuple[T, Sequence[str]]]) -> None:
        """Arrange subscribers with their patterns; no two are merged, even if equal."""
        self._exact: dict[str, list[T]] = {}
        self._below: dict[str, list[T]] = {}
        self._any: list[T] = []
        for subscriber, patterns in entries:
            self._arrange(subscriber, patterns)

    def _arrange(self, subscriber: T, patterns: Sequence[str]) -> None:
        for pattern in patterns if len(patterns) == 1 else _needed(frozenset(patterns)):
            if pattern == _ANY:
                self._any.append(subscriber)
            elif pattern.endswith(_BELOW):
                self._below.setdefault(pattern[:-1], []).append(subscriber)
            else:
                self._exact.setdefault(pattern, []).append(subscriber)

    def match(self, event_type: str) -> list[T]:
        """Return who gets events of this type, each once."""
        return list(chain.from_iterable(self._buckets(event_type)))

    def _buckets(self, event_type: str) -> Iterable[list[T]]:
        """Nobody is in two of those of one type: see `_needed`."""
        if not event_type.startswith(RESERVED):
            yield self._any
        yield self._exact.get(event_type, _NOBODY)
        end = event_type.find(".") if self._below else -1
        while end >= 0:
            yield self._below.get(event_type[: end + 1], _NOBODY)
            end = event_type.find(".", end + 1)


def _needed(patterns: frozenset[str]) -> Iterable[str]:
    """Leave out what another pattern of the same subscriber covers, so that one of them at most matches a type."""
    everything = _ANY in patterns
    for pattern in patterns:
        covered = everything and pattern != _ANY and not pattern.startswith(RESERVED)
        if not covered and not _is_below(pattern.removesuffix(_BELOW), patterns):
            yield pattern


def _is_below(name: str, patterns: frozenset[str]) -> bool:
    end = name.find(".")
    while end >= 0:
        if name[:end] + _BELOW in patterns:
            return True
        end = name.find(".", end + 1)
    return False
