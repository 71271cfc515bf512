"""Buckets of time: which of them a window has, and from which rollups it is read. In UTC; weeks begin on Monday."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from relay.errors import Invalid

#: The most buckets that one series has.
MAX_BUCKETS = 1_500
#: How long rollups are kept, by their grain; what is older is to be had in the next coarser one only.
MINUTES_KEPT = timedelta(days=2)
HOURS_KEPT = timedelta(days=35)
DAYS_KEPT = timedelta(days=400)
_USUAL_WINDOW = timedelta(days=1)


class Grain(StrEnum):
    """What a rollup sums up."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


class Granularity(StrEnum):
    """The length of a series' buckets."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"

    @property
    def step(self) -> timedelta:
        """How long a bucket is."""
        return _STEPS[self]

    @property
    def grain(self) -> Grain:
        """The coarsest rollup of which it can be made."""
        return Grain.DAY if self is Granularity.WEEK else Grain(self.value)


_STEPS = {
    Granularity.MINUTE: timedelta(minutes=1),
    Granularity.HOUR: timedelta(hours=1),
    Granularity.DAY: timedelta(days=1),
    Granularity.WEEK: timedelta(days=7),
}
_KEPT = {Granularity.MINUTE: MINUTES_KEPT, Granularity.HOUR: HOURS_KEPT, Granularity.DAY: DAYS_KEPT}
_FINER = {Grain.DAY: Grain.HOUR, Grain.HOUR: Grain.MINUTE}
_A_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """From `since` up to but without `until`."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a window, and the rollups that it is read from."""

    grain: Grain
    since: datetime
    until: datetime


def floor(at: datetime, granularity: Granularity) -> datetime:
    """Return the beginning of the bucket that a moment lies in."""
    return at.astimezone(UTC) - (at - _A_MONDAY) % granularity.step


def ceil(at: datetime, granularity: Granularity) -> datetime:
    """Return the first beginning of a bucket that is not before this moment."""
    return at.astimezone(UTC) + (_A_MONDAY - at) % granularity.step


def window(since: datetime | None, until: datetime | None, *, now: datetime) -> Window:
    """Return the window in whole minutes, or in the coarser unit that is kept of so long ago. Default: the last 24 hours.

    Raises Invalid for a window that is empty, lies in the future, or begins before anything is kept.
    """
    asked = _checked(since, until, now=now)
    unit = next(unit for unit, kept in _KEPT.items() if asked.since >= now - kept)
    return Window(floor(asked.since, unit), ceil(asked.until, unit))


def series(since: datetime | None, until: datetime | None, granularity: Granularity, *, now: datetime) -> Window:
    """Return the window in whole buckets. Raises Invalid as `window` does, and for buckets too many or no longer kept."""
    asked = _checked(since, until, now=now)
    kept = _KEPT.get(granularity, DAYS_KEPT)
    if asked.since < now - kept:
        raise Invalid(
            f"{granularity.name} figures are kept for {kept.days} days; ask for a later since or a coarser granularity.",
            field="granularity",
        )
    found = Window(floor(asked.since, granularity), ceil(asked.until, granularity))
    count = (found.until - found.since) // granularity.step
    if count > MAX_BUCKETS:
        raise Invalid(
            f"This would be {count} buckets; at most {MAX_BUCKETS} are answered."
            " Ask for a coarser granularity or a shorter time.",
            field="granularity",
        )
    return found


def _checked(since: datetime | None, until: datetime | None, *, now: datetime) -> Window:
    until = min(until or now, now)
    since = since or until - _USUAL_WINDOW
    if since >= until:
        raise Invalid("since must be before until, and in the past.", field="since")
    if since < now - DAYS_KEPT:
        raise Invalid(f"Figures are kept for {DAYS_KEPT.days} days; since must be later.", field="since")
    return Window(since, until)


def starts(found: Window, granularity: Granularity) -> list[datetime]:
    """Return the beginnings of a window's buckets, the oldest first."""
    count = (found.until - found.since) // granularity.step
    return [found.since + i * granularity.step for i in range(count)]


def pieces(window: Window, *, coarsest: Grain, closed: Mapping[Grain, datetime]) -> Iterator[Piece]:
    """Yield what a window of whole minutes is read from: as much as can be from rollups no coarser than `coarsest`.

    `closed`: the moment up to which a grain's rollups are made; of minutes there are all.
    """
    since, until = window.since, window.until
    if since >= until:
        return
    if coarsest is Grain.MINUTE:
        yield Piece(coarsest, since, until)
        return
    unit, finer = Granularity(coarsest.value), _FINER[coarsest]
    first, last = ceil(since, unit), floor(min(until, closed[coarsest]), unit)
    if first >= last:
        yield from pieces(window, coarsest=finer, closed=closed)
        return
    yield from pieces(Window(since, first), coarsest=finer, closed=closed)
    yield Piece(coarsest, first, last)
    yield from pieces(Window(last, until), coarsest=finer, closed=closed)
