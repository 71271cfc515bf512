"""What a web process is made of: built once by its entry point, and handed down."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from uuid import UUID

from relay import traces
from relay.catalog.secrets import Vault
from relay.db import Database
from relay.delivery import direct
from relay.delivery.addresses import guard_of
from relay.delivery.counters import Counters
from relay.delivery.live import hints_for
from relay.feed.hub import Hub
from relay.ids import PostgresTime, Uuid7
from relay.intake.collector import Collector
from relay.intake.doorbell import Doorbell
from relay.presence import BEAT_S, Presence
from relay.queue import REDIS_TIMEOUT_S, UNREACHABLE, Queue
from relay.redis_clients import Shares
from relay.replica import Replica
from relay.runtime import postgres_time
from relay.sandbox.pool import Sandbox
from relay.sandbox.process import Limits, answer_bytes
from relay.settings import Settings
from relay.tasks import cancel, every
from relay.vitals import Vitals, health

_HINT_S = 0.1
#: For what is tried before it is stored, and by whoever writes a transformation.
_SANDBOXES = 3


class Web:
    """A web process: accepts events and answers questions."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.time = PostgresTime()
        self.ids = Uuid7(self.time)
        self.guard = guard_of(settings)
        self.vault = Vault.of(settings)
        self.db = Database(settings)
        self.replica = Replica(settings, self.db)
        connections = Shares(settings.redis_pool_size)
        self.queue = Queue(settings.redis_url, pool_size=connections.web_queue, timeout_s=REDIS_TIMEOUT_S)
        self.counters = Counters(settings.state_url, connections=connections.web_counters)
        self.feed = Hub(settings.redis_url, connections=connections.web_feed)
        self.doorbell = Doorbell(self.queue)
        self.collector = Collector(self.db, ids=self.ids, ring=self.doorbell.ring)
        self.presence = Presence(self.db)
        limits = Limits(answer_bytes=answer_bytes(settings.max_payload_bytes))
        self.sandbox = Sandbox(children=_SANDBOXES, limits=limits)
        self.traces = traces.begin(settings, service="relay-web")
        self._vitals = Vitals(settings, self.db, self.queue)
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Start the pool and follow Postgres's time; while Postgres is away no event is accepted."""
        await self.db.open()
        await self.replica.open()
        self._tasks = [asyncio.create_task(postgres_time.follow(self.db, self.time))]
        self._vitals.start()
        await postgres_time.until_known(self.time)
        self._tasks.append(asyncio.create_task(every(BEAT_S, self.presence.beat)))

    async def close(self) -> None:
        """Close every connection."""
        await cancel(self._tasks)
        await self.presence.end()
        await self.sandbox.close()
        await self._vitals.stop()
        await self.feed.close()
        await self.doorbell.close()
        await self.replica.close()
        await self.db.close()
        await self.queue.close()
        await self.counters.close()
        if self.traces is not None:
            await self.traces.end()

    async def health(self) -> dict[str, str]:
        """See `health`."""
        return await health(self.db, self.queue)

    async def send_test(self, tenant_id: UUID, endpoint_id: UUID, event_type: str | None) -> UUID:
        """Send a test event to one endpoint and return the delivery's id. NotFound without such an endpoint."""
        async with self.db.transaction() as conn:
            dispatched = await direct.test(conn, tenant_id, endpoint_id, event_type=event_type, ids=self.ids)
        await self.hint(self.queue.enqueue(hints_for([dispatched])))
        return dispatched.id

    async def hint(self, command: Coroutine[Any, Any, None]) -> None:
        """Send a hint after a commit; a request waits 0.1 s for Redis at most, and the clock looks anyway."""
        with suppress(*UNREACHABLE):
            await asyncio.wait_for(command, _HINT_S)
