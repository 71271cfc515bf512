"""Group commit: many requests, one statement. At low load a batch is one request; under load batches grow by themselves."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg_pool import PoolTimeout

from relay import metrics
from relay.db import LOST, REPEATABLE, SPLITTABLE, Database
from relay.errors import Invalid, RelayError, Unavailable
from relay.ids import Uuid7
from relay.intake.accept import Accepted, Candidate, NewEvent, already_stored, key_conflict, originals, store
from relay.pump import Pump

Receipt = Accepted | RelayError

MAX_ROWS = 500
MAX_BYTES = 8 << 20
MAX_WAITING = 10_000
_STATEMENTS_AT_ONCE = 2
_TRIES = 4
#: A batch waits this long for a key that somebody else holds; its halves, looking for the culprit, much shorter.
_LOCK_TIMEOUT_MS = 250
_SPLIT_LOCK_TIMEOUT_MS = 20
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Item:
    candidate: Candidate
    done: asyncio.Future[Receipt]
    followers: list[_Item]


@dataclass(frozen=True, slots=True)
class _Request:
    items: list[_Item]
    bytes: int


class Collector:
    """Gathers what arrives while a statement is under way and stores it with the next one.

    A request's events stay together: in one statement, or in several one after the other, so that their order is theirs.
    """

    def __init__(self, db: Database, *, ids: Uuid7, ring: Callable[[frozenset[int]], None]) -> None:
        """`ring` is called after each commit with the outbox shards that got work; it must not wait."""
        self._db = db
        self._ids = ids
        self._ring = ring
        self._waiting: deque[_Request] = deque()
        self._rows = 0
        self._pump = Pump(self._store_batch, self._waiting, at_once=_STATEMENTS_AT_ONCE)

    async def accept(self, events: Sequence[NewEvent]) -> list[Receipt]:
        """Return a receipt or an error for each event, in order, after the commit that holds it; Unavailable when full."""
        if self._rows + len(events) > MAX_WAITING:
            raise Unavailable("Too many events are waiting to be stored; try again soon.", retry_after_s=1)
        loop = asyncio.get_running_loop()
        items = [_Item(self._candidate(event), loop.create_future(), []) for event in events]
        for start in range(0, len(items), MAX_ROWS):
            self._enqueue(items[start : start + MAX_ROWS])
            chunk = items[start : start + MAX_ROWS]
            await asyncio.wait([item.done for item in chunk])
        return [item.done.result() for item in items]

    def _candidate(self, event: NewEvent) -> Candidate:
        return Candidate(self._ids(), event, event.request_hash() if event.idempotency_key is not None else None)

    def _enqueue(self, items: list[_Item]) -> None:
        self._waiting.append(_Request(items, sum(len(item.candidate.event.payload) for item in items)))
        self._rows += len(items)
        self._pump.wake()

    async def _store_batch(self) -> None:
        items = self._next_batch()
        try:
            await self._store_leaders(_fold(items))
        except LOST as cause:
            _LOG.warning("%d events are refused, Postgres cannot be reached: %s", len(items), cause)
        except Exception:
            _LOG.exception("a batch of %d events failed", len(items))
        finally:
            for item in items:
                _resolve(item, Unavailable("The event could not be stored; try again."))

    def _next_batch(self) -> list[_Item]:
        items: list[_Item] = []
        size = 0
        while self._waiting:
            request = self._waiting[0]
            if items and (len(items) + len(request.items) > MAX_ROWS or size + request.bytes > MAX_BYTES):
                break
            self._waiting.popleft()
            items += request.items
            size += request.bytes
        self._rows -= len(items)
        return items

    async def _store_leaders(self, leaders: list[_Item], *, lock_timeout_ms: int = _LOCK_TIMEOUT_MS) -> None:
        may_be_stored = False
        for attempt in range(_TRIES):
            try:
                if may_be_stored:
                    leaders = await self._without_stored(leaders)
                return await self._store_once(leaders, lock_timeout_ms=lock_timeout_ms)
            except REPEATABLE:
                continue
            except SPLITTABLE as cause:
                return await self._split(leaders, cause)
            except LOST as cause:
                # Who had no connection for 5 s tells the producer; a next try would only take as long again.
                if attempt == _TRIES - 1 or isinstance(cause, PoolTimeout):
                    raise
                may_be_stored = True
                await asyncio.sleep(0.05 * 4**attempt)

    async def _store_once(self, leaders: list[_Item], *, lock_timeout_ms: int) -> None:
        candidates = [item.candidate for item in leaders]
        async with self._db.connection() as conn:
            with metrics.DATABASE_SECONDS.labels("accept").time():
                stored = await store(conn, candidates, lock_timeout_ms=lock_timeout_ms)
            if stored.receipts:
                metrics.BATCHES.inc()
                metrics.BATCH_SIZE.labels("accept").observe(len(stored.receipts))
                metrics.EVENTS.inc(len(stored.receipts))
            self._ring_for(stored.shards)
            for item in leaders:
                if receipt := stored.receipts.get(item.candidate.id):
                    _resolve(item, receipt)
            losers = [item for item in leaders if item.candidate.id not in stored.receipts]
            if losers:
                found = await originals(conn, [item.candidate for item in losers])
                for item in losers:
                    _resolve(
                        item, found.get(item.candidate.id) or Unavailable("The key is being taken over; try again.")
                    )

    async def _split(self, leaders: list[_Item], cause: Exception) -> None:
        if isinstance(cause, UniqueViolation):
            leaders = await self._without_stored(leaders)
        if len(leaders) <= 1:
            for leader in leaders:
                extra = {"tenant_id": leader.candidate.event.tenant_id, "event_id": leader.candidate.id}
                _LOG.warning("an event could not be stored: %s", cause, extra=extra)
                _resolve(leader, _refusal(cause))
            return
        middle = len(leaders) // 2
        await self._store_leaders(leaders[:middle], lock_timeout_ms=_SPLIT_LOCK_TIMEOUT_MS)
        await self._store_leaders(leaders[middle:], lock_timeout_ms=_SPLIT_LOCK_TIMEOUT_MS)

    async def _without_stored(self, leaders: list[_Item]) -> list[_Item]:
        """After a lost connection nobody knows whether the commit was carried out: look before storing again."""
        async with self._db.connection() as conn:
            found = await already_stored(conn, [item.candidate.id for item in leaders])
        for item in leaders:
            if receipt := found.get(item.candidate.id):
                _resolve(item, receipt)
        self._ring_for(frozenset(item.candidate.event.tenant_id.int & 15 for item in leaders if item.done.done()))
        return [item for item in leaders if item.candidate.id not in found]

    def _ring_for(self, shards: frozenset[int]) -> None:
        if shards:
            self._ring(shards)


def _fold(items: list[_Item]) -> list[_Item]:
    """Put equal (tenant, key) behind their first: the statement may see each key once."""
    leaders: list[_Item] = []
    by_key: dict[tuple[UUID, str], _Item] = {}
    for item in items:
        key = item.candidate.event.idempotency_key
        if key is None:
            leaders.append(item)
            continue
        leader = by_key.setdefault((item.candidate.event.tenant_id, key), item)
        if leader is item:
            leaders.append(item)
        else:
            leader.followers.append(item)
    return leaders


def _resolve(item: _Item, receipt: Receipt) -> None:
    if item.done.done():
        return
    item.done.set_result(receipt)
    for follower in item.followers:
        _resolve(follower, _followers_receipt(item, follower, receipt))


def _followers_receipt(leader: _Item, follower: _Item, receipt: Receipt) -> Receipt:
    if not isinstance(receipt, Accepted):
        return receipt
    if leader.candidate.hash != follower.candidate.hash:
        return key_conflict()
    return Accepted(receipt.id, receipt.created_at, receipt.scheduled_at, duplicate=True)


def _refusal(cause: Exception) -> RelayError:
    if isinstance(cause, SPLITTABLE[2]):
        return Unavailable("Another request with this idempotency key is being stored; try again.", retry_after_s=1)
    return Invalid("The event holds something that cannot be stored.")
