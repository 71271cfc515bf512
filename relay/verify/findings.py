"""What the ledger finds: checks by name, and offenders with a sentence each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from relay.delivery.deliveries import ID_SLACK_S
from relay.ids import floor_at, unix_time

#: So many offenders of a check are listed, and all are counted.
LISTED = 100


class Check(StrEnum):
    """What is compared, as people read it."""

    EVENT = "event"
    FANOUT = "fan-out"
    DELIVERED = "delivered"
    DEAD = "dead"
    ATTEMPTS = "attempts"
    DEAD_LETTER = "dead-letter"
    OWNER = "owner"
    UNCLAIMED = "unclaimed"
    ASLEEP = "asleep"
    JOB = "job"
    SET_ASIDE = "set-aside"


@dataclass(frozen=True, slots=True)
class Offender:
    """A record that does not fit: its ids, and what is wrong in one sentence."""

    ids: tuple[str, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found: how many, and the first of them."""

    check: Check
    count: int
    offenders: tuple[Offender, ...]

    def __add__(self, more: Found) -> Found:
        """What the same check found here and further on."""
        return Found(self.check, self.count + more.count, (*self.offenders, *more.offenders)[:LISTED])


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of ids that one statement looks at: after < id <= upto."""

    after: UUID
    upto: UUID

    def parameters(self) -> dict[str, Any]:
        """The bounds for SQL. `oldest`, `oldest_at`: before what was made because of these; they prune partitions."""
        oldest_s = max(0.0, unix_time(self.after) - ID_SLACK_S)
        return {
            "after": self.after,
            "upto": self.upto,
            "oldest": floor_at(oldest_s),
            "oldest_at": datetime.fromtimestamp(oldest_s, UTC),
            "listed": LISTED,
        }


def found(check: Check, rows: Sequence[tuple[Any, ...]], offender: Callable[..., Offender]) -> Found:
    """Read a check's rows, at most LISTED: the columns of `offender`, and last how many there are without the limit."""
    return Found(check, rows[0][-1] if rows else 0, tuple(offender(*row[:-1]) for row in rows))
