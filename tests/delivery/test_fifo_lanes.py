"""A FIFO lane can be freed and emptied while workers are at it, and every delivery of it is accounted for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import pytest

from relay.db import Conn
from relay.delivery import fifo_lanes, lanes
from relay.delivery.breaker import Breaker
from relay.delivery.counters import Counters
from relay.delivery.lanes import Lane
from relay.delivery.live import Claimed
from relay.delivery.outcomes import Delivered
from relay.delivery.record import record
from relay.delivery.take import Want, lock, take_heads
from relay.runtime import Worker
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, fan_out, handed_out, open_crew, recorded, rows
from tests.rows import insert_waiting
from tests.running import until, until_true
from tests.shop import Shop, open_shop
from tests.sink import Sink

LANE = "fifo:a"
Step = Callable[[Conn, UUID, str], Awaitable[int]]


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


@pytest.fixture
async def endpoint(shop: Shop) -> UUID:
    return await shop.endpoint(NOWHERE)


async def run(shop: Shop, step: Step, endpoint: UUID, partition_key: str = "a") -> int:
    async with shop.web.db.transaction() as conn:
        return await step(conn, endpoint, partition_key)


async def taken(conn: Conn) -> tuple[Lane, list[Claimed]]:
    """Hand the one due lane out, hold it as worker 1 and take its head."""
    (lane,) = await handed_out(conn)
    assert await lanes.hold(conn, [lane], worker=1)
    return lane, await head_of(conn, lane)


async def head_of(conn: Conn, lane: Lane) -> list[Claimed]:
    async with conn.transaction():
        await lock(conn, [Want(lane)])
        (answer,) = await take_heads(conn, [Want(lane)], worker=1)
    return answer.claimed


async def test_a_release_ends_the_lease_and_puts_the_head_back_under_no_fence(
    shop: Shop, endpoint: UUID, conn: Conn
) -> None:
    head, second = await insert_waiting(conn, shop.tenant_id, endpoint, 2, lane=LANE)
    lane, (mine,) = await taken(conn)
    assert mine.id == head
    assert await run(shop, fifo_lanes.release, endpoint) is True
    assert await rows(conn, "SELECT owner, fence, sent_at, ready_at <= now() FROM lanes WHERE key = 'fifo:a'") == [
        (None, None, None, True)
    ]
    waiting = "SELECT id, seq, owner, fence, due_at <= now(), released_fence FROM live ORDER BY seq"
    assert await rows(conn, waiting) == [(head, 1, None, None, True, mine.fence), (second, 2, None, None, True, None)]
    await record(conn, [recorded(mine, Delivered())])
    assert await rows(conn, "SELECT count(*), count(due_at) FROM live") == [(2, 2)]
    assert await rows(conn, "SELECT count(*) FROM history") == [(0,)]
    assert await head_of(conn, lane) == []


async def test_a_release_frees_a_lane_that_was_handed_out_or_is_blocked(shop: Shop, endpoint: UUID, conn: Conn) -> None:
    await insert_waiting(conn, shop.tenant_id, endpoint, 1, lane=LANE)
    assert len(await handed_out(conn)) == 1
    assert await run(shop, fifo_lanes.release, endpoint) is True
    await conn.execute("UPDATE lanes SET blocked_by = gen_random_uuid(), ready_at = NULL WHERE key = 'fifo:a'")
    assert await run(shop, fifo_lanes.release, endpoint) is True
    assert await rows(conn, "SELECT blocked_by, ready_at <= now() FROM lanes WHERE key = 'fifo:a'") == [(None, True)]


async def test_there_is_nothing_to_release_in_a_lane_at_rest_or_unknown(shop: Shop, endpoint: UUID, conn: Conn) -> None:
    await insert_waiting(conn, shop.tenant_id, endpoint, 1, lane=LANE)
    assert await run(shop, fifo_lanes.release, endpoint) is False
    assert await run(shop, fifo_lanes.release, endpoint, "unknown") is False
    assert await run(shop, fifo_lanes.release, endpoint, "") is False


async def test_a_head_that_is_being_recorded_is_left_to_its_record(shop: Shop, endpoint: UUID, conn: Conn) -> None:
    await insert_waiting(conn, shop.tenant_id, endpoint, 1, lane=LANE)
    _, (mine,) = await taken(conn)
    async with conn.transaction():
        await record(conn, [recorded(mine, Delivered())])
        assert await asyncio.wait_for(run(shop, fifo_lanes.release, endpoint), 5) is True
    assert await rows(conn, "SELECT state FROM history") == [("delivered",)]


async def test_what_is_moved_becomes_ordinary_and_what_is_sent_stays(shop: Shop, endpoint: UUID, conn: Conn) -> None:
    head, *rest = await insert_waiting(conn, shop.tenant_id, endpoint, 4, lane=LANE)
    others = await insert_waiting(conn, shop.tenant_id, endpoint, 2, lane="fifo:b")
    await conn.execute("UPDATE lanes SET ready_at = NULL WHERE key = 'fifo:b'")
    await taken(conn)
    await conn.execute("UPDATE live SET due_at = now() + interval '1 h' WHERE seq = 4")
    await conn.execute("UPDATE lanes SET ready_at = NULL, blocked_by = gen_random_uuid()")
    assert await run(shop, fifo_lanes.move_to_standard, endpoint) == 3
    moved = await rows(
        conn, "SELECT id, due_at > now() FROM live WHERE lane = '' AND seq IS NULL AND tier = 1 ORDER BY id"
    )
    assert moved == [(rest[0], False), (rest[1], False), (rest[2], True)]
    assert await rows(conn, "SELECT id FROM live WHERE lane <> '' ORDER BY id") == [(id,) for id in (head, *others)]
    rung = "SELECT key, ready_at <= now(), blocked_by IS NULL FROM lanes ORDER BY key"
    assert await rows(conn, rung) == [("", True, False), ("fifo:a", True, True), ("fifo:b", None, False)]


async def test_what_is_drained_is_cancelled_and_keeps_its_place_in_the_history(
    shop: Shop, endpoint: UUID, conn: Conn
) -> None:
    (head, *rest) = await insert_waiting(conn, shop.tenant_id, endpoint, 3, lane=LANE)
    await taken(conn)
    assert await run(shop, fifo_lanes.cancel_waiting, endpoint) == 2
    ended = await rows(conn, "SELECT id, state, reason, lane, seq FROM history ORDER BY id")
    assert ended == [(id, "cancelled", "drained", LANE, n) for n, id in enumerate(rest, start=2)]
    assert await rows(conn, "SELECT id FROM live") == [(head,)]
    assert await run(shop, fifo_lanes.cancel_waiting, endpoint) == 0
    assert await run(shop, fifo_lanes.cancel_waiting, endpoint, "unknown") == 0


async def test_the_lane_without_a_key_is_one_of_its_own(shop: Shop, endpoint: UUID, conn: Conn) -> None:
    await insert_waiting(conn, shop.tenant_id, endpoint, 2, lane="fifo:")
    await insert_waiting(conn, shop.tenant_id, endpoint, 1)
    assert await run(shop, fifo_lanes.cancel_waiting, endpoint, "") == 2
    assert await rows(conn, "SELECT lane FROM live") == [("",)]


async def test_a_drain_goes_five_thousand_at_a_time_from_the_head_on(shop: Shop, endpoint: UUID, conn: Conn) -> None:
    await insert_waiting(conn, shop.tenant_id, endpoint, 5500, lane=LANE)
    assert [await run(shop, fifo_lanes.cancel_waiting, endpoint) for _ in range(2)] == [5000, 500]
    await insert_waiting(conn, shop.tenant_id, endpoint, 5500, lane=LANE)
    assert await run(shop, fifo_lanes.move_to_standard, endpoint) == 5000
    assert await rows(conn, "SELECT min(seq) FROM live") == [(10_501,)]


async def test_drains_releases_senders_and_new_work_at_once_account_for_every_delivery(
    settings: Settings, shop: Shop, conn: Conn
) -> None:
    with Sink() as sink:
        endpoint = await shop.endpoint(sink.url())
        async with open_crew(settings) as crew:
            adding = asyncio.ensure_future(add(shop, endpoint, conn))
            moved, cancelled, *_ = await asyncio.gather(
                repeat(shop, fifo_lanes.move_to_standard, endpoint, adding),
                repeat(shop, fifo_lanes.cancel_waiting, endpoint, adding),
                repeat(shop, fifo_lanes.release, endpoint, adding),
                work(crew, adding),
            )
            total = await adding
    places = """SELECT count(*) FILTER (WHERE place = 'cancelled'), count(*) FILTER (WHERE place = ''),
                       count(*) FILTER (WHERE place = 'delivered'), count(*)
                FROM (SELECT state AS place FROM history UNION ALL SELECT lane FROM live) x"""
    ((ended, ordinary, sent, known),) = await rows(conn, places)
    print(f"{moved} moved, {cancelled} cancelled, {sent} sent of {total}")
    assert (ended, ordinary, known) == (cancelled, moved, total)
    assert await rows(conn, "SELECT count(*) FROM live WHERE fence IS NOT NULL") == [(0,)]


async def add(shop: Shop, endpoint: UUID, conn: Conn) -> int:
    """Add work to the lane for about a second; return how much."""
    for _ in range(40):
        await insert_waiting(conn, shop.tenant_id, endpoint, 25, lane=LANE)
        await asyncio.sleep(0.02)
    return 40 * 25


async def repeat(shop: Shop, step: Step, endpoint: UUID, until: asyncio.Future[int]) -> int:
    """Do something to the lane again and again; return the sum of what it says."""
    done = 0
    while not until.done():
        done += int(await run(shop, step, endpoint))
        await asyncio.sleep(0.12)
    return done


async def work(crew: Worker, until: asyncio.Future[int]) -> None:
    """Hand lanes out, and let the worker hold those of the test."""
    while not until.done():
        async with crew.db.connection() as conn:
            due = await handed_out(conn)
        for lane in due:
            if lane.key == LANE:
                await crew.holder.hold([lane])
        await asyncio.sleep(0.01)


async def test_a_head_that_somebody_has_locked_is_left_to_him(shop: Shop, endpoint: UUID, conn: Conn) -> None:
    """Who cancels, retries or ends a delivery locks it and then its lane; who takes waits for none of them."""
    head, _ = await insert_waiting(conn, shop.tenant_id, endpoint, 2, lane=LANE)
    (lane,) = await handed_out(conn)
    assert await lanes.hold(conn, [lane], worker=1)
    async with shop.web.db.transaction() as other:
        await other.execute("SELECT FROM live WHERE id = %s FOR UPDATE", (head,))
        assert await asyncio.wait_for(head_of(conn, lane), 5) == []
    assert [one.id for one in await head_of(conn, lane)] == [head]


async def test_a_head_that_workers_were_lost_with_can_be_the_probe(shop: Shop, conn: Conn, settings: Settings) -> None:
    """It is sent alone, also to find out whether its endpoint is healed: nothing else of its lane could."""
    with Sink() as sink:
        endpoint = await shop.endpoint(sink.url(), fifo=True)
        sent = await shop.send(1)
        await fan_out(shop)
        await conn.execute("UPDATE live SET lost = 2")
        await conn.execute(
            """UPDATE lanes SET gate_reason = 'circuit_open', gate_until = now(), opened_at = now()
               WHERE endpoint_id = %s AND key = ''""",
            (endpoint,),
        )
        async with open_crew(settings) as crew:
            breaker = Breaker(crew.db, Counters(settings.state_url))
            crew.recorder.on_recorded.append(breaker.hear)
            crew.taker.may_probe, crew.recorder.on_end = breaker.may_probe, breaker.close
            for lane in await handed_out(conn):
                await crew.holder.hold([lane])
            await until(lambda: sink.events() == dict.fromkeys(sent, 1), 10)
            await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM lanes WHERE gate_reason IS NOT NULL)", 10)
