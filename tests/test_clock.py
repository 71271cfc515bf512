"""The clock: one leads, two do no harm, and nothing it looks after makes lanes wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay import messages
from relay.clock import Clock
from relay.db import Conn
from relay.delivery.outcomes import Reason, Retry
from relay.delivery.record import record
from relay.messages import Part
from relay.metrics import cluster
from relay.queue import QUEUES
from relay.runtime import Worker
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, claimed, fan_out, open_crew, recorded, rows, ticking
from tests.running import until, until_true
from tests.shop import Shop, accepted, open_shop


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


@asynccontextmanager
async def two_crews(settings: Settings) -> AsyncIterator[tuple[Worker, Worker]]:
    async with open_crew(settings) as first, open_crew(settings) as second:
        yield first, second


async def test_one_clock_leads_and_another_follows_when_its_lease_ends(settings: Settings, conn: Conn) -> None:
    async with two_crews(settings) as (first, second):
        assert await first.clock._lease()
        assert not await second.clock._lease()
        assert await first.clock._lease()
        await rows(conn, "UPDATE leases SET until = now() - interval '1 ms' RETURNING 1")
        assert await second.clock._lease()
        assert not await first.clock._lease()


async def test_two_clocks_at_once_start_each_lane_and_each_scheduled_event_once(
    settings: Settings, shop: Shop, conn: Conn
) -> None:
    for _ in range(20):
        await shop.endpoint(NOWHERE)
    await shop.send(3)
    await fan_out(shop, window=0)
    scheduled = accepted(await shop.accept(*(shop.event(delay_s=3600) for _ in range(200))))
    await rows(conn, "UPDATE scheduled SET due_at = now() RETURNING 1")
    async with two_crews(settings) as crews:
        for _ in range(15):
            await asyncio.gather(*(crew.clock._tick() for crew in crews))
        waiting = await messages.page(crews[0].queue.commands, QUEUES["lane"], Part.READY, offset=0, limit=100)
    assert await rows(conn, "SELECT count(*), count(DISTINCT fence) FROM lanes WHERE fence IS NOT NULL") == [(20, 20)]
    handed_out = [fence for message in waiting.messages for fence in message.args["fences"]]
    assert (len(handed_out), len(set(handed_out))) == (20, 20)
    found = await rows(conn, "SELECT event_id FROM outbox")
    assert sorted(row[0] for row in found) == [receipt.id for receipt in scheduled]  # pyright: ignore[reportArgumentType]
    assert await rows(conn, "SELECT count(*) FROM scheduled") == [(0,)]


async def test_a_retry_starts_its_lane_when_it_is_due_and_not_before(
    settings: Settings, shop: Shop, conn: Conn
) -> None:
    await shop.endpoint(NOWHERE)
    (one,) = await claimed(shop, conn, 1)
    await record(conn, [recorded(one, Retry(Reason.HTTP_SERVER_ERROR, 1.5))])
    async with open_crew(settings) as crew:
        await crew.clock._tick()
        assert await rows(conn, "SELECT ready_at > now(), fence FROM lanes") == [(True, None)]
        async with ticking(crew):
            await until_true(conn, "SELECT fence IS NOT NULL FROM lanes", 10)
            assert await rows(conn, "SELECT sent_at - (SELECT due_at FROM live) < '1 s' FROM lanes") == [(True,)]


async def test_partitions_that_take_long_hold_up_no_lane(settings: Settings, shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE)
    released, begun = threading.Event(), threading.Event()

    def maintain() -> None:
        begun.set()
        released.wait(10)

    async with open_crew(settings) as crew:
        clock = Clock(crew.db, crew.queue, retention_days=30, maintain=maintain)
        async with asyncio.timeout(5):
            await clock._tick()
            await until(begun.is_set, 5)
            await shop.send(1)
            await fan_out(shop, window=0)
            await clock._tick()
        assert await rows(conn, "SELECT count(*) FROM lanes WHERE fence IS NOT NULL") == [(1,)]
        released.set()


_WAITS_FOR_ROLLUPS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'rollups'::regclass"


async def test_a_roll_up_that_takes_long_holds_up_no_lane(settings: Settings, shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE)
    async with open_crew(settings) as crew, conn.transaction():
        await conn.execute("LOCK TABLE rollups")
        async with asyncio.timeout(30):
            while await rows(conn, _WAITS_FOR_ROLLUPS) == [(0,)]:  # not at once where the other roll-up has the turn
                await crew.clock._tick()
                await asyncio.sleep(0.05)
            await shop.send(1)
            await fan_out(shop, window=0)
            await crew.clock._tick()
        assert await rows(conn, "SELECT count(*) FROM lanes WHERE fence IS NOT NULL") == [(1,)]


async def test_a_lost_message_is_sent_again_but_not_while_the_queue_is_just_long(
    settings: Settings, shop: Shop, conn: Conn
) -> None:
    await shop.endpoint(NOWHERE)
    await shop.send(3)
    await fan_out(shop)
    await rows(conn, "UPDATE live SET sent_at = now() - interval '6 s' RETURNING 1")
    async with open_crew(settings) as crew:
        await crew.clock.amends.resend()
        assert await crew.queue.length("deliver_normal") == 1
        await crew.clock.amends.resend()
        assert await crew.queue.length("deliver_normal") == 1


async def test_a_dead_workers_things_go_back_only_after_the_clock_itself_was_there_for_long(
    settings: Settings, shop: Shop, conn: Conn
) -> None:
    await shop.endpoint(NOWHERE)
    await claimed(shop, conn, 2, worker=77)
    async with open_crew(settings) as crew:
        await crew.clock._tick()
        assert await rows(conn, "SELECT count(*) FROM live WHERE owner = 77") == [(2,)]
        crew.clock.amends.connected_since = asyncio.get_running_loop().time() - 11
        await crew.clock.amends.give_back()
        assert await rows(conn, "SELECT count(*) FROM live WHERE owner = 77") == [(0,)]


async def test_a_clock_that_ends_says_nothing_of_the_whole_system_any_more(settings: Settings) -> None:
    async with open_crew(settings) as crew, ticking(crew):
        await until(lambda: crew.clock.leads, 10, what="the lead")
        cluster.QUEUE_DEPTH.set(5, "normal")
        cluster.UNACCOUNTED.set(5)
    assert not any(one.values for one in cluster.ALL)
