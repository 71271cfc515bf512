"""Identifiers: monotonic UUIDv7 (RFC 9562) for rows, random 62-bit numbers for fences."""

from __future__ import annotations

import asyncio
import random
import secrets
import threading
import time
from collections.abc import Callable
from uuid import UUID

from relay.errors import Unavailable

_RANDOM_BITS = 74
_RANDOM_MASK = (1 << _RANDOM_BITS) - 1
_STEP_BITS = 32


class Uuid7:
    """Makes UUIDv7 that only grow within the process, at the times of a given clock (seconds since 1970).

    Within a millisecond the 74 random bits, which the operating system gives, are raised by a random step (RFC 9562,
    section 6.2, method 2); a clock that goes back is ignored.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._ms = 0
        self._tail = 0

    def __call__(self) -> UUID:
        """Return the next id."""
        with self._lock:
            ms = int(self._now() * 1000)
            if ms > self._ms:
                self._ms = ms
                self._tail = secrets.randbits(_RANDOM_BITS - 1)
            else:
                self._tail += 1 + random.getrandbits(_STEP_BITS)
                if self._tail > _RANDOM_MASK:
                    self._ms += 1
                    self._tail = secrets.randbits(_RANDOM_BITS - 1)
            return _assemble(self._ms, self._tail)


class PostgresTime:
    """The time of Postgres's clock, measured now and then and counted on from there. Seconds since 1970.

    The clock of this machine has no say: an id from a wrong time would have no partition, nor would any that follow it.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self.known = asyncio.Event()

    def measured(self, postgres_s: float, *, at: float) -> None:
        """Take in that Postgres's clock said `postgres_s` when `time.monotonic` said `at`."""
        self._offset_s = postgres_s - at
        self.known.set()

    def __call__(self) -> float:
        """Return the time now; Unavailable before the first measurement."""
        if self._offset_s is None:
            raise Unavailable("Postgres has not told its time yet; try again.", retry_after_s=1)
        return time.monotonic() + self._offset_s


def _assemble(ms: int, tail: int) -> UUID:
    high, low = tail >> 62, tail & ((1 << 62) - 1)
    return UUID(int=(ms << 80) | (0x7 << 76) | (high << 64) | (0b10 << 62) | low)


def floor_at(unix_s: float) -> UUID:
    """The smallest UUIDv7 of a moment: the bound for keyset and partition ranges."""
    return _assemble(int(unix_s * 1000), 0)


def unix_time(id: UUID) -> float:
    """The moment in a UUIDv7, in seconds since 1970 (milliseconds exact)."""
    return (id.int >> 80) / 1000


def fence() -> int:
    """A random 62-bit number, never a counter: a crash after an asynchronous commit would hand a counter out twice.

    It keeps no secret, so it is not asked of the operating system, which costs the GIL each time.
    """
    return random.getrandbits(62)
