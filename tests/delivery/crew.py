"""A worker's parts in the test's own process, without its clock and without messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from relay.db import Conn
from relay.delivery import lanes
from relay.delivery.fanout import FanOut
from relay.delivery.lanes import Lane
from relay.delivery.live import Claimed, Dispatched, claim
from relay.delivery.outcomes import Outcome
from relay.delivery.record import Attempt, Recorded
from relay.ids import Uuid7
from relay.intake import outbox
from relay.runtime import Worker
from relay.settings import Settings
from relay.tasks import cancel
from tests.shop import Shop

NOWHERE = "http://127.0.0.1:1024/"


@asynccontextmanager
async def open_crew(settings: Settings) -> AsyncIterator[Worker]:
    """Run a worker that beats only when told."""
    worker = Worker(settings)
    await worker.open()
    await worker.beats.beat()
    try:
        yield worker
    finally:
        await worker.begin_stop()
        await worker.stop()


@asynccontextmanager
async def ticking(worker: Worker) -> AsyncIterator[None]:
    """Run the worker's clock; it has ended when the block has."""
    running = asyncio.create_task(worker.clock.run())
    try:
        yield
    finally:
        await cancel([running])


async def fan_out(shop: Shop, *, window: int = 4000) -> list[Dispatched]:
    """Fan out everything accepted; with `window` 0 all of it waits."""
    fan = FanOut(shop.web.db, ids=Uuid7(), window=window)
    return [one async for batch in fan.drain(list(outbox.SHARDS)) for one in batch]


async def claimed(shop: Shop, conn: Conn, count: int, *, worker: int = 1) -> list[Claimed]:
    """Accept, fan out and claim that many deliveries of the shop's endpoint."""
    await shop.send(count)
    return await claim(conn, await fan_out(shop), worker=worker)


async def handed_out(conn: Conn) -> list[Lane]:
    """Hand out one due lane, as the clock does."""
    await lanes.promote(conn)
    async with conn.transaction():
        picked = await lanes.pick(conn, tier=1, after=UUID(int=0), limit=1)
        return await lanes.hand_out(conn, picked)


def recorded(delivery: Claimed, outcome: Outcome, **fields: object) -> Recorded:
    """The outcome of one attempt."""
    values = {"reason": outcome.reason, "url": NOWHERE, "total_ms": 1.0, **fields}
    return Recorded(delivery, outcome, Attempt(**values))  # pyright: ignore[reportArgumentType]


async def rows(conn: Conn, query: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
    """All rows of a query."""
    return await (await conn.execute(query.encode(), parameters)).fetchall()
