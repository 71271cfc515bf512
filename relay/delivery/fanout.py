"""Fan-out: events from the outbox become deliveries, in the order of acceptance, once and only once.

Once, because the outbox rows are deleted in the transaction that stores the deliveries. An endpoint that was created
before an event was accepted gets it: subscriptions are compared with Postgres after the shard is locked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from relay import metrics
from relay.catalog.filters import Seen
from relay.catalog.partition_keys import partition_key
from relay.catalog.subscribers import Subscriber, subscriptions
from relay.catalog.subscriptions import Matcher
from relay.db import REPEATABLE, SPLITTABLE, Conn, Database
from relay.delivery.filtering import let_through, look_into
from relay.delivery.live import FIFO, Dispatched, Planned, insert, lane_of, tier_of
from relay.ids import Uuid7, fence
from relay.intake import outbox
from relay.intake.outbox import Entry, Head, Hints

if TYPE_CHECKING:
    from relay.delivery.tracing import DeliverySpans

MAX_EVENTS = 500
MAX_DELIVERIES = 5_000
WINDOW = 4_000
#: After a batch of fewer events, more are let come: a transaction costs the same for one and for fifty.
_FEW = 100
_GATHER_S = 0.003
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Event:
    entry: Entry
    type: str | None
    priority: int
    endpoint_id: UUID | None


@dataclass(frozen=True, slots=True)
class _Known:
    """The subscriptions of a client; `reads`: one of them looks into the events themselves."""

    version: int
    matcher: Matcher[Subscriber]
    reads: bool


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one transaction did: what goes out at once, how many events are done, and how many to try next."""

    shards: list[int]
    dispatched: list[Dispatched]
    found: bool
    limit: int
    events: int = 0


async def _nothing(_shards: Sequence[int]) -> None: ...


class FanOut:
    """Drains outbox shards. `window` bounds the deliveries that are handed out and unclaimed, in the whole system."""

    def __init__(
        self,
        db: Database,
        *,
        ids: Uuid7,
        window: int = WINDOW,
        on_waiting: Callable[[], None] = lambda: None,
        before_last_look: Callable[[Sequence[int]], Awaitable[None]] = _nothing,
    ) -> None:
        """`on_waiting` is called after a commit that made deliveries wait in lanes that are due.

        `before_last_look` lets somebody ring again for the shards: what is accepted later than the look that follows, the
        drain does not find.
        """
        self._before_last_look = before_last_look
        self._db = db
        self._on_waiting = on_waiting
        self._ids = ids
        self._window = window
        #: Makes traces of what is fanned out; None: nobody asked for them.
        self.spans: DeliverySpans | None = None
        self._hints = Hints()
        self._matchers: dict[UUID, _Known] = {}

    async def drain(self, shards: Sequence[int]) -> AsyncIterator[list[Dispatched]]:
        """Fan out until the shards are empty or somebody else drains them, batch by batch; yield what to hand out.

        Looks once more after the last commit, when the locks are gone: who came meanwhile found them taken and left.
        """
        limit, in_vain = MAX_EVENTS, 0
        while True:
            batch = await self._drain_once(shards, limit=limit)
            if batch is None:
                return
            if batch.dispatched:
                yield batch.dispatched
            limit = batch.limit
            if batch.found:
                in_vain = 0
                if 0 < batch.events < _FEW:
                    await asyncio.sleep(_GATHER_S)
                continue
            await self._before_last_look(shards)
            if in_vain or not await self._has_work(batch.shards):
                return
            in_vain = 1
            self._hints.forget(batch.shards)

    async def _drain_once(self, shards: Sequence[int], *, limit: int) -> _Batch | None:
        """Fan out one batch; None when all shards are somebody else's.

        A batch that cannot be stored is halved until the event at fault stands alone; that one is set aside, visibly.
        """
        mine, head, started_ns = list(shards), None, time.time_ns() if self.spans else 0
        try:
            async with self._db.transaction() as conn:
                mine = await outbox.lock_shards(conn, shards)
                if not mine:
                    return None
                head = await outbox.read_head(conn, mine, hints=self._hints, limit=limit)
                with metrics.DATABASE_SECONDS.labels("fan_out").time():
                    dispatched, waiting, matched = await self._fan_out(conn, head)
        except REPEATABLE:
            return _Batch(mine, [], found=True, limit=limit)
        except SPLITTABLE as cause:
            if limit == 1 and head is not None:
                await self._set_aside(head.entries[0], cause)
            return _Batch(mine, [], found=True, limit=max(1, limit // 2))
        done = len(matched)
        if self.spans is not None:
            self.spans.fanned_out(head.entries[:done], matched, since_ns=started_ns)
        self._hints.learn(mine, head if done == len(head.entries) else _shortened(head, done))
        metrics.FANNED_OUT.inc(done)
        if done:
            metrics.BATCH_SIZE.labels("fan_out").observe(done)
        if waiting:
            self._on_waiting()
        return _Batch(mine, dispatched, found=done > 0, limit=min(MAX_EVENTS, limit * 2), events=done)

    async def _has_work(self, shards: Sequence[int]) -> bool:
        async with self._db.connection() as conn:
            return not set(await outbox.shards_with_work(conn)).isdisjoint(shards)

    async def _set_aside(self, entry: Entry, cause: Exception) -> None:
        extra = {"tenant_id": entry.tenant_id, "event_id": entry.event_id}
        _LOG.error("event %s cannot be fanned out and is set aside: %s", entry.event_id, cause, extra=extra)
        async with self._db.connection() as conn:
            await outbox.set_aside(conn, entry, reason=str(cause).splitlines()[0][:500])

    async def _fan_out(self, conn: Conn, head: Head) -> tuple[list[Dispatched], int, list[int]]:
        """Return what goes out at once, how many deliveries wait, and for each event that is done how many it made."""
        if not head.entries:
            return [], 0, []
        events = await _read_events(conn, head.entries)
        await self._refresh(conn, head.entries)
        matched = self._match(events)
        seen = await self._look_into(conn, matched)
        if seen:
            matched = [(event, await _let_through(event, targets, seen)) for event, targets in matched]
        planned = [
            self._plan(event, target, seen.get(event.entry.event_id))
            for event, targets in matched
            for target in targets
        ]
        counts = [len(targets) for _, targets in matched]
        entries = head.entries[: len(counts)]
        async with conn.pipeline():
            await _prove(conn, entries, counts)
            await outbox.remove(conn, entries)
            dispatched = await insert(conn, planned, window=self._window) if planned else []
        return dispatched, len(planned) - len(dispatched), counts

    def _match(self, events: Iterable[_Event]) -> list[tuple[_Event, list[Subscriber]]]:
        """Each event with those it is for, until there is enough for one transaction."""
        matched: list[tuple[_Event, list[Subscriber]]] = []
        count = 0
        for event in events:
            targets = self._targets(event)
            count += len(targets)
            if matched and count > MAX_DELIVERIES:
                break
            matched.append((event, targets))
        return matched

    def _plan(self, event: _Event, target: Subscriber, seen: Seen | None) -> Planned:
        ids = (self._ids(), event.entry.tenant_id, event.entry.event_id, target.id)
        if target.fifo:
            key = partition_key(target.partition_key, seen.payload if seen else b"")
            return Planned(*ids, 1, FIFO + key, fence(), waits=True)
        tier = tier_of(event.priority)
        return Planned(*ids, tier, lane_of(tier), fence())

    def _targets(self, event: _Event) -> list[Subscriber]:
        if event.endpoint_id is not None:
            return [Subscriber(event.endpoint_id, [], fifo=False, partition_key=None)]
        known = self._matchers.get(event.entry.tenant_id)
        return known.matcher.match(event.type) if known and event.type is not None else []

    async def _look_into(self, conn: Conn, matched: Iterable[tuple[_Event, list[Subscriber]]]) -> dict[UUID, Seen]:
        ids: list[UUID] = []
        for event, targets in matched:
            known = self._matchers.get(event.entry.tenant_id)
            if known and known.reads and any(one.reads_payload for one in targets):
                ids.append(event.entry.event_id)
        return await look_into(conn, ids) if ids else {}

    def _version(self, tenant_id: UUID) -> int:
        known = self._matchers.get(tenant_id)
        return known.version if known else 0

    async def _refresh(self, conn: Conn, entries: Sequence[Entry]) -> None:
        versions = {entry.tenant_id: entry.config_version for entry in entries}
        stale = [id for id, version in versions.items() if self._version(id) != version]
        if stale:
            for id, (version, subscribers) in (await subscriptions(conn, stale)).items():
                matcher = Matcher((one, one.patterns) for one in subscribers)
                self._matchers[id] = _Known(version, matcher, any(one.reads_payload for one in subscribers))


async def _let_through(event: _Event, targets: list[Subscriber], seen: Mapping[UUID, Seen]) -> list[Subscriber]:
    id = event.entry.event_id
    return await let_through(seen[id], targets, event_id=id) if id in seen else targets


def _shortened(head: Head, done: int) -> Head:
    return Head(head.entries[:done], head.xmin, head.ceiling, cut=True)


async def _read_events(conn: Conn, entries: Sequence[Entry]) -> list[_Event]:
    rows = await conn.execute(
        "SELECT id, type, priority, endpoint_id FROM events WHERE id = ANY(%b::uuid[])",
        ([entry.event_id for entry in entries],),
    )
    found: dict[UUID, tuple[str | None, int, UUID | None]] = {row[0]: row[1:] for row in await rows.fetchall()}
    return [_Event(entry, *found.get(entry.event_id, (None, 5, None))) for entry in entries]


async def _prove(conn: Conn, entries: Sequence[Entry], matched: Sequence[int]) -> None:
    await conn.execute(
        """INSERT INTO fanouts (event_id, tenant_id, matched, config_version)
           SELECT * FROM unnest(%b::uuid[], %b::uuid[], %b::int[], %b::int8[])""",
        (
            [entry.event_id for entry in entries],
            [entry.tenant_id for entry in entries],
            list(matched),
            [entry.config_version for entry in entries],
        ),
    )
