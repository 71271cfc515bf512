"""Whether the stores answer, and how full this process is: for its health page, and for its metrics every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from relay import metrics
from relay.db import LOST, Database
from relay.errors import RelayError
from relay.migrate import newest_migration, schema_version
from relay.queue import UNREACHABLE, Queue
from relay.settings import Settings
from relay.tasks import cancel, every

if TYPE_CHECKING:  # its packages are only needed where it is asked for
    from relay.metrics.push import Push

HEALTH_S = 2.0
_LOOK_S = 5.0
_SAMPLE_S = 1.0


async def health(db: Database, queue: Queue) -> dict[str, str]:
    """Whether Postgres and Redis answer within 2 s and the schema is as new as this code. Never raises."""
    postgres, schema, redis = "down", "unknown", "down"
    with suppress(*LOST, TimeoutError, RelayError):
        async with asyncio.timeout(HEALTH_S), db.connection() as conn:
            schema = "current" if await schema_version(conn) >= newest_migration() else "old"
            postgres = "up"
    if await _redis_answers(queue):
        redis = "up"
    return {"postgres": postgres, "schema": schema, "redis": redis}


async def _redis_answers(queue: Queue) -> bool:
    with suppress(*UNREACHABLE):
        await asyncio.wait_for(queue.ping(), HEALTH_S)
        return True
    return False


async def _postgres_answers(db: Database) -> bool:
    with suppress(*LOST, TimeoutError, RelayError):
        async with asyncio.timeout(HEALTH_S), db.connection() as conn:
            await conn.execute("SELECT 1")
            return True
    return False


class Vitals:
    """Says for the metrics how this process is, and pushes those of its service where that is asked for."""

    def __init__(
        self, settings: Settings, db: Database, queue: Queue, *, taken: Callable[[], int] | None = None
    ) -> None:
        """`taken` tells how many of a worker's slots are; None: this is no worker."""
        self._settings = settings
        self._db = db
        self._queue = queue
        self._taken = taken
        self._push: Push | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; without metrics there is nothing to do."""
        if not self._settings.metrics_provider:
            return
        work = [every(_LOOK_S, self._look)]
        if self._taken is not None:
            metrics.SLOTS.set(self._settings.worker_concurrency)
            work.append(every(_SAMPLE_S, partial(_sample, self._taken)))
        if self._settings.metrics_provider == "otel":
            from relay.metrics.push import Push

            service = "relay-web" if self._taken is None else "relay-worker"
            self._push = Push(self._settings.metrics_endpoint, service=service)
            work.append(self._push.run())
        self._tasks = [asyncio.create_task(one) for one in work]

    async def stop(self) -> None:
        """Push a last time, for 2 s at most, and end."""
        await cancel(self._tasks)
        if self._push is not None:
            await self._push.end()

    async def _look(self) -> None:
        metrics.POSTGRES_UP.set(await _postgres_answers(self._db))
        metrics.REDIS_UP.set(await _redis_answers(self._queue))


async def _sample(taken: Callable[[], int]) -> None:
    metrics.SLOTS_TAKEN.set(taken())
