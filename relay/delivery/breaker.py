"""The circuit breaker of a worker process: hears of every outcome, counts failures in a row, and moves the gates.

An outcome counts in the epoch it was sent under and in no other. Nobody waits for the breaker: it hears by plain calls and
works in a task of its own. Without Redis nothing is counted, without Postgres nothing is moved; a circuit that should have
opened opens with the next failure, and a probe whose outcome was not noted is followed by another.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import TypeVar
from uuid import UUID

from relay import metrics
from relay.db import LOST, REPEATABLE, Conn, Database
from relay.delivery import gates, pausing
from relay.delivery.counters import Counters, Tally
from relay.delivery.gates import Closed, Epoch, Opened
from relay.delivery.live import TEST_LANE, Dispatched
from relay.delivery.outcomes import Reason
from relay.delivery.record import Attempt, Recorded
from relay.errors import RelayError
from relay.queue import UNREACHABLE

#: Successes only set counters back, so they may wait this long for a failure to go with.
_SUCCESSES_WAIT_S = 0.2
_LOOK_S = 0.1
_STOP_S = 0.5
_NO_ANSWER = frozenset({
    Reason.DNS_FAILED, Reason.CONNECTION_REFUSED, Reason.CONNECTION_RESET, Reason.CONNECT_TIMEOUT, Reason.TLS_FAILED,
    Reason.PROXY_FAILED, Reason.RESPONSE_TIMEOUT, Reason.MALFORMED_RESPONSE,
})  # fmt: skip
_LOG = logging.getLogger(__name__)
T = TypeVar("T")


class Verdict(Enum):
    """What an attempt says of its endpoint."""

    SUCCESS = auto()
    FAILURE = auto()
    NEUTRAL = auto()


def judge(attempt: Attempt, *, retry_after_s: float | None) -> Verdict:
    """Tell what an attempt says of its endpoint.

    No good answer and a 5xx are failures; any other answer is a success, for the endpoint is there. Neither is what Relay
    did not send, a 429, and a 503 that says when to come back.
    """
    if attempt.reason in _NO_ANSWER:
        return Verdict.FAILURE
    if attempt.status is None or attempt.status == 429 or (attempt.status == 503 and retry_after_s):
        return Verdict.NEUTRAL
    return Verdict.FAILURE if attempt.status >= 500 else Verdict.SUCCESS


@dataclass(slots=True)
class _News:
    """What was heard and not yet acted on."""

    tallies: dict[Epoch, Tally] = field(default_factory=dict[Epoch, Tally])
    thresholds: dict[Epoch, int] = field(default_factory=dict[Epoch, int])
    healed: set[Epoch] = field(default_factory=set[Epoch])
    failed: dict[Epoch, float] = field(default_factory=dict[Epoch, float])
    throttled: dict[UUID, float] = field(default_factory=dict[UUID, float])

    @property
    def there(self) -> bool:
        return bool(self.tallies or self.urgent)

    @property
    def urgent(self) -> bool:
        return bool(self.healed or self.failed or self.throttled or self.thresholds)

    def of_probe(self, epoch: Epoch, verdict: Verdict, *, retry_after_s: float) -> None:
        if verdict is Verdict.SUCCESS:
            self.healed.add(epoch)
        else:
            self.failed[epoch] = retry_after_s

    def of_others(self, epoch: Epoch, verdict: Verdict, *, threshold: int, retry_after_s: float) -> None:
        if retry_after_s:
            self.throttled[epoch[0]] = max(retry_after_s, self.throttled.get(epoch[0], 0.0))
        if verdict is Verdict.SUCCESS:
            self.tallies.setdefault(epoch, Tally()).succeed()
        elif verdict is Verdict.FAILURE:
            self.tallies.setdefault(epoch, Tally()).fail()
            self.thresholds[epoch] = threshold


class Breaker:
    """`on_opened` and `on_closed` hear, after the commit, of the circuits that this process opened and closed."""

    def __init__(self, db: Database, counters: Counters) -> None:
        self.on_opened: list[Callable[[Sequence[Opened]], None]] = []
        self.on_closed: list[Callable[[Sequence[Closed]], None]] = []
        self._db = db
        self._counters = counters
        self._news = _News()
        self._urgent = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self._probing: dict[UUID, int] = {}
        self._counting = True
        self._any_closed = False
        self._looked_at = float("-inf")

    def hear(self, batch: Iterable[Recorded]) -> None:
        """Take in a batch of recorded outcomes, and act on them soon. Those of test deliveries say nothing."""
        for one in batch:
            if one.attempt is not None and one.circuit_threshold is not None and one.delivery.lane != TEST_LANE:
                self._hear(one, one.attempt, one.circuit_threshold)
        if self._news.urgent:
            self._urgent.set()
        if self._news.there and self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work())

    def _hear(self, one: Recorded, attempt: Attempt, threshold: int) -> None:
        epoch = (one.delivery.endpoint_id, one.delivery.epoch)
        verdict = judge(attempt, retry_after_s=one.retry_after_s)
        retry_after_s = one.retry_after_s or 0.0
        if self._probing.get(epoch[0]) == epoch[1]:
            del self._probing[epoch[0]]
            self._news.of_probe(epoch, verdict, retry_after_s=retry_after_s)
        else:
            self._news.of_others(epoch, verdict, threshold=threshold, retry_after_s=retry_after_s)

    async def may_probe(self, conn: Conn, endpoint_id: UUID) -> bool:
        """Become the endpoint's one probe, in a transaction that takes one delivery; False when there is one already."""
        epoch = await gates.try_probe(conn, endpoint_id)
        if epoch is not None:
            self._probing[endpoint_id] = epoch
        return epoch is not None

    def may_be_closed(self) -> bool:
        """False when no gate was closed anywhere a moment ago: then there is nothing to park. For any thread."""
        return self._any_closed or time.monotonic() - self._looked_at > _LOOK_S

    async def park(self, dispatched: Sequence[Dispatched]) -> frozenset[UUID]:
        """Put back into their lanes those of these deliveries that a gate holds; return which."""
        if time.monotonic() - self._looked_at > _LOOK_S:
            self._any_closed = await self._write(gates.any_closed)
            self._looked_at = time.monotonic()
        if not self._any_closed:
            return frozenset()
        parked = await self._write(lambda conn: gates.park(conn, dispatched))
        metrics.PARKED.inc(len(parked))
        return frozenset(parked)

    async def close(self) -> None:
        """Act on what was heard, for half a second at most, and end."""
        self._urgent.set()
        if self._working is not None:
            await asyncio.wait([self._working], timeout=_STOP_S)
        await self._counters.close()

    async def _work(self) -> None:
        try:
            while self._news.there:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SUCCESSES_WAIT_S):
                        await self._urgent.wait()
                self._urgent.clear()
                news, self._news = self._news, _News()
                await self._act(news)
        finally:
            self._working = None

    async def _act(self, news: _News) -> None:
        try:
            await self._move_gates(news)
            counts = await self._count(news)
            broken = [epoch for epoch, threshold in news.thresholds.items() if counts.get(epoch, 0) >= threshold]
            if broken:
                await self._open(broken)
        except (*LOST, RelayError) as cause:
            _LOG.warning("circuits stay as they are, Postgres is away: %s", cause)
        except Exception:
            _LOG.exception("circuits stay as they are")

    async def _move_gates(self, news: _News) -> None:
        if news.healed:
            closed = await self._write(lambda conn: gates.close_circuits(conn, news.healed))
            await self._ring(closed)
            metrics.CIRCUITS_CLOSED.inc(len(closed))
            for tell in self.on_closed:
                tell(closed)
        if news.failed:
            await self._write(lambda conn: gates.reopen_circuits(conn, news.failed))
        if news.throttled:
            await self._write(lambda conn: gates.throttle(conn, news.throttled))

    async def _ring(self, closed: Sequence[Closed]) -> None:
        """Ring once more: a lane that was made while its circuit closed may sleep until the end of the probe."""
        for endpoint_id in [one.endpoint_id for one in closed]:
            await self._write(partial(pausing.ring_lanes, endpoint_id=endpoint_id))

    async def _open(self, broken: Sequence[Epoch]) -> None:
        opened = await self._write(lambda conn: gates.open_circuits(conn, broken))
        metrics.CIRCUITS_OPENED.inc(len(opened))
        for tell in self.on_opened:
            tell(opened)

    async def _count(self, news: _News) -> dict[Epoch, int]:
        try:
            counts = await self._counters.count(news.tallies) if news.tallies else {}
        except UNREACHABLE as cause:
            if self._counting:
                _LOG.warning("failures are not counted and no circuit opens, Redis is away: %s", cause)
            self._counting = False
            return {}
        self._counting = True
        return counts

    async def _write(self, write: Callable[[Conn], Awaitable[T]]) -> T:
        while True:
            try:
                async with self._db.connection() as conn:
                    return await write(conn)
            except REPEATABLE:
                continue
