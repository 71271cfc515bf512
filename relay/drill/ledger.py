"""What was accepted held against what arrived, as it happens: loss, repeats, breaks of order. Relay is not asked."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A delivery that came again: when it came first, and when this time (seconds of the ledger's clock)."""

    path: str
    n: int
    first_at: float
    at: float


@dataclass(frozen=True, slots=True)
class Break:
    """A number that came after a greater one in a lane that keeps order."""

    path: str
    lane: str
    n: int
    after: int


@dataclass
class Ledger:
    """The account of a drill; producers and the receiver write into it from their threads.

    Every accepted event has to arrive at each of `paths`; those in `ordered` keep the order of each lane.
    """

    paths: Sequence[str]
    ordered: frozenset[str]
    clock: Clock = time.monotonic
    repeats: list[Repeat] = field(default_factory=list[Repeat])
    breaks: list[Break] = field(default_factory=list[Break])

    def __post_init__(self) -> None:
        """Begin with nothing accepted."""
        self._lock = threading.Lock()
        self._accepted: dict[int, float] = {}
        self._arrived: dict[tuple[str, int], float] = {}
        self._missing: dict[tuple[str, int], float] = {}
        self._greatest: dict[tuple[str, str], int] = {}

    def accept(self, n: int) -> None:
        """An event has its 2xx: from now on it must arrive."""
        at = self.clock()
        with self._lock:
            self._accepted[n] = at
            for path in self.paths:
                if (path, n) not in self._arrived:
                    self._missing[path, n] = at

    def arrive(self, path: str, lane: str, n: int) -> None:
        """A request with this number came in."""
        at = self.clock()
        with self._lock:
            first_at = self._arrived.setdefault((path, n), at)
            if first_at != at:
                self.repeats.append(Repeat(path, n, first_at, at))
            self._missing.pop((path, n), None)
            if path in self.ordered:
                self._keep_order(path, lane, n)

    def _keep_order(self, path: str, lane: str, n: int) -> None:
        greatest = self._greatest.get((path, lane), n)
        if n < greatest:
            self.breaks.append(Break(path, lane, n, after=greatest))
        self._greatest[path, lane] = max(n, greatest)

    @property
    def accepted(self) -> int:
        """How many events were accepted."""
        return len(self._accepted)

    @property
    def arrived(self) -> int:
        """How many deliveries arrived, each counted once."""
        return len(self._arrived)

    def missing(self, *, accepted_before: float = math.inf) -> int:
        """How many deliveries of events accepted before this moment have not arrived."""
        with self._lock:
            return sum(1 for at in self._missing.values() if at <= accepted_before)

    def accepted_since(self, moment: float) -> int:
        """How many events were accepted from this moment on."""
        with self._lock:
            return sum(1 for at in self._accepted.values() if at >= moment)

    def p99_ms(self, *, since: float, until: float) -> float:
        """The time from the 2xx to the arrival that 99 % of what was accepted in between kept; NaN of nothing."""
        with self._lock:
            waits = sorted(
                max(0.0, at - self._accepted[n])
                for (_, n), at in self._arrived.items()
                if since <= self._accepted.get(n, -math.inf) <= until
            )
        return waits[max(0, math.ceil(0.99 * len(waits)) - 1)] * 1000 if waits else math.nan
