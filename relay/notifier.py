"""The notifier of a worker process: tells clients what became of their endpoints and deliveries, and acts on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from relay.chores import Chore
from relay.db import LOST, Conn, Database
from relay.delivery import deaths, notices, pausing
from relay.delivery.deaths import Death
from relay.delivery.notices import Kind, Notice
from relay.ids import PostgresTime, Uuid7
from relay.insight import failing
from relay.queue import UNREACHABLE, Queue

_LOG = logging.getLogger(__name__)
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
        self._telling: set[asyncio.Task[None]] = set()

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
        await self._see_to(partial(deaths.take, ids=ids))

    def tell_soon(self, told: Sequence[Notice]) -> None:
        """Tell in a task of its own; without Postgres nobody is told."""
        task = asyncio.get_running_loop().create_task(self._tell(told))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, told: Sequence[Notice]) -> None:
        try:
            async with self._db.transaction() as conn:
                shards = await notices.tell(conn, told, ids=self._ids)
            await self._ring(shards)
        except LOST as cause:
            _LOG.warning("%d notices are not sent: %s", len(told), cause)

    async def _tell_of_forgotten(self) -> None:
        """Deaths of which no message came: it was lost, or none is sent of those that many rows die at once."""
        for _ in range(_CHUNKS_A_TURN):
            if await self._see_to(partial(deaths.take_forgotten, silent_s=_FORGOTTEN_S, limit=_CHUNK)) < _CHUNK:
                return

    async def _see_to(self, take: Callable[[Conn], Awaitable[Sequence[Death]]]) -> int:
        """See to deaths that are taken now; return how many."""
        async with self._db.transaction() as conn:
            taken = await take(conn)
            told = await deaths.see_to(conn, taken) if taken else []
            shards = await notices.tell(conn, told, ids=self._ids)
        await self._ring_lanes(told)
        await self._ring(shards)
        return len(taken)

    async def _send_pending(self) -> None:
        async with self._db.transaction() as conn:
            shards = await notices.send_due(conn, ids=self._ids)
        await self._ring(shards)

    async def _watch_failing(self) -> None:
        now = datetime.fromtimestamp(self._time(), UTC)
        async with self._db.transaction() as conn:
            await failing.note(conn, now=now)
        async with self._db.transaction() as conn:
            told = await failing.judge(conn, now=now)
            shards = await notices.tell(conn, told, ids=self._ids)
        await self._ring_lanes(told)
        await self._ring(shards)

    async def _forget(self) -> None:
        async with self._db.connection() as conn:
            await notices.forget(conn)

    async def _ring_lanes(self, told: Sequence[Notice]) -> None:
        """Ring the lanes of disabled endpoints once more: one that was made meanwhile may sleep before a gate of then."""
        for notice in told:
            if notice.kind is Kind.ENDPOINT_DISABLED:
                async with self._db.transaction() as conn:
                    await pausing.ring_lanes(conn, notice.subject_id)

    async def _ring(self, shards: frozenset[int]) -> None:
        """Without Redis the clock finds the events."""
        if shards:
            with suppress(*UNREACHABLE):
                await self._queue.ring(sorted(shards))
