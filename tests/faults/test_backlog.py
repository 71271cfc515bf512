"""A backlog lives in Postgres: Redis stays small whatever waits, and when it is emptied all is handed out again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from relay import messages
from relay.db import Conn
from relay.delivery import lanes
from relay.messages import Part
from relay.queue import QUEUES
from relay.runtime import Worker
from relay.settings import Settings
from tests.delivery.crew import open_crew, rows, ticking
from tests.scale import sized, tell
from tests.shop import Shop, open_shop

BACKLOG = sized(1_000_000, 50_000)
CLIENTS = 1_000
EMPTIED = BACKLOG // 10
MEGABYTES = 50 * BACKLOG / 1_000_000
DUE_AGAIN_S = float(sized(5, 25))


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Any]:
    client = redis.asyncio.Redis.from_url(settings.redis_url)
    yield client
    await client.aclose()


async def wait_for_a_worker(shop: Shop, conn: Conn, count: int) -> None:
    """Deliveries of many clients that are due, as a fan-out leaves them when its window is full."""
    await rows(
        conn,
        """WITH t AS (
               INSERT INTO tenants (id, name) SELECT gen_random_uuid(), 'client ' || n FROM generate_series(1, %s) AS n
               RETURNING id),
           e AS (
               INSERT INTO endpoints (id, tenant_id, kind, url, max_retries, retry_backoff_ms, retry_backoff_max,
                   retry_backoff_mult, timeout_ms, max_concurrency)
               SELECT id, id, 'subscribed', 'http://127.0.0.1:1024/', 1, 1, 1, 1, 1000, 20 FROM t RETURNING id)
           INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at) SELECT id, '', id, 1, now() FROM e
           RETURNING 1""",
        (CLIENTS,),
    )
    await rows(
        conn,
        """WITH made AS (
               INSERT INTO live (id, tenant_id, event_id, endpoint_id, tier, due_at)
               SELECT gen_random_uuid(), e.id, gen_random_uuid(), e.id, 1, now()
               FROM generate_series(1, %s) AS n
               JOIN (SELECT id, row_number() OVER () AS i FROM endpoints) e ON e.i = n %% %s + 1 RETURNING 1)
           SELECT count(*) FROM made""",
        (count, CLIENTS),
    )


async def tick(crew: Worker, times: int) -> None:
    for _ in range(times):
        await crew.clock._tick()


async def named_in_messages(crew: Worker) -> int:
    """How many lanes the messages that wait name."""
    waiting = await messages.page(crew.queue.commands, QUEUES["lane"], Part.READY, offset=0, limit=1000)
    return len({fence for message in waiting.messages for fence in message.args["fences"]})


async def until_announced(crew: Worker, conn: Conn, *, timeout_s: float) -> float:
    """Wait until messages name each of the many lanes that are handed out; return how many seconds that took."""
    began = time.monotonic()
    while (named := await named_in_messages(crew)) < 100 or named < await lanes.count_unclaimed(conn, tier=1):
        assert time.monotonic() - began < timeout_s
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def test_redis_stays_small_whatever_waits(settings: Settings, shop: Shop, conn: Conn, client: Any) -> None:
    before = (await client.info("memory"))["used_memory"]
    await wait_for_a_worker(shop, conn, BACKLOG)
    async with open_crew(settings) as crew:
        await tick(crew, 10)
        await rows(conn, "UPDATE lanes SET sent_at = sent_at - interval '1 minute' WHERE fence IS NOT NULL RETURNING 1")
        await tick(crew, 10)
        handed_out = await lanes.count_unclaimed(conn, tier=1)
    used = ((await client.info("memory"))["used_memory"] - before) / 1e6
    tell(f"{BACKLOG:,} deliveries wait, {handed_out} lanes are handed out, Redis has grown by {used:.1f} MB")
    assert handed_out > 100
    assert used < max(2.0, MEGABYTES)


async def test_all_is_due_again_soon_after_redis_was_emptied(
    settings: Settings, shop: Shop, conn: Conn, client: Any
) -> None:
    """As much as before is handed out, each with a message, and the rest is where it was: due, in lanes that are ready."""
    await wait_for_a_worker(shop, conn, EMPTIED)
    async with open_crew(settings) as crew, ticking(crew):
        await until_announced(crew, conn, timeout_s=30.0)
        await client.flushall()
        took_s = await until_announced(crew, conn, timeout_s=DUE_AGAIN_S)
    tell(f"{EMPTIED:,} deliveries wait; what was handed out is so again {took_s:.1f} s after FLUSHALL")
    due = """SELECT count(*) FROM live d JOIN lanes l ON l.endpoint_id = d.endpoint_id AND l.key = d.lane
             WHERE d.due_at <= now() AND (l.ready OR l.fence IS NOT NULL)"""
    assert await rows(conn, due) == [(EMPTIED,)]
