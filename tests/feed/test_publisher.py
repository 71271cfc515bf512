"""A worker's side: next to nothing while nobody watches, bounded whatever happens, and never waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio

from relay.feed import publisher, wire
from relay.feed.publisher import Publisher
from tests.feed.conftest import outcome
from tests.running import until

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Any]:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.config_resetstat()
        yield client


async def calls(client: Any, command: str) -> int:
    return (await client.info("commandstats")).get(f"cmdstat_{command}", {"calls": 0})["calls"]


async def entries(client: Any, tenant_id: Any) -> list[wire.Entry]:
    return [wire.entry(*one) for one in await client.xrange(wire.stream(tenant_id))]


async def test_while_nobody_watches_a_second_costs_one_command(redis_url: str, client: Any) -> None:
    worker, tenant = Publisher(redis_url), uuid4()
    end = time.monotonic() + 0.9
    while time.monotonic() < end:
        worker.hear([outcome(tenant) for _ in range(10)])
        await asyncio.sleep(0)
    await worker.close()
    assert 1 <= await calls(client, "eval") <= 2
    assert await calls(client, "xadd") == 0
    assert await client.keys("*") == []


async def test_only_those_who_are_watched_are_written(redis_url: str, client: Any) -> None:
    worker, mine, other = Publisher(redis_url), uuid4(), uuid4()
    _, new = await wire.watch(client, mine)
    assert new
    worker.hear([outcome(mine), outcome(other), outcome(mine)])
    await worker.close()
    begin, lines = await entries(client, mine)
    assert (begin.gap, begin.lines, lines.gap) == (True, [], False)
    assert [line.tenant_id for line in lines.lines] == [mine, mine]
    assert not await client.exists(wire.stream(other))
    assert 0 < await client.ttl(wire.stream(mine)) <= 2 * wire.WATCHED_S
    assert (await wire.watch(client, mine))[1] is False


async def test_what_is_too_much_is_lost_and_told(redis_url: str, client: Any) -> None:
    worker, mine = Publisher(redis_url), uuid4()
    await wire.watch(client, mine)
    one = outcome(mine)
    worker.hear([one] * (publisher.MAX_KEPT + 7))
    worker.hear([one])
    await worker.close()
    found = await entries(client, mine)
    assert sum(len(entry.lines) for entry in found) == publisher.MAX_KEPT
    assert [entry.gap for entry in found[1:]] == [True] + [False] * (len(found) - 2)
    assert max(len(entry.lines) for entry in found) == wire.LINES_AN_ENTRY


async def test_a_stream_that_has_ended_is_not_begun_again_by_a_worker(redis_url: str, client: Any) -> None:
    worker, mine = Publisher(redis_url), uuid4()
    await wire.watch(client, mine)
    worker.hear([outcome(mine)])
    await until(lambda: not worker._lines, what="a line")
    await client.flushall()
    worker.hear([outcome(mine)])
    await worker.close()
    assert await client.keys("*") == []


async def test_without_redis_nobody_waits() -> None:
    worker = Publisher(NOWHERE)
    began = time.monotonic()
    for _ in range(100):
        worker.hear([outcome(uuid4())])
        await asyncio.sleep(0)
    await worker.close()
    assert time.monotonic() - began < 3
