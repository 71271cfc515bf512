from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from psycopg import AsyncConnection

from relay.db import Conn
from relay.insight import counts, finished, stats
from relay.insight.counts import QueueStats
from tests.delivery.crew import rows
from tests.rows import World, make_world


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


async def counted(world: World) -> QueueStats:
    await counts.refresh(world.conn)
    await stats.refresh(world.conn)
    return await counts.queue_stats(world.conn, world.tenant_id)


def check_sums(found: QueueStats) -> None:
    assert found.pending == found.queued + found.delivering + found.failed
    assert found.pending == found.ready + found.held + found.delayed + found.delivering


async def test_before_anything_all_is_zero(world: World) -> None:
    found = await counts.queue_stats(world.conn, uuid4())
    assert (found.pending, found.delivered, found.dead, found.oldest_age_s, found.as_of) == (0, 0, 0, 0.0, None)
    assert (await counted(world)).as_of is not None


async def test_every_delivery_is_counted_once_where_it_is(world: World) -> None:
    event = await world.event()
    await world.waiting(event)
    await world.dispatched(event)
    await world.waiting(event, attempts=1)
    await world.waiting(event, attempts=1, due_s=60)
    await world.dispatched(event, owner=1, attempts=2)
    for state in ("delivered", "delivered", "cancelled", "dead"):
        await world.finished(event, state)
    found = await counted(world)
    check_sums(found)
    assert (found.queued, found.failed, found.delivering) == (2, 2, 1)
    assert (found.ready, found.delayed, found.held) == (3, 1, 0)
    assert (found.delivered, found.cancelled, found.dead) == (2, 1, 1)


async def test_an_event_that_is_not_fanned_out_is_one_queued_and_one_scheduled_is_delayed(world: World) -> None:
    for _ in range(2):
        await world.conn.execute(
            "INSERT INTO outbox (shard, tenant_id, event_id) VALUES (0, %s, %s)", (world.tenant_id, await world.event())
        )
    await world.conn.execute(
        "INSERT INTO scheduled (event_id, tenant_id, due_at) VALUES (%s, %s, now() + interval '1 hour')",
        (await world.event(), world.tenant_id),
    )
    found = await counted(world)
    check_sums(found)
    assert (found.queued, found.pending, found.ready, found.delayed) == (3, 3, 2, 1)


@pytest.mark.parametrize(
    "gate",
    [
        "paused = true",
        "gate_until = now() + interval '1 minute', gate_reason = 'throttled'",
        "gate_until = now() - interval '1 minute', gate_reason = 'circuit_open'",
    ],
)
async def test_what_stands_behind_a_gate_is_held_and_not_ready(world: World, gate: str) -> None:
    event = await world.event()
    await world.waiting(event)
    await world.waiting(event, due_s=60)
    await world.waiting(event, endpoint_id=await world.endpoint())
    update = f"UPDATE lanes SET {gate} WHERE endpoint_id = '{world.endpoint_id}' AND key = ''"
    await world.conn.execute(update.encode())
    found = await counted(world)
    check_sums(found)
    assert (found.held, found.delayed, found.ready) == (1, 1, 1)


async def test_the_oldest_is_the_one_that_has_been_ready_longest(world: World) -> None:
    event = await world.event()
    for due_s in (-5, -30, 60):
        await world.waiting(event, due_s=due_s)
    assert 30 <= (await counted(world)).oldest_age_s < 40


async def test_when_the_work_is_done_the_counts_are_zero_again(world: World) -> None:
    event = await world.event()
    delivery = await world.waiting(event)
    dead = await world.finished(event, "dead")
    await counted(world)
    await world.move_to_history(delivery, "delivered")
    await world.conn.execute("DELETE FROM dead_letters WHERE id = %s", (dead,))
    found = await counted(world)
    assert (found.pending, found.ready, found.dead, found.delivered) == (0, 0, 0, 1)


async def test_a_tenant_sees_its_own_counts_and_an_operator_the_sum(world: World) -> None:
    other = await make_world(world.conn, "other")
    for one in (world, other):
        event = await one.event()
        await one.waiting(event)
        await one.finished(event, "dead")
    assert (await counted(world)).pending == 1
    everything = await counts.queue_stats(world.conn, None)
    assert (everything.pending, everything.dead) == (2, 2)


async def test_two_that_count_at_once_neither_wait_nor_count_twice(world: World, database_url: str) -> None:
    await world.waiting(await world.event())
    async with await AsyncConnection.connect(database_url, autocommit=True) as other:
        async with other.transaction():
            await counts.refresh(other)
            await stats.refresh(other)
            await asyncio.wait_for(counted(world), 5)
        for refresh in (counts.refresh, stats.refresh):
            await asyncio.gather(*(refresh(conn) for conn in (world.conn, other)))
    found = await counted(world)
    assert (found.pending, found.queued) == (1, 1)


async def test_the_depth_is_what_is_ready_and_nothing_that_no_worker_would_help(world: World) -> None:
    event = await world.event()
    paused = await world.endpoint()
    await world.conn.execute("UPDATE lanes SET paused = true WHERE endpoint_id = %s AND key = ''", (paused,))
    await world.waiting(event)
    await world.waiting(event, due_s=60)
    await world.waiting(event, endpoint_id=paused)
    await world.dispatched(event, owner=1)
    for tier in (0, 0, 2):
        await world.conn.execute("UPDATE live SET tier = %s WHERE id = %s", (tier, await world.waiting(event)))
    for reason in (None, "cannot be fanned out"):
        await world.conn.execute(
            "INSERT INTO outbox (shard, tenant_id, event_id, failed_reason) VALUES (0, %s, %s, %s)",
            (world.tenant_id, await world.event(), reason),
        )
    await counted(world)
    assert await counts.depth(world.conn) == {"high": 2, "normal": 1 + 1, "low": 1}


async def test_the_depth_of_an_empty_system_is_0(conn: Conn) -> None:
    assert await counts.depth(conn) == {"high": 0, "normal": 0, "low": 0}


async def test_what_ended_is_the_same_before_and_after_its_sums_are_made(world: World, conn: Conn) -> None:
    other = await make_world(conn, "other")
    for of, ended in ((world, 3), (other, 2)):
        for n in range(ended):
            await of.finished(await of.event(), "cancelled" if n == 1 else "delivered")

    async def totals() -> list[tuple[int, int]]:
        found = [await counts.queue_stats(conn, tenant) for tenant in (world.tenant_id, other.tenant_id, None)]
        return [(one.delivered, one.cancelled) for one in found]

    await stats.refresh(conn)
    expected = [(2, 1), (1, 1), (3, 2)]
    assert await totals() == expected
    await finished.close(conn)
    assert await totals() == expected
    await conn.execute("UPDATE stats SET at = at - interval '2 days'")
    await stats.close_days(conn)
    for _ in range(2):
        await finished.close(conn)
        assert await totals() == expected
    assert await rows(conn, "SELECT count(*) FROM finished_counts") == [(2,)]
    await conn.execute("DELETE FROM stats")
    assert await totals() == expected
    await finished.close(conn)
    assert await totals() == [(0, 0)] * 3
