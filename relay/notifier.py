"""The notifier of a worker process: tells clients what became of their endpoints and deliveries, and acts on it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from relay.chores import Chore
from relay.db import Conn, Database
from relay.delivery import deaths, notices
from relay.delivery.deaths import Death
from relay.delivery.gates import Closed, Opened
from relay.delivery.notices import Notice
from relay.ids import PostgresTime, Uuid7
from relay.insight import failing
from relay.queue import UNREACHABLE, Queue

_FORGOTTEN_S = 10.0
_CHUNK = 1_000
_CHUNKS_A_TURN = 5


class Notifier:
    """Each of its chores is correct if two clocks do it at once, and `tell_of_dead` if a message comes twice."""

    def __init__(self, db: Database, queue: Queue, *, ids: Uuid7, time: PostgresTime) -> None:
        self._db = db
        self._queue = queue
        self._ids = ids
        self._time = time

    def chores(self) -> list[Chore]:
        """What the clock is to do for it."""
        return [
            Chore(self._tell_of_forgotten, every_s=10.0),
            Chore(self._send_pending, every_s=30.0),
            Chore(self._watch_failing, every_s=30.0),
            Chore(self._forget, every_s=3600.0),
        ]

    async def tell_of_dead(self, ids: Sequence[UUID]) -> None:
        """See to what follows from these deaths, unless somebody has."""
        async with self._db.transaction() as conn:
            shards = await self._see_to(conn, await deaths.take(conn, ids))
        await self._ring(shards)

    async def tell_of_opened(self, opened: Sequence[Opened]) -> None:
        """Tell of circuits that have opened."""
        await self._tell(
            [notices.circuit_opened(one.tenant_id, one.endpoint_id, next_probe_at=one.next_probe_at) for one in opened]
        )

    async def tell_of_closed(self, closed: Sequence[Closed]) -> None:
        """Tell of circuits that have closed."""
        await self._tell([notices.circuit_closed(one.tenant_id, one.endpoint_id) for one in closed])

    async def _tell(self, told: Sequence[Notice]) -> None:
        async with self._db.transaction() as conn:
            shards = await notices.tell(conn, told, ids=self._ids)
        await self._ring(shards)

    async def _tell_of_forgotten(self) -> None:
        """Deaths of which no message came: it was lost, or none is sent of those that many rows die at once."""
        for _ in range(_CHUNKS_A_TURN):
            async with self._db.transaction() as conn:
                taken = await deaths.take_forgotten(conn, silent_s=_FORGOTTEN_S, limit=_CHUNK)
                shards = await self._see_to(conn, taken)
            await self._ring(shards)
            if len(taken) < _CHUNK:
                return

    async def _see_to(self, conn: Conn, taken: Sequence[Death]) -> frozenset[int]:
        if not taken:
            return frozenset()
        return await notices.tell(conn, await deaths.see_to(conn, taken), ids=self._ids)

    async def _send_pending(self) -> None:
        async with self._db.transaction() as conn:
            shards = await notices.send_due(conn, ids=self._ids)
        await self._ring(shards)

    async def _watch_failing(self) -> None:
        now = datetime.fromtimestamp(self._time(), UTC)
        async with self._db.transaction() as conn:
            await failing.note(conn, now=now)
        async with self._db.transaction() as conn:
            shards = await notices.tell(conn, await failing.judge(conn, now=now), ids=self._ids)
        await self._ring(shards)

    async def _forget(self) -> None:
        async with self._db.connection() as conn:
            await notices.forget(conn)

    async def _ring(self, shards: frozenset[int]) -> None:
        """Without Redis the clock finds the events."""
        if shards:
            with suppress(*UNREACHABLE):
                await self._queue.ring(sorted(shards))
